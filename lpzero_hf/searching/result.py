"""The result of a search: winners with their agreement, for each split; as objects, and as the JSON of a run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from lpzero_hf.benchmarks.agreement import Agreement
from lpzero_hf.benchmarks.held_out import unseen
from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.expression import BUILT_IN, Expression, Operations, parse
from lpzero_hf.files import read_json, reading
from lpzero_hf.scoring.display import Displayed, Panel, Points
from lpzero_hf.searching.archive import Candidate
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.pruning import current_reasons
from lpzero_hf.searching.run_folder import CONFIG_FILE, RESULT_FILE

OURS = ("winner", "ensemble")
MEASURES = {"spearman": "rho", "kendall": "tau-b", "matched": "at equal size"}  # their columns in a table


@dataclass(frozen=True)
class SettingGrades:
    """What `Winner` says, under one of the several settings that were searched on.

    Args:
        train: agreement on the architectures searched on, by benchmark.
        held_out: the same on the others.
        scores: by benchmark and member, of every architecture.
    """

    train: dict[str, Agreement]
    held_out: dict[str, Agreement]
    scores: dict[str, list[list[float | None]]]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "train": {name: agreement.to_dict() for name, agreement in self.train.items()},
            "held_out": {name: agreement.to_dict() for name, agreement in self.held_out.items()},
            "scores": self.scores,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SettingGrades:
        """The grades from the result of `to_json`."""
        return cls(_agreements(data["train"]), _agreements(data["held_out"]), data["scores"])


@dataclass(frozen=True)
class Winner:
    """One expression, or a rank ensemble of several, and its agreement.

    Args:
        expressions: one, or the members; a member that appears twice has twice the weight.
        orientations: of each, 1 if higher is better, -1 if lower is better.
        train: agreement with the truth on the architectures searched on, by benchmark; with several settings, its mean.
        held_out: the same on the others; without benchmarks with fewer than two others.
        scores: by benchmark and member, of every architecture, in the order of `SearchResult.architectures`, times the
            orientation: higher is better; None where a score is not finite. With several settings, of the first.
        settings: of each of several settings, in the order of `SearchConfig.settings`; empty with one.
    """

    expressions: tuple[Expression, ...]
    orientations: tuple[int, ...]
    train: dict[str, Agreement]
    held_out: dict[str, Agreement]
    scores: dict[str, list[list[float | None]]]
    settings: tuple[SettingGrades, ...] = ()

    @property
    def by_setting(self) -> tuple[SettingGrades, ...]:
        """Of each setting, one or several."""
        return self.settings or (SettingGrades(self.train, self.held_out, self.scores),)

    def to_json(self) -> dict[str, Any]:
        """As plain data; with several settings, all scores are in these."""
        data = {
            "expressions": [str(expression) for expression in self.expressions],
            "orientations": list(self.orientations),
        }
        if not self.settings:
            return data | self.by_setting[0].to_json()
        graded = SettingGrades(self.train, self.held_out, {}).to_json()
        return data | graded | {"settings": [setting.to_json() for setting in self.settings]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], operations: Operations = BUILT_IN) -> Winner:
        """The winner from the result of `to_json`."""
        settings = tuple(SettingGrades.from_json(setting) for setting in data.get("settings", ()))
        return cls(
            tuple(parse(text, operations) for text in data["expressions"]),
            tuple(data["orientations"]),
            _agreements(data["train"]),
            _agreements(data["held_out"]),
            settings[0].scores if settings else data["scores"],
            settings,
        )


@dataclass(frozen=True)
class Split:
    """The result of the search on one part of the architectures.

    Args:
        seed: of the split and of the search on it.
        trained_on: keys of the architectures searched on, by benchmark.
        winner: one expression.
        ensemble: at most five.
        fittest: the first few by fitness.
        pareto: fitness against complexity.
        baselines: the agreement of trivial proxies on the held-out architectures, by benchmark and name.
        evaluated: expressions that were evaluated.
        pruned: candidates rejected before evaluation, by reason.
        rejected: after it.
        seconds: of the search, without capture.
        complete: whether it was searched to the end; False where a time limit was that.
        train_baselines: as `baselines`, on the architectures searched on, of benchmarks of which all are; empty in a
            result of an older version.
    """

    seed: int
    trained_on: dict[str, list[str]]
    winner: Winner
    ensemble: Winner
    fittest: list[Candidate]
    pareto: list[Candidate]
    baselines: dict[str, dict[str, Agreement]]
    evaluated: int
    pruned: dict[str, int]
    rejected: dict[str, int]
    seconds: float
    complete: bool = True
    train_baselines: dict[str, dict[str, Agreement]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "seed": self.seed,
            "trained_on": self.trained_on,
            "winner": self.winner.to_json(),
            "ensemble": self.ensemble.to_json(),
            "fittest": [_as_json(candidate) for candidate in self.fittest],
            "pareto": [_as_json(candidate) for candidate in self.pareto],
            "baselines": _plain(self.baselines),
            "train_baselines": _plain(self.train_baselines),
            "evaluated": self.evaluated,
            "pruned": self.pruned,
            "rejected": self.rejected,
            "seconds": self.seconds,
            "complete": self.complete,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], operations: Operations = BUILT_IN) -> Split:
        """The split from the result of `to_json`."""
        made = {name: Winner.from_json(data[name], operations) for name in ("winner", "ensemble")}
        listed = {name: [_candidate(entry, operations) for entry in data[name]] for name in ("fittest", "pareto")}
        graded = {
            kind: {name: _agreements(found) for name, found in of.items()}
            for kind, of in (("baselines", data["baselines"]), ("train_baselines", data.get("train_baselines", {})))
        }
        return cls(**{**data, **made, **listed, **graded, "rejected": current_reasons(data["rejected"])})


@dataclass(frozen=True)
class SearchResult(Displayed):
    """The result of a search. A notebook shows its winners beside the baselines as a table.

    Args:
        config: of the search.
        size: number of members of the space of expressions.
        architectures: keys of all, by benchmark searched on.
        truth: their trained performance as a target: higher is better.
        splits: one for each part searched on.
        tests: agreement of each split's winner with benchmarks it was not searched on, by benchmark; with several
            settings, its mean.
        ceiling: the fittest expression on all architectures, if requested: an upper bound, not a result.
        seconds: of the capture, and in total.
        versions: of the libraries that determine the numbers.
        marks: by benchmark, those of every architecture, see `lpzero_hf.benchmarks.held_out`; empty in a result of
            version 0.1.0.
        contents: by benchmark, a digest of its architectures and their trained performance; likewise.
        sizes: by benchmark, those of every architecture by the search's `match`, None where unknown; likewise.
        setting_tests: `tests` under each of several settings, in the order of `SearchConfig.settings`; empty with one.
        test_baselines: the agreement of trivial proxies with the benchmarks of `tests`, by benchmark and name; empty in
            a result of an older version.
    """

    config: SearchConfig
    size: int
    architectures: dict[str, list[str]]
    truth: dict[str, list[float]]
    splits: list[Split]
    tests: dict[str, list[Agreement]]
    ceiling: Candidate | None
    seconds: dict[str, float]
    versions: dict[str, str] = field(default_factory=dict)
    marks: dict[str, list[list[str]]] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, list[float | None]] = field(default_factory=dict)
    setting_tests: list[dict[str, list[Agreement]]] = field(default_factory=list)
    test_baselines: dict[str, dict[str, Agreement]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Where it was searched, how often, and what the first search has found."""
        parts = f"{len(self.splits)} splits, the first" if len(self.splits) > 1 else "one search"
        return f"{', '.join(self.config.benchmarks)}: {parts} found {self.splits[0].winner.expressions[0]}"

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for the winners, the ensembles and every baseline on each benchmark: means over the splits.

        What is "held out", or a "test", no search has seen. Deviations are None for a single split.
        """
        rows = []
        for name, all_ in self.summary().items():
            part = "test" if name in self.tests else "held out"
            rows += [self._row(name, part, what, found) for what, found in all_.items()]
        for name in self.config.benchmarks:
            baselines = self.splits[0].train_baselines.get(name, {})
            agreed = {what: [getattr(split, what).train.get(name) for split in self.splits] for what in OURS}
            agreed |= {row: [split.train_baselines[name][row] for split in self.splits] for row in baselines}
            rows += [
                self._row(name, "searched on", what, made) for what, one in agreed.items() if (made := _averaged(one))
            ]
        return rows

    def _row(self, benchmark: str, part: str, what: str, found: Mapping[str, float | int]) -> dict[str, Any]:
        row: dict[str, Any] = {"benchmark": benchmark, "architectures": part, "scored by": what}
        for kind, label in MEASURES.items():
            row[label] = found.get(kind)
            row[f"{label} deviation"] = found.get(f"{kind}_sd")
        expressions = getattr(self.splits[0], what).expressions if what in OURS else ()
        return row | {"splits": found["splits"], "expression": "; ".join(map(str, expressions))}

    def panels(self) -> list[Panel]:
        """The fitness of the best expressions of each complexity, of the first split, and where its winner is."""
        split = self.splits[0]
        best = sorted(split.pareto, key=lambda one: one.expression.complexity)
        known = {one.expression: one for one in (*split.fittest, *split.pareto)}
        points = [
            Points(
                "best up to that complexity",
                [one.expression.complexity for one in best],
                [one.fitness for one in best],
                "steps",
            )
        ]
        if (winner := known.get(split.winner.expressions[0])) is not None:
            points.append(Points("winner", [winner.expression.complexity], [winner.fitness], "winner"))
        return [Panel("complexity of the expression", "fitness on the architectures searched on", points)]

    def seen(self, split: Split) -> list[str]:
        """The marks of the architectures that a split was searched on, or the search that it began with."""
        found = set(self.config.saw[split.seed - self.config.seed]) if self.config.saw else set()
        for name, marks in self.marks.items():
            keys = set(split.trained_on[name])
            found |= {
                mark for key, own in zip(self.architectures[name], marks, strict=True) if key in keys for mark in own
            }
        return sorted(found)

    def held_out(self, split: Split) -> dict[str, list[int]]:
        """By benchmark, the places of the architectures that a split was not searched on, under whatever key."""
        seen = self.seen(split)
        places = {}
        for name, keys in self.architectures.items():
            known = set(split.trained_on[name])
            new = set(unseen(self.marks[name], seen)) if name in self.marks else set(range(len(keys)))
            places[name] = [place for place, key in enumerate(keys) if place in new and key not in known]
        return places

    def summary(self) -> dict[str, dict[str, dict[str, float | int]]]:
        """Mean and standard deviation (of several) over the splits of every held-out (or test) correlation.

        Returns:
            By benchmark, then by "winner", "ensemble" or the baseline's name. With several settings, of the mean over
            these, and for each correlation the lowest and the highest of the settings' means over the splits.
        """
        found: dict[str, dict[str, dict[str, float | int]]] = {}
        for name in self.config.benchmarks:
            rows = {
                "winner": [split.winner.held_out.get(name) for split in self.splits],
                "ensemble": [split.ensemble.held_out.get(name) for split in self.splits],
            }
            for proxy in self.splits[0].baselines.get(name, {}):
                rows[proxy] = [split.baselines[name][proxy] for split in self.splits]
            found[name] = {row: made for row, agreements in rows.items() if (made := _averaged(agreements))}
        for name, agreements in self.tests.items():
            tested = {"winner": agreements} | {row: [one] for row, one in self.test_baselines.get(name, {}).items()}
            found[name] = {row: made for row, agreed in tested.items() if (made := _averaged(agreed))}
        under = list(self.setting_summaries().values())
        for name, what in product(found, OURS if under else ()):
            if what in found[name]:
                found[name][what] |= _range([one[name].get(what, {}) for one in under])
        return found

    def setting_summaries(self) -> dict[str, dict[str, dict[str, dict[str, float | int]]]]:
        """The `summary` of the winners and ensembles under each of several settings, by its label.

        Returns:
            By label, see `SearchConfig.labels`; empty with one setting. Then as `summary`.
        """
        return {self.config.labels[i]: self._summary_of(i) for i in self.config.several}

    def _summary_of(self, setting: int) -> dict[str, dict[str, dict[str, float | int]]]:
        found: dict[str, dict[str, dict[str, float | int]]] = {}
        for name in self.config.benchmarks:
            rows = {
                what: [getattr(split, what).settings[setting].held_out.get(name) for split in self.splits]
                for what in OURS
            }
            found[name] = {row: made for row, agreements in rows.items() if (made := _averaged(agreements))}
        for name, agreements in self.setting_tests[setting].items():
            found[name] = {"winner": made} if (made := _averaged(agreements)) else {}
        return found

    def to_json(self) -> dict[str, Any]:
        """As plain data; what is of several settings only where there are several."""
        several = {
            "setting_tests": [
                {name: [agreement.to_dict() for agreement in found] for name, found in tests.items()}
                for tests in self.setting_tests
            ],
            "setting_summaries": self.setting_summaries(),
        }
        return self._common() | (several if self.config.several else {})

    def _common(self) -> dict[str, Any]:
        return {
            "plan": self.config.to_json(),
            "size": self.size,
            "architectures": self.architectures,
            "truth": self.truth,
            "splits": [split.to_json() for split in self.splits],
            "tests": {name: [agreement.to_dict() for agreement in found] for name, found in self.tests.items()},
            "ceiling": None if self.ceiling is None else _as_json(self.ceiling),
            "summary": self.summary(),
            "seconds": self.seconds,
            "versions": self.versions,
            "marks": self.marks,
            "contents": self.contents,
            "sizes": self.sizes,
            "test_baselines": _plain(self.test_baselines),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], operations: Operations = BUILT_IN) -> SearchResult:
        """The result from that of `to_json`."""
        return cls(
            SearchConfig.from_json(data["plan"]),
            data["size"],
            data["architectures"],
            data["truth"],
            [Split.from_json(split, operations) for split in data["splits"]],
            {name: list(_agreements(dict(enumerate(found))).values()) for name, found in data["tests"].items()},
            None if data["ceiling"] is None else _candidate(data["ceiling"], operations),
            data["seconds"],
            data["versions"],
            data.get("marks", {}),
            data.get("contents", {}),
            data.get("sizes", {}),
            [
                {name: list(_agreements(dict(enumerate(found))).values()) for name, found in tests.items()}
                for tests in data.get("setting_tests", ())
            ],
            {name: _agreements(found) for name, found in data.get("test_baselines", {}).items()},
        )


def read_result(folder: str | Path, operations: Operations = BUILT_IN) -> SearchResult:
    """The result of the search in a folder.

    Args:
        folder: of a run of `lpz search --out`.
        operations: unary operations by name.

    Raises:
        UsageError: there is no search in it, or one that is not finished.
        LpzError: its result is damaged, or was made by another version.
    """
    folder = Path(folder)
    file = folder / RESULT_FILE
    if not (folder / CONFIG_FILE).exists():
        raise UsageError(f"there is no search in '{folder}'; `lpz search ... --out {folder}` makes one")
    if not file.exists():
        raise UsageError(f"the search in '{folder}' is not finished; go on with `lpz search ... --resume`")
    data = read_json(file, "search again")
    with reading(f"'{file}'", "search again with `resume=True`", UsageError):
        result = SearchResult.from_json(data, operations)
        result.summary()
        return result


def _plain(found: Mapping[str, Mapping[str, Agreement]]) -> dict[str, dict[str, Any]]:
    return {name: {row: one.to_dict() for row, one in of.items()} for name, of in found.items()}


def _agreements(data: Mapping[Any, Mapping[str, Any]]) -> dict[Any, Agreement]:
    return {name: Agreement.from_dict(found) for name, found in data.items()}


def _candidate(entry: Mapping[str, Any], operations: Operations) -> Candidate:
    return Candidate(parse(entry["expression"], operations), entry["fitness"], entry["orientation"])


def _averaged(agreements: Sequence[Agreement | None]) -> dict[str, float | int]:
    defined = [a for a in agreements if a is not None and a.spearman is not None and a.kendall is not None]
    if not defined:
        return {}
    matched = [a.matched.agreement.value for a in defined if a.matched and a.matched.agreement]
    rho = [a.spearman.value for a in defined if a.spearman]
    tau = [a.kendall.value for a in defined if a.kendall]
    found: dict[str, float | int] = {"splits": len(defined)}
    for kind, values in (("spearman", rho), ("kendall", tau), ("matched", matched)):
        if values:
            found[kind] = statistics.mean(values)
        if len(values) > 1:  # one value has no deviation
            found[f"{kind}_sd"] = statistics.pstdev(values)
    return found


def _range(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The lowest and the highest of each correlation that all rows have."""
    kinds = [kind for kind in ("spearman", "kendall", "matched") if all(kind in row for row in rows)]
    ends = (("lowest", min), ("highest", max))
    return {f"{kind}_{end}": choose(row[kind] for row in rows) for kind in kinds for end, choose in ends}


def _as_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "expression": str(candidate.expression),
        "complexity": candidate.expression.complexity,
        "fitness": candidate.fitness,
        "orientation": candidate.orientation,
    }
