"""`lpz nas`: the architecture that a proxy prefers under a budget of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.output import print_json, print_table, say, tell
from lpz_cli.progress import counting
from lpz_cli.score import shown
from lpzero_hf.errors import UsageError

if TYPE_CHECKING:
    from lpz_nas import Found


@grouped
def nas(
    space: Annotated[
        str | None, typer.Argument(metavar="[SPACE]", help="A space, see `lpz zoo`; with --among, that of BENCH.")
    ] = None,
    *,
    proxy: Annotated[str, typer.Option("--proxy", "-p", help="What to maximise: a proxy's name or an expression.")],
    max_params: Annotated[
        int,
        typer.Option(
            "--max-params", parser=options.parameters, metavar="N", help="The most parameters: 5000000 or 5M."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the study, the result and the winner.")],
    min_params: Annotated[
        int | None, typer.Option("--min-params", parser=options.parameters, metavar="N", help="The fewest parameters.")
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Different architectures to score.")] = 100,
    among: Annotated[
        str | None,
        typer.Option(
            "--among",
            metavar="BENCH",
            help="Only the trained architectures of this benchmark or table, without use of their trained performance.",
        ),
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Search for the whole front of score against parameters.")
    ] = False,
    resume: options.Resume = False,
    plots: Annotated[bool, typer.Option("--plots", help="Draw the front into the folder.")] = False,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Sequences in the minibatch; else 16 or the benchmark's.")
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option("--seq-len", min=2, help="Tokens per sequence; else 64 or the benchmark's.")
    ] = None,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
    conditions: options.Conditions,
    workers: options.Workers,
    table: options.Tables,
) -> None:
    """Find an architecture under a budget of parameters, without training any.

    Optuna proposes architectures, and the proxy scores them. Architectures over the budget are counted, but not built.
    The winner is written with random weights. An interrupted search continues with --resume, with the same result.
    Several --workers help only with --among: each proposal of Optuna depends on the earlier scores.

    Example: `lpz nas tiny-gpt2 --proxy synflow --max-params 1000000 --trials 50 --out nas`
    """
    if plots:
        from lpz_cli.plots.scatter import need_matplotlib

        need_matplotlib()

    from lpz_nas import Budget, find_architecture

    from lpzero_hf.benchmarks.benchmark import load_benchmark
    from lpzero_hf.plugins import load_plugins
    from lpzero_hf.scoring.cache import ScoreCache

    budget = Budget(max_params, min_params)
    registry = load_plugins(no_plugin or ())
    rows, tokens = 16, 64
    how = table.options([] if among is None else [among])
    if among is not None:
        benchmark = load_benchmark(among, registry, how)
        rows, tokens = benchmark.batch_size, benchmark.seq_len
    setting = conditions.setting(batch_size or rows, seq_len or tokens)
    executor = workers.start(setting.device, registry)
    if among is None and workers.executor not in (None, "local"):
        raise UsageError(
            f"--executor {workers.executor} works only with --among BENCH; add it, or use --executor local"
        )
    with (
        executor,
        ScoreCache() as cache,
        counting("architectures scored") as progress,
    ):
        found = find_architecture(
            space, proxy, budget, trials=trials, out=out, resume=resume, among=among, table=how, front=front,
            setting=setting, cache=cache, executor=executor, plugins=registry, progress=progress,
        )  # fmt: skip
    if plots:
        from lpz_cli.plots.nas_plots import draw_front

        draw_front(found, out / "plots" / "front.png")
    if json:
        print_json(found.to_json())
    else:
        _as_tables(found, str(budget), out)


def _as_tables(found: Found, budget: str, out: Path) -> None:
    request = found.request
    proxy, among = request["proxy"], request["among"]
    scored = [tried for tried in found.trials if tried.score is not None]
    where = f"{request['space']}, among {among}" if among else request["space"]
    title = f"{where} · {budget} · the front of {proxy} against parameters, of {len(scored)} architectures"
    rows = [
        [f"{tried.params:,}", shown(tried.score), f"{request['space']}:{tried.architecture}"]
        for tried in found.front
        if tried.score is not None
    ]
    print_table(title, ["parameters", proxy, "architecture"], rows, [0, 1])
    say(
        f"{found.proposed:,} architectures looked at, {len(scored):,} scored, {found.seconds:.1f} s. "
        f"The winner, the last of the front, is in {out / 'winner'}"
    )
    if found.left_out:
        print(
            f"{proxy} was searched on {found.left_out} of the architectures of {among}, and chooses among the others."
        )
    missing = [tried for tried in found.trials if tried.score is None]
    if missing:
        first = missing[0]
        tell(
            f"warning: {proxy} has no score of {len(missing)} architectures, {first.architecture} for example, "
            f"{first.reason}"
        )
