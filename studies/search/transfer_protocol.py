"""Every benchmark left out in turn: all proxies, and what searches on the other benchmarks choose, graded on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lpzero_hf.benchmarks.across import BenchmarkCell, BenchmarkColumn, GradeAcross, dense_ranks, grade_across
from lpzero_hf.benchmarks.agreement import Estimate
from lpzero_hf.benchmarks.grade import BASELINES
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.transfer import transfer
from studies.markdown import interval, table
from studies.study import WORKERS, Progress, Runs, Study, executor_of

PUBLIC = ("flexibert", "gpt2-wt103", "gpt2-lm1b", "gemstones", "tiny-gpt2")
RULES = {  # by name; a rule that changes takes another name, because searches that were begun go on
    f"search by {what}": SearchConfig(("all others",), strategy="exhaustive", fitness=fitness)
    for fitness, what in (("spearman", "rho"), ("matched", "equal size"), ("mixed", "both"))
}
COUNTS = (*BASELINES, "attention_params", "flops", "hidden_size")
CLASSIC = 6  # of the proxies, in the opening
CAVEAT = (
    "The members of the consensus were chosen without the benchmark; its rule was chosen among sixteen on these same "
    "benchmarks (`docs/explanation/what-was-tried.md`), so that choice is not held out."
)
Data = Mapping[str, Any]


class TransferProtocol(Study):
    """The protocol of `lpz bench transfer` on all public benchmarks.

    Args:
        benchmarks: names or paths.
        rules: of search, by name.
        proxies: to grade; None for all that were not searched.
        limit: maximum number of architectures of each benchmark.
        workers: processes.
    """

    name = "transfer-protocol"
    title = "Every benchmark left out in turn"
    pending = True

    def __init__(
        self, benchmarks: Sequence[str] = PUBLIC, rules: Mapping[str, SearchConfig] | None = None,
        proxies: Sequence[str] | None = None, limit: int | None = None, workers: int = WORKERS,
    ) -> None:  # fmt: skip
        self.benchmarks, self.rules = benchmarks, RULES if rules is None else rules
        self.proxies, self.limit, self.workers = proxies, limit, workers

    def make(self, progress: Progress) -> dict[str, Any]:
        """Scores as ranks, grades, and what was chosen. Searches are kept in the cache: a killed run goes on."""
        result = transfer(
            self.benchmarks, self.proxies, self.rules, ceiling=True, limit=self.limit,
            out=cache_folder() / "studies" / self.name, resume=True, executor=executor_of(self.workers),
            progress=lambda what, done, total, best: progress(what, done, total),
        )  # fmt: skip
        return regraded(compact(result.to_dict()))

    def show(self, runs: Runs) -> str:
        """All rows, and the expressions that were chosen."""
        data = runs[self.name]
        parts = [
            f"`lpz bench transfer {' '.join(data['benchmarks'])} --ceiling` with a `--search` for each rule.",
            reading(data),
            rows_table(data, data["rows"]),
            "What each search chose without the benchmark left out; of an ensemble, the ranks of all are summed.",
            found_table(data),
        ]
        return "\n\n".join([*parts, *_unscored(data)])


def compact(document: dict[str, Any]) -> dict[str, Any]:
    """A result as data of a run file, where ranks stand for scores: no grade and no rank ensemble reads more."""
    for row in document["rows"]:
        row["scores"] = {name: dense_ranks(scores) for name, scores in row["scores"].items()}
    document.pop("versions", None)  # the run has them
    return document


def regraded(data: Data) -> dict[str, Any]:
    """The data of a run with the grades of all rows made anew from their scores, the best row first."""
    columns = [
        BenchmarkColumn.from_json(name, facts, data["matched"]["match"], data["matched"]["within"])
        for name, facts in data["benchmarks"].items()
    ]
    graded = [(grade_across(columns, row["scores"]), row) for row in data["rows"]]
    rows = [{**row, **grade.to_json()} for grade, row in sorted(graded, key=lambda made: made[0].order)]
    return {**data, "rows": rows}


def opening(runs: Runs) -> str:
    """The searched rows, the best proxies and all counts; nothing where the protocol has not been run."""
    data = runs.get("consensus") or runs.get(TransferProtocol.name)
    if data is None:
        return ""
    proxies = [row["name"] for row in data["rows"] if row["kind"] == "proxy" and row["name"] not in COUNTS][:CLASSIC]
    rows = [row for row in data["rows"] if row["kind"] in ("searched", "ceiling") or row["name"] in (*COUNTS, *proxies)]
    more = (
        f"Shown are all searches, all counts and the best {len(proxies)} other proxies; the page on searches has all."
    )
    if any(row["name"] == "consensus" for row in rows):
        more += f" {CAVEAT}"
    return "\n\n".join([rows_table(data, rows), f"{reading(data)} {more}"])


def reading(data: Data) -> str:
    """How to read the table."""
    pairs = data["matched"]
    return (
        "Each benchmark is left out once. A search sees all architectures of the others, its rule is fixed before, and "
        "what it chooses is graded on the one left out; `fittest on all` has seen all of them: a bound, no result. A "
        f"cell is rho / agreement at equal size (pairs within {pairs['within']:g} times `{pairs['match']}`). Means "
        "have 95% intervals of a bootstrap of the architectures within each benchmark; rows that lack one come last."
    )


def rows_table(data: Data, rows: Sequence[Data]) -> str:
    """A line for each of some rows."""
    heads = ["", *data["benchmarks"], "mean rho", "mean at equal size", "worst", "n"]
    lines = []
    for row in rows:
        grade = GradeAcross.from_json(row)
        rho, matched = grade.spearman, grade.matched
        lines.append([
            f"**{row['name']}**" if row["kind"] == "searched" else _named(row),
            *(_cell(grade.cells[name]) for name in data["benchmarks"]),
            interval(rho.mean), interval(matched.mean), f"{_short(rho.worst)} / {_short(matched.worst)}",
            str(matched.n),
        ])  # fmt: skip
    return table(heads, lines)


def _named(row: Data) -> str:
    return str(row["name"]) if row["kind"] == "ceiling" else f"`{row['name']}`"


def _cell(cell: BenchmarkCell) -> str:
    return f"{_rounded(cell.spearman)} / {_rounded(cell.matched)}"


def _rounded(estimate: Estimate | None) -> str:
    return _short(None if estimate is None else estimate.value)


def _short(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def found_table(data: Data) -> str:
    """What was chosen without each benchmark."""
    lines = [
        [row["name"], name, "<br>".join(f"`{'' if sign > 0 else '- '}{text}`" for text, sign in members)]
        for row in data["rows"]
        for name, members in row["found"].items()
    ]
    return table(["search", "left out", "chosen"], lines, left=3)


def _unscored(data: Data) -> list[str]:
    """Which proxies lack scores, on which benchmark and why, one paragraph for each cause."""
    causes: dict[tuple[str, str, int], list[str]] = {}
    for row in data["rows"]:
        for name, reasons in row["unscored"].items():
            for why, count in reasons.items():
                causes.setdefault((name, why, count), []).append(f"`{row['name']}`")
    return [
        f"{', '.join(names)}: no score of {count} of {name} ({why})." for (name, why, count), names in causes.items()
    ]
