"""What the scores of a few models by a few proxies in several draws say: places, pairs, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from math import fsum
from statistics import fmean
from typing import Any

from scipy.stats import kendalltau, rankdata  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.errors import LpzError, listed
from lpzero_hf.models.model_kind import Kind
from lpzero_hf.proxies.base import Proxy, StatisticProxy
from lpzero_hf.proxies.evidence import Evidence, shipped_evidence
from lpzero_hf.scoring.comparability import ModelFacts, differences
from lpzero_hf.scoring.display import Displayed, Panel, by_name, columns
from lpzero_hf.scoring.setting import Setting

SURE = 0.75
DIGITS = 9  # of a mean rank: what differs beyond is rounding
AHEAD, CLOSE, SAME, EQUAL = "ahead", "too close to tell", "same architecture", "equal scores"  # verdicts
Row = dict[str, Any]
Draws = Sequence[Mapping[str, Mapping[str, Row]]]  # by draw, model and proxy


@dataclass(frozen=True)
class Contestant:
    """What is known of a model before it is ranked.

    Args:
        name: the caller's.
        kind: encoder, decoder, ...
        vocabulary: tokens of its embedding.
        sizes: by `params`, `decoder_params` and `flops`; None where there is none.
        objective: as `ModelFacts` has it.
        initial: the deviation of its random weights, likewise.
    """

    name: str
    kind: Kind
    vocabulary: int
    sizes: Mapping[str, float | None]
    objective: str
    initial: Mapping[str, float]


@dataclass(frozen=True)
class Compared(Contestant):
    """A model with its place.

    Args:
        place: 1 for the best; equal ranks share the place.
        rank: the mean of its ranks over proxies and draws; ties have their mean rank.
        places: by each proxy, by the mean of its ranks over draws; of a proxy without a vote, None.
        scores: by each proxy, in each draw.
    """

    place: int
    rank: float
    places: Mapping[str, int | None]
    scores: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Pair:
    """Two models; the first has the better place, or an equal one.

    Args:
        first: a name.
        second: the other.
        wins: in how many of all scores, one for each proxy and draw, the first is better.
        losses: in how many the second is better; in the rest they are equal.
        of: how many there are.
        proxies: by how many proxies the first is better in more draws than the second.
        seeds: in how many draws the first is better by more proxies than the second.
        verdict: "ahead" if the first is surely better, "same architecture", "equal scores" or "too close to tell".
        apart: by how much the larger has more decoder parameters: 0.03 is 3%; None where these are unknown.
    """

    first: str
    second: str
    wins: int
    losses: int
    of: int
    proxies: int
    seeds: int
    verdict: str
    apart: float | None

    @property
    def share(self) -> float:
        """The share of scores in which the first is better."""
        return self.wins / self.of


@dataclass(frozen=True)
class Comparison(Displayed):
    """Models compared by proxies, see `compare`. A notebook shows them as a table.

    Args:
        models: the best first, those of one place by name.
        pairs: every two of them, in this order.
        proxies: those with a vote.
        left_out: those without, and why.
        agreement: Kendall's tau-b between two proxies' mean ranks, the mean over all pairs of proxies; None if there is
            no pair of proxies that tell models apart.
        evidence: for each proxy, with a vote or without, what is known of it on models of each kind among these.
        setting: of the first draw.
        seeds: of the draws.
        sure: the share of scores above which a model is ahead.
        same: the names of each architecture that has several.
        warnings: what makes the comparison less than it seems.
        failed: models that could not be compared, with their errors.
    """

    models: tuple[Compared, ...]
    pairs: tuple[Pair, ...]
    proxies: tuple[str, ...]
    left_out: Mapping[str, str]
    agreement: float | None
    evidence: Mapping[str, Mapping[Kind, Evidence | None]]
    setting: Setting
    seeds: tuple[int, ...]
    sure: float
    same: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]
    failed: Mapping[str, LpzError] = field(default_factory=dict)

    def pair(self, first: str, second: str) -> Pair:
        """What is told of two models, in either order. Raises `KeyError` for a name that was not compared."""
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second}:
                return pair
        raise KeyError(f"{first}, {second}")

    @property
    def sentence(self) -> str:
        """In plain words: which models are one, and whether the best is surely ahead of the next, or of which it is
        not."""
        told = [f"{_and(names)} are the same architecture" for names in self.same]
        for names in self._equal():
            told.append(
                f"{_and(names)} are equal by every proxy and in size, so that in all that is scored they are the same "
                "architecture"
            )
        best = self.models[0]
        rivals = [p for p in self.pairs if p.first == best.name and p.verdict in (AHEAD, CLOSE)]
        if rivals and rivals[0].verdict == AHEAD:
            place = {model.name: model.place for model in self.models}
            next_ones = [pair for pair in rivals if place[pair.second] == place[rivals[0].second]]
            told.append(self._ahead([pair for pair in next_ones if pair.verdict == AHEAD]))
        if close := [pair for pair in rivals if pair.verdict == CLOSE]:
            told.append(self._close(close))
        return "; ".join(told) + "."

    def _equal(self) -> list[list[str]]:
        """The names of the models that are equal in all that is scored, the best first."""
        groups: list[list[str]] = []
        for pair in self.pairs:
            if pair.verdict == EQUAL:
                group = next((names for names in groups if pair.first in names), None)
                if group is None:
                    groups.append([pair.first, pair.second])
                elif pair.second not in group:
                    group.append(pair.second)
        return groups

    def _ahead(self, pairs: Sequence[Pair]) -> str:
        """What is told of the best model and the next, which may be several of one place."""
        seeds, proxies = len(self.seeds), len(self.proxies)
        of = [f"of {p.second} in {p.seeds} of {seeds} draws by {p.proxies} of {proxies} proxies" for p in pairs]
        return f"{pairs[0].first} is ahead {_and(of)}{_sizes(pairs)}"

    def _close(self, pairs: Sequence[Pair]) -> str:
        """What is told of the best model and all those that are too close to it."""
        first = pairs[0]
        better = f"{first.first} is better in {first.wins} of {first.of} scores"
        if len(pairs) > 1:
            better += f" than {first.second}, "
            better += _and([f"in {pair.wins} than {pair.second}" for pair in pairs[1:]])
        close = _and([first.first, *(pair.second for pair in pairs)])
        return f"{close} are {CLOSE} ({better}){_sizes(pairs)}"

    @property
    def title(self) -> str:
        """The same as `sentence`."""
        return self.sentence

    @property
    def notes(self) -> list[str]:
        """The warnings, the proxies without a vote, and the models that are not compared."""
        without = [f"'{proxy}' has no vote: it is {why}" for proxy, why in self.left_out.items()]
        failed = [f"'{model}' is not compared: {error}" for model, error in self.failed.items()]
        return [*self.warnings, *without, *failed]

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for every model, the best first: its place, mean rank, sizes, and place by each proxy."""
        return [
            columns(
                {"model": one.name, "place": one.place, "mean rank": one.rank, **one.sizes},
                one.places,
                "place",
            )
            for one in self.models
        ]

    def panels(self) -> list[Panel]:
        """The mean rank of every model."""
        ranks = {"mean rank": [one.rank for one in self.models]}
        return [by_name("mean rank over proxies and draws", [one.name for one in self.models], ranks)]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "models": [asdict(model) for model in self.models],
            "pairs": [asdict(pair) | {"share": pair.share} for pair in self.pairs],
            "proxies": list(self.proxies),
            "left_out": dict(self.left_out),
            "agreement": self.agreement,
            "evidence": {
                proxy: {kind: known and known.to_dict() for kind, known in of.items()}
                for proxy, of in self.evidence.items()
            },
            "setting": self.setting.to_json(),
            "seeds": list(self.seeds),
            "sure": self.sure,
            "same": [list(names) for names in self.same],
            "warnings": list(self.warnings),
            "failed": {name: str(error) for name, error in self.failed.items()},
            "sentence": self.sentence,
        }


def compared(
    contestants: Sequence[Contestant],
    proxies: Sequence[Proxy],
    draws: Draws,
    *,
    same: Sequence[Sequence[str]],
    evidence: Mapping[str, Mapping[Kind, Evidence | None]],
    sure: float,
    setting: Setting,
    failed: Mapping[str, LpzError],
) -> Comparison:
    """The comparison that scores give.

    Args:
        contestants: the models, in any order.
        proxies: all that were asked for.
        draws: the row of each model by each proxy, for each seed.
        same: the names of every architecture, also of those with one name.
        evidence: see `Comparison`.
        sure: see there.
        setting: of the first draw; each of the others has the next seed.
        failed: the models without scores.

    Raises:
        LpzError: no proxy scores all models in all draws.
    """
    contestants = sorted(contestants, key=lambda one: one.name)
    names = [one.name for one in contestants]
    left_out = {proxy.name: why for proxy in proxies if (why := _lacking(proxy.name, names, draws))}
    voters = [proxy for proxy in proxies if proxy.name not in left_out]
    if not voters:
        raise LpzError(
            "no proxy scores all of these models, so they have no places; ask for others with `proxies=` "
            f"({listed(left_out)})"
        )
    scores = {p.name: [[p.orientation * d[n][p.name]["value"] for n in names] for d in draws] for p in voters}
    ranks = {proxy: [rankdata([-value for value in row]).tolist() for row in rows] for proxy, rows in scores.items()}
    by_proxy = {proxy: [fmean(column) for column in zip(*rows, strict=True)] for proxy, rows in ranks.items()}
    overall = [fsum(by_proxy[proxy][i] for proxy in by_proxy) / len(by_proxy) for i in range(len(names))]
    places = {proxy: _places(values) for proxy, values in by_proxy.items()}
    made = [
        Compared(
            **vars(one),
            place=_places(overall)[i],
            rank=overall[i],
            places={p.name: places[p.name][i] if p.name in places else None for p in proxies},
            scores={p.name: tuple(d[one.name][p.name]["value"] for d in draws) for p in proxies},
        )
        for i, one in enumerate(contestants)
    ]
    made.sort(key=lambda one: (one.place, one.name))
    telling = any(isinstance(proxy, StatisticProxy) and proxy.passes == "forward + backward" for proxy in voters)
    by_name = {name: [[row[i] for row in scores[proxy]] for proxy in scores] for i, name in enumerate(names)}
    pairs = []
    for first, second in combinations(made, 2):
        one = any({first.name, second.name} <= set(group) for group in same)
        pair = _pair(first, second, by_name[first.name], by_name[second.name], sure)
        if one:
            pair = replace(pair, verdict=SAME)
        elif telling and not pair.wins and not pair.losses and first.sizes == second.sizes:
            pair = replace(pair, verdict=EQUAL)
        pairs.append(pair)
    return Comparison(
        models=tuple(made),
        pairs=tuple(pairs),
        proxies=tuple(scores),
        left_out=left_out,
        agreement=_agreement(list(by_proxy.values())),
        evidence=evidence,
        setting=setting,
        seeds=tuple(setting.seed + number for number in range(len(draws))),
        sure=sure,
        same=tuple(tuple(group) for group in same if len(group) > 1),
        warnings=tuple(_warnings(made)),
        failed=failed,
    )


def _pair(
    first: Contestant,
    second: Contestant,
    ours: Sequence[Sequence[float]],
    theirs: Sequence[Sequence[float]],
    sure: float,
) -> Pair:
    """What is told of two models by their scores, by proxy and draw, higher being better."""
    signs = [[(a > b) - (a < b) for a, b in zip(*rows, strict=True)] for rows in zip(ours, theirs, strict=True)]
    flat = [sign for row in signs for sign in row]
    return Pair(
        first=first.name,
        second=second.name,
        wins=flat.count(1),
        losses=flat.count(-1),
        of=len(flat),
        proxies=sum(sum(row) > 0 for row in signs),
        seeds=sum(sum(column) > 0 for column in zip(*signs, strict=True)),
        verdict=AHEAD if flat.count(1) / len(flat) > sure else CLOSE,
        apart=_apart(first, second),
    )


def _lacking(proxy: str, names: Sequence[str], draws: Draws) -> str:
    """Why a proxy has no vote, or "": the first model of which it has no score."""
    for draw in draws:
        for name in names:
            row = draw[name][proxy]
            if row["value"] is None:
                return f"{row['status']} for {name}, {row['reason']}"
    return ""


def _places(ranks: Sequence[float]) -> list[int]:
    """The place of each: 1 and the number of smaller ranks."""
    return [int(place) for place in rankdata([round(rank, DIGITS) for rank in ranks], method="min")]


def _agreement(ranks: Sequence[Sequence[float]]) -> float | None:
    told = [[round(rank, DIGITS) for rank in row] for row in ranks]
    told = [row for row in told if len(set(row)) > 1]
    taus = [float(kendalltau(first, second).statistic) for first, second in combinations(told, 2)]
    return fmean(taus) if taus else None


def _apart(first: Contestant, second: Contestant) -> float | None:
    sizes = [model.sizes.get(shipped_evidence().match) for model in (first, second)]
    known = [size for size in sizes if size]
    return max(known) / min(known) - 1 if len(known) == 2 else None


def _warnings(models: Sequence[Compared]) -> list[str]:
    """What makes it hard to compare the models."""
    warnings, known = [], shipped_evidence()
    kinds = {kind: [model.name for model in models if model.kind == kind] for kind in {m.kind for m in models}}
    if len(kinds) > 1:
        of = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in sorted(kinds.items()))
        warnings.append(f"these are models of several kinds, and no benchmark compares such ({of})")
    sized = sorted((size, model.name) for model in models if (size := model.sizes.get(known.match)))
    if len(sized) > 1 and sized[-1][0] / sized[0][0] > known.within:
        (least, small), (most, large) = sized[0], sized[-1]
        warnings.append(
            f"{large} has {most / least:.2f} times the {known.match} of {small}: such an order is mostly one of size; "
            f"compare models within {known.within:g} times"
        )
    return warnings + differences([ModelFacts(m.name, m.objective, m.vocabulary, m.initial) for m in models])


def _sizes(pairs: Sequence[Pair]) -> str:
    """By how much the sizes of the first model and the others differ, at most."""
    apart = [pair.apart for pair in pairs]
    most = max((one for one in apart if one is not None), default=None)
    if most is None or None in apart:
        return ""
    most_of = "up to " if len(pairs) > 1 else ""
    return "; their sizes are equal" if most == 0 else f"; their sizes differ by {most_of}{100 * most:.0f}%"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
