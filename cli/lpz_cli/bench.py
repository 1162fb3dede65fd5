"""`lpz bench`: benchmarks of trained architectures."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.kept_warnings import KeptWarnings
from lpz_cli.libraries import load_libraries
from lpz_cli.listing import BETTER
from lpz_cli.output import csv_text, print_csv, print_json, print_table, refuse_existing, say, tell
from lpz_cli.progress import counting, downloading
from lpz_cli.run_facts import facts_of_run
from lpz_cli.unread import refuse_unread
from lpzero_hf.errors import UsageError
from lpzero_hf.files import refuse_unwritable
from lpzero_hf.plugins import load_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lpzero_hf.benchmarks.agreement import Estimate
    from lpzero_hf.benchmarks.beyond_size import BudgetRegret
    from lpzero_hf.benchmarks.grade import Grade, Report

bench_app = typer.Typer(
    name="bench", help="Benchmarks: trained architectures, and how well proxies rank them.", no_args_is_help=True
)
DEFAULT = "tiny-lm"
Name = Annotated[
    str,
    typer.Argument(
        metavar="BENCH",
        help="A benchmark, see `lpz bench list`; a folder that `lpz bench train` made; or a table (CSV, TSV, JSON, "
        "JSON Lines, Parquet).",
    ),
]


@bench_app.command(name="list")
def list_benchmarks(json: options.Json = False, no_plugin: options.NoPlugin = None) -> None:
    """List the benchmarks, and which of them are here."""
    from lpzero_hf.benchmarks.benchmark import installed_benchmarks

    claims = installed_benchmarks(load_plugins(no_plugin or ()))
    rows: list[dict[str, Any]] = [
        {
            "benchmark": name,
            "space": claim.item.space.name,
            "metric": claim.item.metric,
            "here": claim.item.here(),
            "summary": claim.item.summary,
            "distribution": claim.distribution,
        }
        for name, claim in claims.items()
    ]
    if json:
        print_json({"benchmarks": rows})
        return
    cells = [
        [r["benchmark"], r["space"], r["metric"], "yes" if r["here"] else "`lpz bench get`", r["summary"]] for r in rows
    ]
    print_table("Benchmarks", ["benchmark", "space", "metric", "here", "what it is"], cells)


@bench_app.command()
def get(name: Name, json: options.Json = False, no_plugin: options.NoPlugin = None) -> None:
    """Download a benchmark's data into the cache, and check every file."""
    from lpzero_hf.benchmarks.benchmark import load_benchmark

    benchmark = load_benchmark(name, load_plugins(no_plugin or ()))
    if benchmark.fetch is None:
        where = None
    else:
        with downloading() as progress:
            where = str(benchmark.fetch(progress))
    if json:
        print_json({"benchmark": benchmark.name, "folder": where})
    else:
        say(f"{benchmark.name} is in {where}" if where else f"{benchmark.name} needs no download")


@bench_app.command()
@grouped
def show(
    name: Name = DEFAULT,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
    *,
    table: options.Tables,
) -> None:
    """Describe a benchmark: what was trained, how the results spread, and how much of that is noise."""
    from lpzero_hf.benchmarks.benchmark import describe, load_benchmark

    warned = KeptWarnings()
    with warned.keeping():
        facts = describe(load_benchmark(name, load_plugins(no_plugin or ()), table.options([name])))
    if json:
        print_json(facts | {"warnings": warned})
        return
    rows = [[key.replace("_", " "), _shown(value)] for key, value in facts.items() if value not in (None, "")]
    print_table(f"Benchmark {facts['benchmark']}", ["", ""], rows)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key.replace('_', ' ')}: {_shown(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@bench_app.command(name="eval")
@grouped
def evaluate(
    context: typer.Context,
    name: Name = DEFAULT,
    proxy: options.Proxies = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Sequences in the minibatch; else the benchmark's.")
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option("--seq-len", min=2, help="Tokens per sequence; else the benchmark's.")
    ] = None,
    limit: options.Limit = None,
    more: Annotated[
        bool, typer.Option("--more", help="Show every measure: tau-b, the top 10%, times, and beyond size.")
    ] = False,
    plots: Annotated[Path | None, typer.Option("--plots", help="Folder for scatter plots.")] = None,
    scores: Annotated[Path | None, typer.Option("--scores", help="CSV file for all scores.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Score again, and cache nothing.")] = False,
    no_plugin: options.NoPlugin = None,
    *,
    matching: options.Matching,
    conditions: options.Conditions,
    workers: options.Workers,
    form: options.Form,
    table: options.Tables,
) -> None:
    """Grade proxies: score every architecture of a benchmark and compare with its trained performance.

    Scores are kept in a local cache, so that an interrupted run continues where it stopped.

    Example: `lpz bench eval tiny-lm --proxy snip --proxy fisher --plots plots`
    """
    from lpzero_hf.benchmarks.benchmark import load_benchmark

    refuse_unread(context, ["more"], form.whole, f"with {form.whole}, which holds every measure; leave it out")
    if scores is not None:
        refuse_existing(scores, "--scores")
    if plots is not None:
        if plots.exists() and not plots.is_dir():
            raise UsageError(f"'{plots}' is a file; name a folder with --plots")
        refuse_unwritable(plots)
    registry = load_plugins(no_plugin or ())
    warned = KeptWarnings()
    with warned.keeping():
        benchmark = load_benchmark(name, registry, table.options([name]))
    if plots is not None:
        from lpz_cli.plots.scatter import draw
        from lpzero_hf.scoring.display import need_matplotlib

        need_matplotlib()

    load_libraries()
    from lpzero_hf.benchmarks.grade import grade
    from lpzero_hf.scoring.cache import ScoreCache

    setting = conditions.setting(batch_size or benchmark.batch_size, seq_len or benchmark.seq_len)
    with (
        warned.keeping(),
        workers.start(setting.device, registry) as executor,
        nullcontext() if no_cache else ScoreCache() as cache,
        counting("architectures scored") as progress,
    ):
        report = grade(
            benchmark, proxy or "all", setting, limit=limit, match=matching.match, within=matching.within,
            cache=cache, executor=executor, plugins=registry, progress=progress,
        )  # fmt: skip
    if scores is not None:
        _write_scores(report, scores)
    if plots is not None:
        draw(report, benchmark, plots)
    if form.json:
        print_json(report.to_dict() | facts_of_run(setting, workers.threads) | {"warnings": warned})
    elif form.csv:
        told = "; ".join(warned)
        print_csv(GRADE_COLUMNS, [[*_plain(grade), counted(grade.unscored), told] for grade in report.grades])
    else:
        _as_tables(report, more)
    for graded in report.grades:
        for why, count in graded.unscored.items():
            if why.startswith(("failed", "invalid")):
                tell(f"warning: {graded.proxy} has no score of {count} architectures{_example(report, graded)}, {why}")


def _example(report: Report, graded: Grade) -> str:
    """One of the architectures that a proxy has no score of, where a file has a place for it."""
    first = next(e for e, score in zip(report.trained, report.scores[graded.proxy], strict=True) if score is None)
    return f" ({first.where} for example)" if first.where and len(graded.unscored) == 1 else ""


GRADE_COLUMNS = (
    "proxy", "orientation", "n", "spearman", "spearman_low", "spearman_high",
    "kendall", "kendall_low", "kendall_high", "top10", "seconds",
    "matched", "matched_low", "matched_high", "pairs", "match", "within",
    "residual", "residual_low", "residual_high", "ridge", "ridge_with", "unscored", "warnings",
)  # fmt: skip


def _plain(grade: Grade) -> list[Any]:
    agreement, beyond = grade.agreement, grade.beyond
    if agreement is None:
        return [grade.proxy, grade.orientation, 0, *[""] * 7, grade.seconds, *[""] * 11]
    matched = agreement.matched
    ridges = (beyond.ridge, beyond.ridge_with) if beyond else (None, None)
    return [
        grade.proxy,
        grade.orientation,
        agreement.n,
        *three(agreement.spearman),
        *three(agreement.kendall),
        agreement.top,
        grade.seconds,
        *three(matched.agreement if matched else None),
        *((matched.pairs, matched.match, matched.within) if matched else ("", "", "")),
        *three(beyond.residual if beyond else None),
        *("" if ridge is None else ridge for ridge in ridges),
    ]


def counted(reasons: Mapping[str, int]) -> str:
    """How many architectures have no score, and why, as a cell of CSV."""
    return "; ".join(f"{count} {why}" for why, count in reasons.items())


def three(estimate: Estimate | None) -> tuple[float | str, ...]:
    """An estimate and its interval as cells of CSV; the interval is empty where it says nothing."""
    if estimate is None:
        return ("", "", "")
    return (estimate.value, estimate.low, estimate.high) if estimate.known else (estimate.value, "", "")


def _as_tables(report: Report, more: bool) -> None:
    from lpzero_hf.benchmarks.grade import SEARCHED_ON

    setting = report.setting
    title = (
        f"{report.benchmark} · {len(report.trained)} trained architectures · minibatch {setting.batch_size} x "
        f"{setting.seq_len} tokens · {setting.dtype} · seed {setting.seed}"
    )
    rows = [
        [
            grade.proxy,
            brief(grade.agreement.spearman if grade.agreement else None),
            brief(_matched(grade)),
            _count(grade),
        ]
        for grade in report.grades
    ]
    print_table(title, ["proxy", "Spearman's rho [95%]", "at equal size [95%]", "n"], rows, [1, 2, 3])
    say(
        f"Random scores exceed a rho of {report.chance:.3f} in 5% of draws. At equal size: the share of better ones "
        f"minus that of worse ones that score higher, over {report.pairs:,} pairs within {report.within:g} times "
        f"{report.match}."
        + ("" if more else " `--more` shows tau-b, the top 10%, times and what scores add to size, depth and width.")
    )
    if more:
        _more_tables(report)
    for grade in report.grades:
        if seen := grade.unscored.get(f"not applicable: {SEARCHED_ON}"):
            say(f"{grade.proxy} was searched on {seen} of these architectures, and is graded on the others.")


def _more_tables(report: Report) -> None:
    from lpzero_hf.benchmarks.beyond_size import PICKS

    rows, beyond = [], []
    for grade in report.grades:
        agreement, said = grade.agreement, grade.beyond
        tau = brief(agreement.kendall if agreement else None)
        top = f"{agreement.top:.2f}" if agreement else "—"
        rows.append([grade.proxy, BETTER[grade.orientation], tau, top, f"{grade.seconds:.3f}"])
        gain = "—" if said is None or said.gain is None else f"{said.ridge:.3f} {said.gain:+.3f}"
        regrets = [_regret([r for r in said.regret if r.k == k] if said else []) for k in PICKS]
        beyond.append([grade.proxy, brief(said.residual if said else None), gain, *regrets])
    header = ["proxy", "better", "Kendall's tau-b [95%]", "top 10%", "s/arch"]
    print_table("Tau-b, the best tenth and time", header, rows, [2, 3, 4])
    header = ["proxy", "residual rho [95%]", "ridge", *(f"regret of {k} (chance)" for k in PICKS)]
    print_table("Beyond size, depth and width", header, beyond, range(1, len(header)))
    say(
        "s/arch is the median, with the pass that a proxy shares with others. Residual rho: size, depth and width are "
        "regressed out of scores and truth. Ridge: cross-validated rho of a regression on these three, and what the "
        "scores add to it. Regret: the metric lost if the k best-scored under a budget are trained, mean over budgets "
        "at the quartiles of the sizes."
    )


def _matched(grade: Grade) -> Estimate | None:
    matched = grade.agreement.matched if grade.agreement else None
    return matched.agreement if matched else None


def _count(grade: Grade) -> str:
    return str(grade.agreement.n if grade.agreement else 0)


def _regret(under: Sequence[BudgetRegret]) -> str:
    if not under:
        return "—"
    mine, chance = (sum(values) / len(under) for values in ([r.regret for r in under], [r.chance for r in under]))
    return f"{mine:.3g} ({chance:.3g})"


def brief(estimate: Estimate | None) -> str:
    """An estimate and its interval for people."""
    return "—" if estimate is None else f"{estimate.value:+.3f} {estimate.between('{:+.2f}'.format)}"


def _write_scores(report: Report, file: Path) -> None:
    from lpzero_hf.files import write_text

    rows = []
    for i, entry in enumerate(report.trained):
        values = (values[i] for values in report.scores.values())
        rows.append([entry.key, repr(entry.quality), *("" if v is None else repr(v) for v in values)])
    write_text(file, csv_text(["architecture", "truth", *report.scores], rows))
