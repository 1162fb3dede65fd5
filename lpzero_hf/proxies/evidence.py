"""What is known of a proxy: how well it ranked trained architectures that it was not searched on.

The numbers are data, `data/evidence.json`, made by `python -m studies.proxies.evidence` from the run files of the
studies; its form is that of `data/evidence.schema.json`. Which proxies are recommended follows from them by one rule,
see `recommended`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lpzero_hf.plugins import OWN, PluginRegistry, load_plugins
from lpzero_hf.proxies.base import REPLICA, Proxy, StatisticProxy
from lpzero_hf.proxies.resolve import claim_of, installed_proxies

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lpzero_hf.models.model_kind import Kind

SIZES = ("params", "decoder_params")  # always shown: what everything else is compared with
WINNER = "lpzero-any"  # the shipped winner that is meant for any model
COUNTS, OTHERS = 2, 3  # how many further counts, and how many other proxies, are recommended
LEAST = 0.2  # agreement at equal size of what is recommended for it
STEP = 0.05  # of agreement at equal size: what differs by less is equal evidence, and the cheaper one goes first
DIGITS = 4
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class OnBenchmark:
    """One proxy on one benchmark that it was not searched on.

    Args:
        benchmark: its name.
        n: architectures compared.
        rho: Spearman's rho with the trained performance, and the ends of its 95% interval.
        pairs: pairs of architectures of like size.
        matched: the agreement over these, and the ends of its 95% interval; None without pairs.
        alike: the other proxies whose scores rank the architectures nearly the same, with a rho of 0.95 or more.
    """

    benchmark: str
    n: int
    rho: Triple | None
    pairs: int
    matched: Triple | None
    alike: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What one proxy reached on the benchmarks of one kind of model, each weighted alike.

    Args:
        measured: one for each benchmark, at least one.
    """

    measured: tuple[OnBenchmark, ...]

    @property
    def rho(self) -> float | None:
        """The mean of Spearman's rho; None where it is defined nowhere."""
        return _mean([one.rho for one in self.measured])

    @property
    def matched(self) -> float | None:
        """The mean agreement at equal size; None without pairs."""
        return _mean([one.matched for one in self.measured])

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        shown = ("benchmark", "n", "rho", "pairs", "matched")
        means = {"rho": self.rho, "matched": self.matched, "benchmarks": len(self.measured)}
        return means | {"measured": [{name: getattr(one, name) for name in shown} for one in self.measured]}

    def is_like(self, other: str) -> bool:
        """Whether it ranks nearly as the proxy of that name does on most of the benchmarks."""
        return 2 * sum(other in one.alike for one in self.measured) > len(self.measured)


@dataclass(frozen=True)
class Known:
    """The content of an evidence file.

    Args:
        match: the proxy whose scores are the sizes.
        within: the factor by which sizes of a pair differ at most.
        kinds: of the models of each benchmark, by its name.
        proxies: by name, the version that was measured, and the results.
    """

    match: str
    within: float
    kinds: Mapping[str, str]
    proxies: Mapping[str, tuple[str, tuple[OnBenchmark, ...]]]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Known:
        """From the document in a file."""
        proxies = {
            name: (
                found["version"],
                tuple(_measured(**one) for one in found["measured"]),
            )
            for name, found in data["proxies"].items()
        }
        return cls(data["match"], data["within"], data["benchmarks"], proxies)

    def benchmarks(self, kind: Kind) -> list[str]:
        """The benchmarks of models of that kind; all of them if there is none of that kind."""
        return [name for name, of in self.kinds.items() if of == kind] or list(self.kinds)

    def of(self, proxy: Proxy, kind: Kind) -> Evidence | None:
        """What is known of a proxy of the same name and version on models of that kind."""
        version, measured = self.proxies.get(proxy.name, ("", ()))
        among = self.benchmarks(kind)
        found = tuple(one for one in measured if one.benchmark in among)
        return Evidence(found) if found and version == proxy.version else None


def _measured(*, rho: list[float] | None, matched: list[float] | None, alike: list[str], **rest: Any) -> OnBenchmark:
    return OnBenchmark(**rest, rho=_triple(rho), matched=_triple(matched), alike=tuple(alike))


def _triple(values: Sequence[float] | None) -> Triple | None:
    return None if values is None else (values[0], values[1], values[2])


def _mean(triples: Sequence[Triple | None]) -> float | None:
    values = [triple[0] for triple in triples if triple is not None]
    return round(fmean(values), DIGITS) if values else None


@functools.cache
def shipped_evidence() -> Known:
    """The evidence that this package ships."""
    return Known.from_dict(json.loads((files(__package__) / "data" / "evidence.json").read_text(encoding="utf-8")))


def evidence_of(proxy: Proxy, kind: Kind, plugins: PluginRegistry, known: Known | None = None) -> Evidence | None:
    """What is known of a proxy on models of one kind; None of expressions, of those of other distributions, and of a
    version that was not measured.

    Args:
        proxy: any.
        kind: of the model.
        plugins: which say whose it is.
        known: by default what the package ships.
    """
    claim = claim_of(proxy, plugins)
    return (known or shipped_evidence()).of(proxy, kind) if claim is not None and claim.distribution == OWN else None


def recommended(
    model: PreTrainedModel | Kind, plugins: PluginRegistry | None = None, known: Known | None = None
) -> tuple[Proxy, ...]:
    """The few proxies to look at first for a model, at most eight.

    The sizes `params` and `decoder_params`; the winner that this package ships for any model; and of the proxies that
    were not searched, at most two counts and three others: those with the highest mean agreement at equal size over the
    benchmarks of models of that kind (over all benchmarks, for a kind that has none). They must have been measured on
    every one of these, with a mean of 0.2 or more. Means are compared in steps of 0.05: of equal ones the cheaper
    proxy goes first, then the one with the higher mean. One that ranks nearly as one before it is left out: a rho of
    0.95 or more between their scores on most of the benchmarks. Proxies as LPZero's code computes them are 0 on most
    families, and none of these.

    Args:
        model: a model, or its kind.
        plugins: those turned off offer none.
        known: by default what the package ships.

    Returns:
        Sizes, winner, counts and others, the best of each first.

    Example:
        >>> from lpzero_hf import load_model, recommended
        >>> [proxy.name for proxy in recommended(load_model("gpt2-variant").model)][:3]
        ['params', 'decoder_params', 'lpzero-any']
    """
    from lpzero_hf.models.model_kind import model_kind

    plugins = load_plugins() if plugins is None else plugins
    known = known or shipped_evidence()
    kind = model if isinstance(model, str) else model_kind(model)
    offered = {name: c.item for name, c in installed_proxies(plugins).items() if c.distribution == OWN}
    wanted = len(known.benchmarks(kind))
    ranked = []
    for place, proxy in enumerate(offered.values()):
        found = known.of(proxy, kind)
        if proxy.name in SIZES or proxy.trained_on or found is None or found.matched is None:
            continue
        if proxy.name.endswith(REPLICA):
            continue
        if found.matched >= LEAST and sum(one.matched is not None for one in found.measured) == wanted:
            ranked.append((-round(found.matched / STEP), _cost(proxy), -found.matched, place, proxy, found))
    best: list[Proxy] = []
    for *_, proxy, found in sorted(ranked, key=lambda row: row[:4]):
        if not any(found.is_like(other.name) for other in best):
            best.append(proxy)
    counts = [proxy for proxy in best if proxy.requires == "shapes"][:COUNTS]
    others = [proxy for proxy in best if proxy.requires != "shapes"][:OTHERS]
    first = [offered[name] for name in (*SIZES, WINNER) if name in offered]
    return (*first, *counts, *others)


def recommended_beside_size(kinds: Iterable[Kind], plugins: PluginRegistry) -> tuple[Proxy, ...]:
    """The proxies recommended for models of any of the kinds, without the sizes."""
    wanted = (proxy for kind in kinds for proxy in recommended(kind, plugins) if proxy.name not in SIZES)
    return tuple(dict.fromkeys(wanted))


def _cost(proxy: Proxy) -> int:
    """Grows with what scoring takes: shapes, single weights, a forward pass, a backward pass too, passes of its own."""
    if proxy.requires != "model":
        return ("shapes", "weights").index(proxy.requires)
    own = {"forward": 2, "forward + backward": 3}
    return own.get(proxy.passes, 4) if isinstance(proxy, StatisticProxy) else 4
