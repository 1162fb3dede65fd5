"""Chooses the proxies of a consensus: those that know more than size on every benchmark, none of them fitted.

A search among few benchmarks finds what agrees with them by chance. This rule chooses no formula, no weight and no
sign: it leaves out the proxies that any of the benchmarks contradicts, and all others count alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata  # type: ignore[import-untyped]  # ships no types

from lpzero_hf.benchmarks.agreement import MatchedAgreement, Vector
from lpzero_hf.benchmarks.matched import SizedTruth
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.proxies.base import REPLICA, CompositeProxy, Proxy

FEWEST = 2  # members


def candidates(proxies: Iterable[Proxy]) -> list[Proxy]:
    """Those of the proxies that may be in a consensus: they read models of any family, and no scores of others."""
    distinct = {proxy.name: proxy for proxy in proxies}.values()
    return [p for p in distinct if not isinstance(p, CompositeProxy) and not p.name.endswith(REPLICA)]


@dataclass(frozen=True)
class Consensus:
    """The chosen proxies.

    Args:
        members: their names, the one whose lowest agreement is highest first.
        matched: by name and benchmark, the agreement at equal size, of members and of those left out by it.
        left_out: by name, the reason.
    """

    members: tuple[str, ...]
    matched: Mapping[str, Mapping[str, float]]
    left_out: Mapping[str, str]

    @property
    def text(self) -> str:
        """The proxy as text, for `find_proxy`."""
        return f"geometric_mean({', '.join(self.members)})"

    def scores(self, proxies: Sequence[Proxy], scores: Mapping[str, Vector]) -> Vector:
        """[n], the scores of architectures, from those of the proxies by name; NaN where a member has none above 0."""
        by_name = {proxy.name: proxy for proxy in proxies}
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithms = np.stack([by_name[name].orientation * np.log(scores[name]) for name in self.members])
        mean = logarithms.mean(0)
        made: Vector = np.where(np.isfinite(mean), mean, np.nan)
        return made


def consensus(
    proxies: Sequence[Proxy], scores: Mapping[str, Mapping[str, Vector]], truths: Mapping[str, SizedTruth]
) -> Consensus:
    """The proxies whose agreement at equal size is positive on every benchmark.

    A member has a score above 0 of every architecture, because its logarithm is added to those of the others; and it
    ranks the architectures of some benchmark in another way than the members before it.

    Args:
        proxies: the candidates.
        scores: by benchmark and name of a proxy, [n], as the proxy gives them; NaN where it gives none.
        truths: by benchmark, [n].

    Raises:
        UsageError: a benchmark has no two architectures of like size.
        LpzError: fewer than two proxies are left.
    """
    for name, truth in truths.items():
        if not truth.pairs:
            raise UsageError(
                f"no two architectures of '{name}' are of like size; give a larger `within=`, or leave it out"
            )
    matched: dict[str, dict[str, float]] = {}
    left_out: dict[str, str] = {}
    for proxy in proxies:
        bad = [name for name in truths if not bool((scores[name][proxy.name] > 0).all())]  # nor NaN
        if bad:
            left_out[proxy.name] = f"a score of {bad[0]} is missing or not above 0"
            continue
        made = {
            name: _value(truth.matched(proxy.orientation * scores[name][proxy.name])) for name, truth in truths.items()
        }
        matched[proxy.name] = made
        worst = min(made, key=lambda name: made[name])
        if not made[worst] > 0:
            left_out[proxy.name] = f"agreement at equal size {made[worst]:+.3f} on {worst}"
    by_name = {proxy.name: proxy for proxy in proxies}
    chosen: dict[bytes, str] = {}
    for name in sorted(set(matched) - set(left_out), key=lambda name: (-min(matched[name].values()), name)):
        ranks = [rankdata(by_name[name].orientation * scores[benchmark][name]).tobytes() for benchmark in truths]
        first = chosen.setdefault(b"".join(ranks), name)
        if first != name:
            left_out[name] = f"it ranks as '{first}' does"
    members = tuple(chosen.values())
    if len(members) < FEWEST:
        raise LpzError(
            f"{len(members)} of {len(proxies)} proxies agree with every benchmark at equal size, and a consensus needs "
            f"{FEWEST}; give more proxies, or fewer benchmarks"
        )
    return Consensus(members, matched, left_out)


def _value(matched: MatchedAgreement) -> float:
    return 0.0 if matched.agreement is None else matched.agreement.value
