"""From a search to an artifact: what is kept of a run, and what is told of how it was found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import lpzero_hf
from lpzero_hf.artifact import Artifact, Member, operations_of
from lpzero_hf.errors import UsageError
from lpzero_hf.expression import BUILT_IN, Expression, Operations
from lpzero_hf.found import SearchResult, Split, Winner

Which = Literal["winner", "ensemble"]


def artifact_of(
    result: SearchResult,
    name: str,
    *,
    split: int = 0,
    which: Which = "winner",
    date: str | None = None,
    note: str = "",
    operations: Operations = BUILT_IN,
) -> Artifact:
    """The artifact of what one split of a search has found.

    Args:
        result: of the search.
        name: of the proxy: lower case, words joined by `-`, `_` or `.`.
        split: whose finding; the first by default. To take the one with the best held-out agreement would choose on
            the architectures that the agreement is reported on.
        which: the single expression, or the rank ensemble.
        date: YYYY-MM-DD, if it is to be told.
        note: a line for people.
        operations: by name, for their versions.

    Raises:
        UsageError: there is no such split, or an ensemble has a member without finite scores.
    """
    if not 0 <= split < len(result.splits):
        raise UsageError(f"the search has {len(result.splits)} splits, numbered from 0; there is no split {split}")
    chosen = result.splits[split]
    found: Winner = getattr(chosen, which)
    scales = _scales(result, chosen, found) if len(found.expressions) > 1 else [()] * len(found.expressions)
    members = tuple(
        Member(str(expression), orientation, scale)
        for expression, orientation, scale in zip(found.expressions, found.orientations, scales, strict=True)
    )
    return Artifact(
        name,
        members,
        operations_of(found.expressions, operations),
        _provenance(result, split, which, date, note),
    )


def artifact_by_hand(
    expression: Expression,
    name: str,
    *,
    orientation: Literal[1, -1] = 1,
    date: str | None = None,
    note: str = "",
    operations: Operations = BUILT_IN,
) -> Artifact:
    """The artifact of an expression that no search has found; it claims no agreement with any benchmark.

    Args:
        expression: any.
        name: of the proxy.
        orientation: 1 if a larger score predicts a better model.
        date: YYYY-MM-DD, if it is to be told.
        note: a line for people.
        operations: by name, for their versions.
    """
    told: dict[str, Any] = {"benchmarks": [], "strategy": "written by hand", "seed": 0, "train": {}, "held_out": {}}
    return Artifact(
        name,
        (Member(str(expression), orientation),),
        operations_of([expression], operations),
        told | {"versions": {"lpzero-hf": lpzero_hf.__version__}, "date": date, "note": note},
    )


def default_name(result: SearchResult) -> str:
    """A proxy's name from those of the benchmarks that were searched on."""
    words = [re.sub("[^a-z0-9]+", "-", Path(name).name.lower()).strip("-") for name in result.plan.benchmarks]
    return "-".join(["lpzero", *(word for word in words if word)])[:64].rstrip("-")


def _scales(result: SearchResult, split: Split, found: Winner) -> list[tuple[float, ...]]:
    """For each member, its scores of all architectures searched on, ascending."""
    scales: list[list[float]] = [[] for _ in found.expressions]
    for name, keys in split.trained_on.items():
        place = {key: i for i, key in enumerate(result.architectures[name])}
        for scale, scores in zip(scales, found.scores[name], strict=True):
            values = [scores[place[key]] for key in keys]
            if None in values:
                raise UsageError("a member of the ensemble has no score of an architecture searched on; search again")
            scale += [value for value in values if value is not None]
    return [tuple(sorted(scale)) for scale in scales]


def _provenance(result: SearchResult, number: int, which: Which, date: str | None, note: str) -> dict[str, Any]:
    plan, split = result.plan, result.splits[number]
    found: Winner = getattr(split, which)
    told: dict[str, Any] = {
        "benchmarks": list(plan.benchmarks),
        "strategy": plan.strategy,
        "space": {
            "unary": list(plan.unary),
            "reduces": list(plan.reduces),
            "aggregates": list(plan.aggregates),
            "size": result.size,
        },
        "fitness": plan.fitness,
        "combine": plan.combine,
        "select": plan.select,
        "evaluated": split.evaluated,
        "seed": split.seed,
        "split": {"number": number, "of": len(result.splits)},
        "trained_on": split.trained_on,
        "minibatch": {
            "batch_size": plan.setting.batch_size,
            "seq_len": plan.setting.seq_len,
            "seed": plan.setting.seed,
            "dtype": plan.setting.dtype,
            "device": plan.setting.device,
            "tokens": "random" if plan.setting.random_tokens else "text" if plan.setting.text else "embedded text",
        },
        "train": {name: agreement.to_dict() for name, agreement in found.train.items()},
        "held_out": {name: agreement.to_dict() for name, agreement in found.held_out.items()},
        "baselines": {
            name: {proxy: agreement.to_dict() for proxy, agreement in agreements.items()}
            for name, agreements in split.baselines.items()
        },
        "versions": dict(result.versions),
        "date": date,
        "note": note,
    }
    if which == "winner" and result.tests:
        told["tests"] = {name: agreements[number].to_dict() for name, agreements in result.tests.items()}
    return told
