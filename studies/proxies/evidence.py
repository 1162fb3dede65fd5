"""Writes the evidence that the package ships, from the run files of the studies.

    python -m studies.proxies.evidence

It is what `lpz score` and `lpz compare` say of each proxy, and what decides which are recommended
(`lpzero_hf.proxies.evidence`): Spearman's rho and agreement at equal size on every benchmark that the proxy was not
searched on, with bootstrap intervals. Classic proxies were chosen on no benchmark, so all their numbers are held out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lpzero_hf.proxies.evidence as shipped
from lpzero_hf.benchmarks.agreement import Agreement, Estimate, spearman
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.matched import MATCH, WITHIN, SizedTruth, Sizes
from lpzero_hf.files import write_text
from lpzero_hf.models.build import build_model
from lpzero_hf.models.model_kind import model_kind
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.proxies.resolve import installed_proxies
from studies.study import RUNS, one_record_a_line, read

FILE = Path(shipped.__file__).parent / "data" / "evidence.json"
DIGITS = 4
Scores = Sequence[float | None]
Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]
ALIKE = 0.95  # a rho of so much between two proxies' scores: they rank nearly the same
Result = tuple[str, str, Agreement, list[str]]  # a proxy, a benchmark, how well the scores agree, and proxies like it


def graded_runs(folder: Path = RUNS) -> dict[str, Mapping[str, Any]]:
    """By benchmark, what the studies of grades have kept: architectures, truth, scores and facts."""
    names = sorted(path.stem for path in folder.glob("grades*.json"))
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        data = read(name).data
        found |= {str(data["facts"]["benchmark"]): data} if "truth" in data else data
    return found


def results(run: Mapping[str, Any], proxies: Mapping[str, Proxy]) -> Iterator[Result]:
    """How well each proxy of a run ranks its benchmark; those that were searched on it are left out.

    Args:
        run: of one benchmark, as `graded_runs` returns it.
        proxies: those installed, by name; others are left out, since their orientation is unknown.
    """
    name = str(run["facts"]["benchmark"])
    sign = -1 if re.match("smaller|lower", run["facts"]["better"]) else 1
    sizes = _numbers(run["scores"][MATCH])
    truth = sign * _numbers(run["truth"])
    oriented = {
        proxy: proxies[proxy].orientation * _numbers(scores)
        for proxy, scores in run["scores"].items()
        if proxy in proxies and name not in proxies[proxy].trained_on
    }
    for proxy, values in oriented.items():
        scored = np.flatnonzero(np.isfinite(values))
        if len(scored) > 2:
            known = SizedTruth(truth[scored], Sizes(sizes[scored], MATCH, WITHIN))
            alike = [other for other, theirs in oriented.items() if other != proxy and _rho(values, theirs) >= ALIKE]
            yield proxy, name, known.agreement(values[scored]), alike


def left_out(run: Mapping[str, Any]) -> Iterator[Result]:
    """How well the consensus ranks each benchmark when it is chosen on the others: what is known of the shipped winner.

    Args:
        run: the data of the study of the consensus.
    """
    (scores,) = [row["scores"] for row in run["rows"] if row["name"] == "consensus"]
    for name, ranks in scores.items():
        facts, values = run["benchmarks"][name], _numbers(ranks)
        scored = np.flatnonzero(np.isfinite(values))
        sizes = Sizes(_numbers(facts["sizes"])[scored], MATCH, WITHIN)
        yield shipped.WINNER, name, SizedTruth(_numbers(facts["truth"])[scored], sizes).agreement(values[scored]), []


def document(found: Iterable[Result], kinds: Mapping[str, str], versions: Mapping[str, str]) -> dict[str, Any]:
    """The evidence as one document.

    Args:
        found: held-out results from anywhere: of `results`, or of a proxy searched with each benchmark left out in
            turn.
        kinds: of the models of each benchmark.
        versions: of the proxies, by name.
    """
    measured: dict[str, list[dict[str, Any]]] = {}
    for proxy, benchmark, agreement, alike in found:
        matched = agreement.matched
        measured.setdefault(proxy, []).append(
            {
                "benchmark": benchmark,
                "n": agreement.n,
                "rho": _triple(agreement.spearman),
                "pairs": 0 if matched is None else matched.pairs,
                "matched": None if matched is None else _triple(matched.agreement),
                "alike": alike,
            }
        )
    rows = {proxy: {"version": versions[proxy], "measured": results} for proxy, results in measured.items()}
    return {
        "format": "lpzero-hf evidence",
        "version": 1,
        "match": MATCH,
        "within": WITHIN,
        "benchmarks": dict(kinds),
        "proxies": rows,
    }


def kind_of_benchmark(name: str) -> str:
    """The kind of the models of a benchmark, told by one of its space; no upstream file is read."""
    space = load_benchmark(name).space
    return model_kind(build_model(space.config(space.samples(1, 42)[0]), lazy=True))


def _numbers(values: Scores) -> Numbers:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _rho(first: Numbers, second: Numbers) -> float:
    both = np.isfinite(first) & np.isfinite(second)
    return (spearman(first[both], second[both]) or 0.0) if both.sum() > 2 else 0.0


def _triple(estimate: Estimate | None) -> list[float] | None:
    if estimate is None:
        return None
    return [round(value, DIGITS) for value in (estimate.value, estimate.low, estimate.high)]


def main(file: Path = FILE) -> None:
    """Write the file, and say what it recommends."""
    plugins = load_plugins()
    proxies = {name: claim.item for name, claim in installed_proxies(plugins).items()}
    runs = graded_runs()
    found = [result for run in runs.values() for result in results(run, proxies)]
    found += left_out(read("consensus").data)
    kinds = {name: kind_of_benchmark(name) for name in runs}
    versions = {name: proxy.version for name, proxy in proxies.items()}
    made = document(found, kinds, versions)
    write_text(file, one_record_a_line(made))
    known = shipped.Known.from_dict(made)
    for kind in dict.fromkeys(kinds.values()):
        names = ", ".join(proxy.name for proxy in shipped.recommended(kind, plugins, known))  # type: ignore[arg-type]
        print(f"{kind}: {names}")


if __name__ == "__main__":
    main()
