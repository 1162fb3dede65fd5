"""Printed values, published scores and ours compared, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpzero_hf.benchmarks.agreement import Agreement, kendall, spearman
from studies.markdown import plain, signed, table
from studies.paper.printed import Printed
from studies.proxies.grades import agreement
from studies.study import Runs

APART = 0.05  # a difference of rho that needs a reason
HEADS = ("proxy", "printed rho (tau)", "published scores: rho, tau", "ours", "rho, tau", "n", "ours with theirs", "why")
UNKNOWN = "no cause was found."


@dataclass(frozen=True)
class PrintedPair:
    """One proxy of the paper and ours.

    Args:
        label: as the paper calls it, or ours where it has none.
        ours: our proxy; empty where there is none.
        column: of the published scores; empty where there are none.
        why: why the figures differ, if they do.
    """

    label: str
    ours: str
    column: str = ""
    why: str = ""


def comparison(
    benchmark: str,
    pairs: Sequence[PrintedPair],
    printed: Mapping[str, Printed],
    runs: Runs,
) -> str:
    """A table with a row for each pair, and a reason below it for each that differs by more than `APART`."""
    rows: list[list[str]] = []
    reasons: dict[str, list[str]] = {}  # with the proxies that each is of
    for pair in pairs:
        one = printed.get(pair.label)
        rho, tau = published(benchmark, pair, runs)
        mine = graded(benchmark, pair.ours, runs)
        mark = ""
        if apart(benchmark, pair, one, runs):
            reason = pair.why or UNKNOWN
            reasons.setdefault(reason, []).append(pair.label)
            mark = str(list(reasons).index(reason) + 1)
        rows.append(
            [
                pair.label,
                "—" if one is None else f"{plain(one.rho)} ({one.tau})" if one.tau else plain(one.rho),
                "—" if rho is None else f"{signed(rho)}, {signed(tau or 0.0)}",
                f"`{pair.ours}`" if pair.ours else "—",
                both(mine),
                str(mine.n) if mine else "—",
                with_theirs(benchmark, pair, runs),
                mark,
            ]
        )
    why = [f"{i}. {', '.join(labels)}: {reason}" for i, (reason, labels) in enumerate(reasons.items(), 1)]
    return table(HEADS, rows) + "\n\n" + "\n".join(why)


def apart(benchmark: str, pair: PrintedPair, printed: Printed | None, runs: Runs) -> bool:
    """Whether our rho is more than `APART` from the printed one, or from that of the published scores.

    Papers print absolute values; published scores are turned as ours are.
    """
    mine, rho = graded(benchmark, pair.ours, runs), published(benchmark, pair, runs)[0]
    if mine is None or mine.spearman is None:
        return False
    value = mine.spearman.value
    if printed is not None and abs(printed.rho - abs(value)) > APART:
        return True
    return rho is not None and abs(rho * orientation(benchmark, pair.ours, runs) - value) > APART


def both(graded: Agreement | None) -> str:
    """Both correlations of a grade."""
    if graded is None or graded.spearman is None or graded.kendall is None:
        return "—"
    return f"{signed(graded.spearman.value)}, {signed(graded.kendall.value)}"


def graded(benchmark: str, proxy: str, runs: Runs) -> Agreement | None:
    """The grade of a proxy or of a winner."""
    found = [one for study in ("grades", "winners") for one in runs[study][benchmark]["grades"]]
    return next((agreement(one) for one in found if one["proxy"] == proxy), None)


def orientation(benchmark: str, proxy: str, runs: Runs) -> int:
    """1 if a larger score of a proxy should be better."""
    found = [one for study in ("grades", "winners") for one in runs[study][benchmark]["grades"]]
    return next(int(one["orientation"]) for one in found if one["proxy"] == proxy)


def target(benchmark: str, runs: Runs) -> list[float]:
    """The trained performance; larger is better."""
    found = runs["grades"][benchmark]
    sign = 1 if found["facts"]["better"] == "larger" else -1
    return [sign * value for value in found["truth"]]


def published(benchmark: str, pair: PrintedPair, runs: Runs) -> tuple[float | None, float | None]:
    """Both correlations of the published scores with the trained performance, with the sign of the scores."""
    theirs = column(benchmark, pair, runs)
    if not theirs:
        return None, None
    pairs = [(theirs[key], good) for key, good in zip(_keys(benchmark, runs), target(benchmark, runs), strict=True)]
    scores, truth = zip(*pairs, strict=True)
    return spearman(scores, truth), kendall(scores, truth)


def with_theirs(benchmark: str, pair: PrintedPair, runs: Runs) -> str:
    """The rho of our scores with the published ones."""
    theirs, ours = column(benchmark, pair, runs), scores(benchmark, pair.ours, runs)
    pairs = [(value, theirs[key]) for key, value in ours.items() if key in theirs and value is not None]
    value = spearman(*zip(*pairs, strict=True)) if len(pairs) > 2 else None
    return "—" if value is None else signed(value)


def column(benchmark: str, pair: PrintedPair, runs: Runs) -> dict[str, float]:
    """The published scores of a pair by architecture."""
    found = runs["published"][benchmark]
    return dict(zip(found["architectures"], found["scores"].get(pair.column, ()), strict=False))


def scores(benchmark: str, proxy: str, runs: Runs) -> dict[str, float | None]:
    """Our scores of a proxy by architecture."""
    for study in ("grades", "winners"):
        found: Mapping[str, Any] = runs[study][benchmark]
        if proxy in found["scores"]:
            return dict(zip(found["architectures"], found["scores"][proxy], strict=True))
    return {}


def _keys(benchmark: str, runs: Runs) -> list[str]:
    return list(runs["grades"][benchmark]["architectures"])
