"""The passes that scoring a model takes, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lpzero_hf.capture.spec import LOSS, Network
from lpzero_hf.proxies.base import FunctionProxy, ModelProxy, Proxy, StatisticProxy

FORWARD, BACKWARD = 1, 2  # what they take, in forward passes of the minibatch
REDUCTION = 0.1  # what one reduction takes at all sites, likewise; few differ by more than a factor of 5


@dataclass(frozen=True)
class SharedPass:
    """A pass on one network, and the proxies that share it."""

    network: Network
    proxies: tuple[StatisticProxy, ...]

    @property
    def step(self) -> str:
        """What is running, for people."""
        return f"{self.network.name} pass"

    @property
    def work(self) -> float:
        """What it takes, in forward passes of the minibatch: rough, for the order and for the time to expect."""
        reductions = {reduction for proxy in self.proxies for reduction in proxy.reductions}
        moments = {reduction.moment for reduction in reductions}
        if moments <= {"weight"}:
            return 0.0
        run = FORWARD + (BACKWARD if moments & {"gradient", "backward"} else 0)
        if self.network.substitute is not None:  # one sequence, in double precision
            run = FORWARD
        return run + REDUCTION * len(reductions)


@dataclass(frozen=True)
class OwnPass:
    """All passes of one proxy that runs its own."""

    proxy: ModelProxy | FunctionProxy

    @property
    def proxies(self) -> tuple[Proxy, ...]:
        """The one."""
        return (self.proxy,)

    @property
    def step(self) -> str:
        """As in `SharedPass`."""
        return self.proxy.name

    @property
    def work(self) -> float:
        """As in `SharedPass`."""
        if self.proxy.requires != "model":
            return 0.0
        return self.proxy.work if isinstance(self.proxy, ModelProxy) else FORWARD + BACKWARD


def passes_of(proxies: Iterable[Proxy]) -> list[SharedPass | OwnPass]:
    """The passes over one model: what takes none first, then the one that most proxies share, then those that take
    least. What is cheap, or gives many scores, is not kept waiting.

    Args:
        proxies: those that read models; composite ones are skipped.
    """
    shared: dict[Network, list[StatisticProxy]] = {}
    passes: list[SharedPass | OwnPass] = []
    for proxy in proxies:
        if isinstance(proxy, StatisticProxy):
            shared.setdefault(proxy.network, []).append(proxy)
        elif isinstance(proxy, ModelProxy | FunctionProxy):
            passes.append(OwnPass(proxy))
    passes += [SharedPass(network, tuple(members)) for network, members in shared.items()]

    def place(one: SharedPass | OwnPass) -> tuple[bool, bool, float]:
        return one.work > 0, not (isinstance(one, SharedPass) and one.network is LOSS), one.work

    return sorted(passes, key=place)
