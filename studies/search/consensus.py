"""Every public benchmark left out in turn: all proxies, and the consensus of those that the others agree with."""

from __future__ import annotations

from typing import Any

from lpzero_hf.benchmarks.across import BenchmarkColumn
from lpzero_hf.benchmarks.agreement import Vector
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import BASELINES
from lpzero_hf.benchmarks.held_out import marks_of
from lpzero_hf.benchmarks.matched import MATCH, WITHIN, Sizes
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.searching.consensus import candidates
from lpzero_hf.searching.transfer import unsearched
from lpzero_hf.searching.transfer_rows import TransferRow, consensus_rows, row_of, values, vector
from studies.proxies.evidence import graded_runs
from studies.search.transfer_protocol import CAVEAT, PUBLIC, TransferProtocol, compact, found_table, reading, rows_table
from studies.study import Progress, Runs

ABOUT = """\
Proxies are those of `lpz bench eval`, with its minibatch for each benchmark. The consensus is the geometric mean of the
proxies whose agreement at equal size is positive on every other benchmark, among those that score all architectures of
the one left out; those as LPZero's code computes them (`_lpzero`) are no candidates, for they are 0 on most families
(`docs/explanation/method.md`). `consensus: on all` was chosen on all five: a bound, and what
`lpzero-any` is. `docs/explanation/what-was-tried.md` has searches of one expression, and what else was tried."""


class KeptProtocol(TransferProtocol):
    """The protocol on the scores that the studies of grades have kept."""

    name = "consensus"
    title = "Every benchmark left out in turn: proxies and their consensus"
    pending = False

    def make(self, progress: Progress) -> dict[str, Any]:
        """Ranks, grades and members."""
        plugins = load_plugins()
        runs = graded_runs()
        installed = {name: claim.item for name, claim in installed_proxies(plugins).items()}
        proxies = [p for p in unsearched(plugins) if any(p.name in runs[name]["scores"] for name in PUBLIC)]
        scores: dict[str, dict[str, Vector]] = {}
        columns, marks = [], {}
        for place, name in enumerate(PUBLIC):
            progress("benchmarks", place, len(PUBLIC))
            benchmark, run = load_benchmark(name, plugins), runs[name]
            trained = benchmark.trained()
            none = [None] * len(trained)
            scores[name] = {proxy.name: vector(run["scores"].get(proxy.name, none)) for proxy in proxies}
            truth = [benchmark.target(entry) for entry in trained]
            columns.append(
                BenchmarkColumn(
                    name, [entry.key for entry in trained], truth, Sizes(scores[name][MATCH], MATCH, WITHIN)
                )
            )
            marks[name] = [marks_of(benchmark.space, entry.architecture) for entry in trained]
        rows: list[TransferRow] = []
        for proxy in proxies:
            kind = "baseline" if proxy.name in BASELINES else "proxy"
            own = {name: values(installed[proxy.name].orientation * scores[name][proxy.name]) for name in PUBLIC}
            rows.append(row_of(proxy.name, kind, columns, own))  # type: ignore[arg-type]  # one of two words
        rows += consensus_rows(candidates(proxies), scores, columns, marks)
        return compact(
            {
                "matched": {"match": MATCH, "within": WITHIN},
                "benchmarks": {column.name: column.to_json() for column in columns},
                "rows": [row.to_json() for row in sorted(rows, key=lambda row: row.grade.order)],
            }
        )

    def show(self, runs: Runs) -> str:
        """All rows, and the members."""
        data = runs[self.name]
        return "\n\n".join([ABOUT, CAVEAT, reading(data), rows_table(data, data["rows"]), found_table(data)])
