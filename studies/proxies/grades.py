"""Scores every built-in proxy on every benchmark of the zoo, and grades it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lpzero_hf.benchmarks.agreement import Agreement
from lpzero_hf.benchmarks.benchmark import describe, load_benchmark
from lpzero_hf.benchmarks.grade import Report, grade
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.proxies.searched_proxy import SearchedProxy
from lpzero_hf.scoring.cache import ScoreCache
from studies.markdown import interval, row, signed
from studies.study import Progress, Runs, Study, executor_of

BENCHMARKS = ("gpt2-wt103", "flexibert", "tiny-gpt2")
OWN = "lpzero-hf"
DIGITS = 9  # of a score in a run file: more than the ranking needs
DEAR = (  # passes of their own, or singular values: on decoders of two billion parameters hours, or more than 24 GiB
    "grasp", "zico", "synflow", "logsynflow", "logsynflow_lpzero", "synaptic_diversity", "synaptic_diversity_lpzero",
    "eznas", "nsc", "dss", "meco", "az_expressivity", "az_progressivity", "az_trainability",
)  # fmt: skip
COLUMNS = """\
No proxy here was tuned or chosen on these benchmarks. "top 10%" is the share of the truly best tenth that is among the
best-scored tenth. s/arch is the median time to score one architecture on one core while the other cores do the same;
proxies that share a pass all show the time of the whole pass."""


class Grades(Study):
    """Every proxy that was not searched for, on every benchmark."""

    name = "grades"
    title = "Every proxy on every benchmark"

    def make(self, progress: Progress) -> dict[str, Any]:
        """Scores, grades and the facts of each benchmark."""
        return {name: _graded(name, progress) for name in BENCHMARKS}

    def show(self, runs: Runs) -> str:
        """One table per benchmark."""
        return "\n\n".join([COLUMNS, *(_section(name, runs["grades"][name]) for name in BENCHMARKS)])


class FurtherGrades(Study):
    """The same on one more benchmark, with a run file of its own.

    Args:
        benchmark: its name.
        without: proxies that are not scored, because they take too long or too much memory.
        name: of the run file. Those called grades-... make the evidence and the consensus that the package ships.
    """

    def __init__(self, benchmark: str, without: Sequence[str] = (), name: str = "") -> None:
        self.benchmark, self.without, title = benchmark, without, f"Every proxy on {benchmark}"
        self.name, self.title = name or f"grades-{benchmark}", title  # type: ignore[misc]  # one class, several studies

    def make(self, progress: Progress) -> dict[str, Any]:
        """Scores, grades and the facts of the benchmark."""
        return _graded(self.benchmark, progress, self.without)

    def show(self, runs: Runs) -> str:
        """One table."""
        section = _section(self.benchmark, runs[self.name], heading=False)
        names = ", ".join(f"`{name}`" for name in self.without)
        left_out = f"\n\nNot scored, because they take hours or more than 24 GiB here: {names}." if names else ""
        return f"{section}{left_out}\n\nThe seconds were measured while other work ran on the same cores."


FURTHER = (
    FurtherGrades("tiny-lm", name="tiny-lm-grades"),  # younger than the evidence, which it can test
    FurtherGrades("gpt2-lm1b"),
    FurtherGrades("gemstones", DEAR),
)


def _graded(name: str, progress: Progress, without: Sequence[str] = ()) -> dict[str, Any]:
    plugins = load_plugins()
    claims = [claim for claim in installed_proxies(plugins).values() if claim.distribution == OWN]
    proxies = [
        claim.item.name
        for claim in claims
        if not isinstance(claim.item, SearchedProxy) and claim.item.name not in without
    ]
    benchmark = load_benchmark(name, plugins)

    def step(done: int, total: int) -> None:
        progress(f"proxies on {name}", done, total)

    with ScoreCache() as cache:
        report = grade(benchmark, proxies, cache=cache, executor=executor_of(), progress=step)
    facts = {key: value for key, value in describe(benchmark).items() if key != "table"}  # a path of this machine
    return _record(report) | {"facts": facts}


def _record(report: Report) -> dict[str, Any]:
    setting = report.setting
    return {
        "architectures": [entry.key for entry in report.trained],
        "truth": [entry.quality for entry in report.trained],
        "scores": {
            proxy: [None if value is None else float(f"{value:.{DIGITS}g}") for value in values]
            for proxy, values in report.scores.items()
        },
        "grades": [one.to_dict() for one in report.grades],
        "chance": report.chance,
        "matched": {"match": report.match, "within": report.within, "pairs": report.pairs},
        "setting": {"batch_size": setting.batch_size, "seq_len": setting.seq_len, "seed": setting.seed},
    }


def agreement(grade: Mapping[str, Any]) -> Agreement | None:
    """The agreement of a grade in a run file."""
    return None if grade["agreement"] is None else Agreement.from_dict(grade["agreement"])


def _section(name: str, found: Mapping[str, Any], heading: bool = True) -> str:
    setting = found["setting"]
    sized = found.get("matched")  # a run of version 0.1.0 has none
    pairs = (
        f" At equal size: {sized['pairs']:,} pairs within {sized['within']:g} times {sized['match']}." if sized else ""
    )
    lines = [
        *([f"### {name}", ""] if heading else []),
        f"`lpz bench eval {name}`: {len(found['truth'])} architectures, minibatch {setting['batch_size']} x "
        f"{setting['seq_len']} tokens, float32, seed {setting['seed']}. Random scores exceed a rho of "
        f"{found['chance']:.3f} in 5% of draws.{pairs}",
        "",
        _facts(found["facts"]),
        "",
        row("proxy", "rho [95%]", "tau [95%]", *(["at equal size [95%]"] if sized else []), "top 10%", "n", "s/arch"),
        "|---|" + "--:|" * (6 if sized else 5),
    ]
    for graded in found["grades"]:
        one = agreement(graded)
        seconds = f"{graded['seconds']:.2f}"
        if one is None:
            lines.append(row(graded["proxy"], *["—"] * (4 if sized else 3), "0", seconds))
        else:
            rho, tau = (interval(estimate, signed) for estimate in (one.spearman, one.kendall))
            alike = [interval(one.matched.agreement if one.matched else None, signed)] if sized else []
            lines.append(row(graded["proxy"], rho, tau, *alike, f"{one.top:.2f}", str(one.n), seconds))
    return "\n".join([*lines, *_unscored(found["grades"])])


def _unscored(grades: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which proxies lack scores and why, one paragraph for each cause."""
    causes: dict[tuple[str, int], list[str]] = {}
    for graded in grades:
        for why, count in graded["unscored"].items():
            causes.setdefault((why, count), []).append(f"`{graded['proxy']}`")
    return [f"\n{', '.join(names)}: {count} have no score ({why})." for (why, count), names in causes.items()]


def _facts(facts: Mapping[str, Any]) -> str:
    spread = facts["spread"]
    text = (
        f"{facts['metric']}: {spread['minimum']:.3f} to {spread['maximum']:.3f}, median {spread['median']:.3f}, "
        f"standard deviation {spread['standard_deviation']:.3f}."
    )
    return text + (f" {facts['notes']}." if facts["notes"] else "")
