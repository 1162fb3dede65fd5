"""Looks up proxies by name; the layers below take `Sequence[Proxy]`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple, overload

from lpzero_hf.artifacts.artifact import Artifact, read_artifact
from lpzero_hf.errors import LpzError, MinibatchWarning, PluginWarning, UsageError, unknown
from lpzero_hf.expressions.expression import Operations, parse
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.plugins import Claim, PluginRegistry, load_plugins
from lpzero_hf.proxies.base import CompositeProxy, Proxy, as_proxy, single
from lpzero_hf.proxies.consensus_proxy import ConsensusProxy, consensus_proxy
from lpzero_hf.proxies.ensemble import is_ensemble, parse_ensemble
from lpzero_hf.proxies.expression_proxy import ExpressionProxy, expression_proxy
from lpzero_hf.proxies.searched_proxy import SearchedProxy, searched_proxy
from lpzero_hf.spaces.hub_id import possible_hub_id
from lpzero_hf.spaces.misplaced import refuse_misplaced

HUB_PREFIX = "hub:"
ALL = "all"
ProxyLike = str | Path | Proxy | Callable[..., float]


@dataclass(frozen=True)
class ProxySelection(Sequence[Proxy]):
    """The requested proxies, each once, in the requested order.

    Args:
        proxies: all of them.
        named: those requested one by one, and not as part of "all" or for want of a request.
    """

    proxies: tuple[Proxy, ...]
    named: tuple[Proxy, ...]

    @overload
    def __getitem__(self, index: int) -> Proxy: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Proxy]: ...

    def __getitem__(self, index: int | slice) -> Proxy | Sequence[Proxy]:
        return self.proxies[index]

    def __len__(self) -> int:
        return len(self.proxies)

    def __iter__(self) -> Iterator[Proxy]:
        return iter(self.proxies)

    def warn_of_minibatch(self, batch_size: int, seq_len: int) -> None:
        """`warn_of_minibatch` for the proxies asked for by name."""
        warn_of_minibatch(self.named, batch_size, seq_len)


def warn_of_minibatch(proxies: Iterable[Proxy], batch_size: int, seq_len: int) -> None:
    """Warn (`MinibatchWarning`) of proxies that were searched on minibatches of another size.

    Sums over sites, tokens and heads grow unequally with a minibatch, so the branches of an expression, or members of
    an ensemble, have other weights on another one, and may rank differently. A proxy that was searched on several
    minibatches at once has stood all of them, so there is no warning between the smallest and the largest of these, by
    sequences and by tokens.
    """
    found: dict[tuple[_Range, _Range], list[str]] = {}
    for proxy in single(proxies):
        if sizes := proxy.minibatches:
            both = _Range.of(size[0] for size in sizes), _Range.of(size[1] for size in sizes)
            if batch_size not in both[0] or seq_len not in both[1]:
                found.setdefault(both, []).append(f"'{proxy.name}'")
    for (sequences, tokens), names in found.items():
        warnings.warn(
            f"searched on minibatches of {sequences} x {tokens} tokens, may rank differently on this one of "
            f"{batch_size} x {seq_len}: {', '.join(names)}; use `batch_size={sequences}` and `seq_len={tokens}`",
            MinibatchWarning,
            stacklevel=3,
        )


def searched_elsewhere(proxy: Proxy, batch_size: int, seq_len: int) -> str:
    """The minibatches that a proxy, or a member of it, was searched on, if these are other ones: "4 x 32"; else ""."""
    for one in single([proxy]):
        if sizes := one.minibatches:
            sequences, tokens = (_Range.of(size[i] for size in sizes) for i in (0, 1))
            if batch_size not in sequences or seq_len not in tokens:
                return f"{sequences} x {tokens}"
    return ""


class _Range(NamedTuple):
    """Whole numbers from `least` to `greatest`, both of them included."""

    least: int
    greatest: int

    @classmethod
    def of(cls, numbers: Iterable[int]) -> _Range:
        known = list(numbers)
        return cls(min(known), max(known))

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.least <= number <= self.greatest

    def __str__(self) -> str:
        return str(self.least) if self.least == self.greatest else f"{self.least} to {self.greatest}"


@dataclass(frozen=True)
class PortableProxies:
    """Proxies to be sent to a worker: those of plugins are sent by name, because they may not be picklable.

    Args:
        proxies: the same here and in the worker.
        plugins: where the worker looks up those sent by name.
    """

    proxies: tuple[Proxy, ...]
    plugins: PluginRegistry

    def __reduce__(self) -> tuple[Callable[..., PortableProxies], tuple[object, ...]]:
        sent = tuple(proxy.name if claim_of(proxy, self.plugins) else proxy for proxy in self.proxies)
        return _looked_up, (sent, self.plugins)


def _looked_up(sent: Sequence[str | Proxy], plugins: PluginRegistry) -> PortableProxies:
    offered = installed_proxies(plugins)
    return PortableProxies(tuple(offered[item].item if isinstance(item, str) else item for item in sent), plugins)


def installed_proxies(plugins: PluginRegistry) -> dict[str, Claim[Proxy]]:
    """Every offered proxy by name; one of several others only if these are offered too.

    Raises:
        PluginError: two distributions claim one name.
    """
    offered = plugins.offers("lpz_proxies", "proxy", as_proxy)
    lacking = []
    for name, claim in offered.items():
        if isinstance(claim.item, ConsensusProxy) and not claim.item.members:
            try:
                found = claim.item.with_members(lambda member: _offered(member, offered))
            except LpzError as error:
                warnings.warn(str(error), PluginWarning, stacklevel=2)
                lacking.append(name)
            else:
                offered[name] = replace(claim, item=found)  # kept: the same object whenever it is asked for
    return {name: claim for name, claim in offered.items() if name not in lacking} if lacking else offered


def _offered(member: str, offered: Mapping[str, Claim[Proxy]]) -> Proxy:
    if member not in offered:
        raise UsageError(unknown("proxy", member, offered, ""))
    return offered[member].item


def _of_artifact(artifact: Artifact, operations: Operations, plugins: PluginRegistry) -> Proxy:
    if artifact.composite:
        return consensus_proxy(artifact).with_members(lambda member: find_proxy(member, plugins))
    return searched_proxy(artifact, operations)


def claim_of(proxy: Proxy, plugins: PluginRegistry) -> Claim[Proxy] | None:
    """The claim of the plugin that offers this very proxy, or None if none does."""
    claim = installed_proxies(plugins).get(proxy.name)
    return claim if claim is not None and claim.item is proxy else None


def resolve(proxies: ProxyLike | Iterable[ProxyLike], plugins: PluginRegistry | None = None) -> ProxySelection:
    """The requested proxies.

    Args:
        proxies: names as for `find_proxy`, several in one text too with commas between, "all" for all installed,
            `Proxy` objects, or functions `f(model, batch) -> float`; one or several. A selection stays as it is.
        plugins: where names are looked up; by default everything installed.

    Raises:
        UsageError: one is unknown, two have one name, or there are none.
        LpzError: an artifact is damaged, or the Hub cannot be reached.
    """
    if isinstance(proxies, ProxySelection):
        return proxies
    plugins = load_plugins() if plugins is None else plugins
    if isinstance(proxies, str | Path | Proxy) or callable(proxies):
        proxies = [proxies]
    offered = installed_proxies(plugins)
    chosen: list[Proxy] = []
    named: list[Proxy] = []
    made: dict[tuple[str, str, int], Proxy] = {}  # of expressions and artifacts, whose digest is in the version

    def once(proxy: Proxy) -> Proxy:
        if isinstance(proxy, CompositeProxy):
            members = tuple(map(once, proxy.members))
            if any(one is not other for one, other in zip(members, proxy.members, strict=True)):
                proxy = replace(proxy, members=members)
        if isinstance(proxy, ExpressionProxy | SearchedProxy):
            proxy = made.setdefault((proxy.name, proxy.version, proxy.orientation), proxy)
        return proxy

    for item in chain.from_iterable(map(_each, proxies)):
        if item == ALL:
            chosen += [claim.item for claim in offered.values()]
            continue
        proxy = once(find_proxy(item, plugins))
        chosen.append(proxy)
        named.append(proxy)
    distinct = tuple(dict.fromkeys(chosen))
    names = [proxy.name for proxy in dict.fromkeys([*distinct, *single(distinct)])]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two different proxies are called '{name}'; rename one")
    if not distinct:
        raise UsageError("no proxies to score with; `lpz proxies` lists those installed")
    return ProxySelection(distinct, tuple(dict.fromkeys(named)))


def _each(item: ProxyLike) -> Sequence[ProxyLike]:
    return parted([item]) if isinstance(item, str) else [item]


def parted(texts: Iterable[str]) -> list[str]:
    """The names in texts, of which each may hold several with commas between: "snip, params".

    A comma inside of brackets, as in an expression, parts nothing, and neither does one in the path of a file.

    Example:
        >>> parted(["snip,sum(sum(product(W, G)))", "params"])
        ['snip', 'sum(sum(product(W, G)))', 'params']
    """
    parts: list[str] = []
    for text in texts:
        if "," not in text or _is_file(text):
            parts.append(text)
            continue
        part, depth = "", 0
        for letter in f"{text},":
            depth += (letter == "(") - (letter == ")")
            if letter == "," and depth <= 0:
                parts.append(part.strip())
                part = ""
            else:
                part += letter
        parts.append(part.strip())  # after a bracket that nothing closes
    return [part for part in parts if part]


def find_proxy(wanted: ProxyLike, plugins: PluginRegistry | None = None) -> Proxy:
    """One proxy: an installed one by its name, that of an expression, an ensemble or an artifact.

    Args:
        wanted: a name (`snip`), an expression (`sum(sum(product(W, G)))`), a rank ensemble of any of these
            (`ensemble(w_pca, snip)`, see `parse_ensemble`), the path of an artifact's file, a Hub
            repository with one (`hub:user/repo`; `user/repo` is enough if there is no such file, `user/repo@REVISION`
            pins it), a `Proxy`, or a function.
        plugins: where names are looked up; by default everything installed.

    Raises:
        UsageError: there is none; the message suggests the nearest name, or names the column of the error.
        LpzError: an artifact is damaged, or the Hub cannot be reached.
    """
    if not isinstance(wanted, str | Path):
        return as_proxy(wanted)
    plugins = load_plugins() if plugins is None else plugins
    offered, operations = installed_proxies(plugins), installed_operations(plugins)
    name = str(wanted)
    if name in offered and isinstance(wanted, str):
        return offered[name].item
    if isinstance(wanted, str) and is_ensemble(name):
        return parse_ensemble(name, lambda member: find_proxy(member, plugins))
    if isinstance(wanted, Path) or name.endswith(".json") or _is_file(name):
        refuse_misplaced(wanted, "proxy", plugins)
    if isinstance(wanted, Path) or name.endswith(".json") or (not name.startswith(HUB_PREFIX) and _is_file(name)):
        return _of_artifact(read_artifact(Path(wanted).expanduser(), operations), operations, plugins)
    if "(" in name:
        return expression_proxy(parse(name, operations), operations=operations)
    if not name.startswith(HUB_PREFIX):
        refuse_misplaced(name, "proxy", plugins)
    if name.startswith(HUB_PREFIX) or ("/" in name and possible_hub_id(name.partition("@")[0])):
        from lpzero_hf.artifacts.hub import pull

        return _of_artifact(pull(name.removeprefix(HUB_PREFIX), operations=operations).artifact, operations, plugins)
    raise UsageError(unknown("proxy", name, offered, " (`lpz proxies` lists them all)"))


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, or no path at all, for example an expression
        return False
