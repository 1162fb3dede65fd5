"""Exports the result of a search as an artifact, with the record of the search."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date as Date
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lpzero_hf.artifacts.artifact import Artifact, Member, operations_of, parse_artifact
from lpzero_hf.artifacts.versions import __version__
from lpzero_hf.benchmarks.agreement import Agreement, Truth
from lpzero_hf.benchmarks.matched import SizedTruth, Sizes
from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.expression import BUILT_IN, Expression, Operations
from lpzero_hf.models.text_source import DatasetText
from lpzero_hf.proxies.searched_proxy import quantile
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.result import SearchResult, Split, Winner

Which = Literal["winner", "ensemble"]
LONGEST_SCALE = 2000  # as in the schema of artifacts
NAME = re.compile(r"[a-z][a-z0-9]*([_.-][a-z0-9]+)*")


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
    """The artifact of the winner or the ensemble of one split of a search.

    Args:
        result: of the search.
        name: of the proxy: lower case, words joined by `-`, `_` or `.`.
        split: number of the split; the first by default. The split with the best held-out agreement would be a choice
            based on the architectures that the agreement is reported on.
        which: the single expression, or the rank ensemble.
        date: YYYY-MM-DD, for the record; optional.
        note: a line for people.
        operations: by name, for their versions.

    Raises:
        UsageError: there is no such split, a name, date or note is invalid, or an ensemble has a member without
            finite scores.
    """
    if not 0 <= split < len(result.splits):
        raise UsageError(f"the search has {len(result.splits)} splits, numbered from 0; there is no split {split}")
    chosen = result.splits[split]
    found: Winner = getattr(chosen, which)
    scales = _scales(result, chosen, found) if len(found.expressions) > 1 else []
    members = tuple(
        Member(str(expression), orientation, scale)
        for expression, orientation, scale in zip(found.expressions, found.orientations, scales or [()], strict=True)
    )
    provenance = _provenance(result, split, which, date, note)
    if scales:
        _grade_by_quantiles(provenance, result, chosen, found, members)
    return checked(Artifact(name, members, operations_of(found.expressions, operations), provenance), operations)


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
        orientation: 1 if higher is better, -1 if lower is better.
        date: YYYY-MM-DD, for the record; optional.
        note: a line for people.
        operations: by name, for their versions.

    Raises:
        UsageError: a name, date or note is invalid.
        LpzError: the expression drops both branches.
    """
    record: dict[str, Any] = {"benchmarks": [], "strategy": "written by hand", "seed": 0, "train": {}, "held_out": {}}
    record |= {"versions": {"lpzero-hf": __version__}, "date": date, "note": note}
    member = Member(str(expression), orientation)
    return checked(Artifact(name, (member,), operations_of([expression], operations), record), operations)


def checked(artifact: Artifact, operations: Operations = BUILT_IN) -> Artifact:
    """The artifact, if it can be read again. Raises `UsageError` if its name, date or note is invalid."""
    date, note = artifact.provenance["date"], artifact.provenance["note"]
    if not NAME.fullmatch(artifact.name) or len(artifact.name) > 64:
        raise UsageError(
            f"'{artifact.name}' is no name for a proxy; use up to 64 lower-case letters and digits, with - _ . between"
        )
    if not note.isprintable() or len(note) > 300:
        raise UsageError("a note is one line of at most 300 letters")
    try:
        if date is not None and Date.fromisoformat(date).isoformat() != date:
            raise ValueError
    except ValueError:
        raise UsageError(f"'{date}' is no date; write it as YYYY-MM-DD") from None
    return parse_artifact(artifact.text, f"artifact '{artifact.name}'", operations)


def default_name(result: SearchResult) -> str:
    """A proxy's name from those of the benchmarks that were searched on."""
    words = [re.sub("[^a-z0-9]+", "-", Path(name).name.lower()).strip("-") for name in result.config.benchmarks]
    return "-".join(["found", *(word for word in words if word)])[:64].rstrip("-")


def _scales(result: SearchResult, split: Split, found: Winner) -> list[tuple[float, ...]]:
    """For each member, its scores of all architectures searched on, ascending.

    Those under all settings are pooled, so that a model has a place among them under whichever setting it is scored.
    Of very many, as many as an artifact can hold are kept, evenly spaced by rank.
    """
    scales: list[list[float]] = [[] for _ in found.expressions]
    for setting, (name, keys) in product(found.by_setting, split.trained_on.items()):
        place = {key: i for i, key in enumerate(result.architectures[name])}
        for scale, scores in zip(scales, setting.scores[name], strict=True):
            values = [scores[place[key]] for key in keys]
            if None in values:
                raise UsageError("a member of the ensemble has no score of an architecture searched on; search again")
            scale += [value for value in values if value is not None]
    return [tuple(_thinned(sorted(scale))) for scale in scales]


def _thinned(ordered: list[float]) -> list[float]:
    """At most `LONGEST_SCALE`, evenly spaced, the first and the last among them."""
    steps, last = LONGEST_SCALE - 1, len(ordered) - 1
    return ordered if last <= steps else [ordered[i * last // steps] for i in range(LONGEST_SCALE)]


def _grade_by_quantiles(
    provenance: dict[str, Any], result: SearchResult, split: Split, found: Winner, members: Sequence[Member]
) -> None:
    """Put the agreement of the sum of the members' quantiles, which the artifact computes, in place of that of the sum
    of their ranks among the graded architectures, which the search itself computes."""
    held = result.held_out(split)
    for name, keys in result.architectures.items():
        totals = np.array([_quantiles(setting.scores[name], members) for setting in found.by_setting])
        seen = np.isin(keys, split.trained_on[name])
        rest = np.isin(np.arange(len(keys)), held[name])
        for part, some in (("train", seen), ("held_out", rest)):
            _put(provenance, part, name, _agreement(result, name, totals, some))
            for place, setting in enumerate(provenance.get("settings", ())):
                _put(setting, part, name, _agreement(result, name, totals[[place]], some))


def _put(record: dict[str, Any], part: str, name: str, agreement: Agreement | None) -> None:
    record[part].pop(name, None)
    if agreement is not None:
        record[part][name] = agreement.to_dict()


def _quantiles(scores: Sequence[Sequence[float | None]], members: Sequence[Member]) -> NDArray[np.float64]:
    """[n], the sums of the members' quantiles; NaN where a score is missing."""
    columns = np.array(scores, dtype=np.float64).T  # one row per architecture
    whole = np.isfinite(columns).all(1)
    totals = np.full(len(columns), np.nan)
    totals[whole] = [sum(map(quantile, column, members)) for column in columns[whole]]
    return totals


def _agreement(
    result: SearchResult, name: str, totals: NDArray[np.float64], rows: NDArray[np.bool_]
) -> Agreement | None:
    """The mean agreement of the totals [s, n] on some rows [n]; None if fewer than two have one under all settings."""
    some = rows & np.isfinite(totals).all(0)
    if some.sum() < 2:
        return None
    config, sizes = result.config, result.sizes.get(name)  # none in a result of version 0.1.0
    truth = np.array(result.truth[name])[some]
    alike = None if sizes is None else Sizes(np.array(sizes, np.float64)[some], config.match, config.within)
    return (SizedTruth(truth, alike) if alike else Truth(truth)).mean_agreement(list(totals[:, some]))


def _tokens(setting: Setting) -> str:
    """What a minibatch is drawn from, without the path of a private file."""
    if setting.random_tokens:
        return "random"
    if isinstance(setting.text, DatasetText):
        return f"dataset {replace(setting.text, name=Path(setting.text.name).name or setting.text.name)}"
    return "embedded text" if setting.text is None else "text"


def _provenance(result: SearchResult, number: int, which: Which, date: str | None, note: str) -> dict[str, Any]:
    config, split = result.config, result.splits[number]
    found: Winner = getattr(split, which)
    record: dict[str, Any] = {
        "benchmarks": list(config.benchmarks),
        "strategy": config.strategy,
        "space": {
            "unary": list(config.unary),
            "reduces": list(config.reduces),
            "aggregates": list(config.aggregates),
            "size": result.size,
        },
        "fitness": config.fitness,
        "combine": config.combine,
        "select": config.select,
        "evaluated": split.evaluated,
        "seed": split.seed,
        "split": {"number": number, "of": len(result.splits)},
        "trained_on": split.trained_on,
        "minibatch": {
            "batch_size": config.setting.batch_size,
            "seq_len": config.setting.seq_len,
            "seed": config.setting.seed,
            "dtype": config.setting.dtype,
            "device": config.setting.device,
            "tokens": _tokens(config.setting),
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
    if config.setting.weights_seed != config.setting.seed and not config.several:
        record["minibatch"]["init_seed"] = config.setting.weights_seed
    if config.several:
        record |= {"over_settings": config.over_settings, "settings": _settings(result, number, which)}
    if result.sizes:
        record["matched"] = {"match": config.match, "within": config.within}
    if result.marks:
        record |= {"architectures": result.seen(split), "contents": dict(result.contents)}
    if which == "winner" and result.tests:
        record["tests"] = {name: agreements[number].to_dict() for name, agreements in result.tests.items()}
    return record


def _settings(result: SearchResult, number: int, which: Which) -> list[dict[str, Any]]:
    """Each setting that was searched on, and the agreement under it."""
    found: Winner = getattr(result.splits[number], which)
    made = []
    for place, (setting, graded) in enumerate(zip(result.config.settings, found.by_setting, strict=True)):
        record = {name: value for name, value in graded.to_json().items() if name != "scores"}
        if which == "winner" and result.tests:
            record["tests"] = {name: rows[number].to_dict() for name, rows in result.setting_tests[place].items()}
        drawn = {"batch_size": setting.batch_size, "seq_len": setting.seq_len, "init_seed": setting.weights_seed}
        made.append(drawn | record)
    return made
