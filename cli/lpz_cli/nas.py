"""`lpz nas`: the best architectures by proxies and costs, under limits of costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.kept_warnings import KeptWarnings
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_json, print_table, say, tell
from lpz_cli.progress import counting
from lpz_cli.score import shown
from lpz_cli.unread import refuse_unread
from lpzero_hf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpz_nas import Explored, Found
    from lpz_nas.goals import Goal, Limit


@grouped
def nas(
    context: typer.Context,
    space: Annotated[
        str | None, typer.Argument(metavar="[SPACE]", help="A space, see `lpz zoo`; with --among, that of BENCH.")
    ] = None,
    *,
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy",
            "-p",
            metavar="P",
            help="What to maximise: a proxy's name or an expression; as --objective proxy:P. Once.",
        ),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            "-o",
            metavar="O",
            help="proxy:NAME, to be large, or the name of a cost (see `lpz cost`), to be small. Several give "
            "a Pareto front.",
        ),
    ] = None,
    most: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="COST=N", help="The most of a cost: params=50M, latency=20ms. Repeatable."),
    ] = None,
    least: Annotated[
        list[str] | None, typer.Option("--min", metavar="COST=N", help="The least of a cost. Repeatable.")
    ] = None,
    max_params: Annotated[
        int | None,
        typer.Option(
            "--max-params", parser=options.parameters, metavar="N", help="The most parameters: 5000000, 5M or 5e6."
        ),
    ] = None,
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
    strategy: Annotated[
        Literal["auto", "exact", "nsga2", "tpe", "random", "evolution"] | None,
        typer.Option(
            "--strategy",
            help="exact: every architecture; nsga2, tpe: of Optuna; evolution: of LiteTransformerSearch; random.",
            show_default="exact for a space of at most --trials, else tpe for one objective, nsga2 for several",
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
    serving: options.Serving,
) -> None:
    """Find architectures under budgets, without training any.

    Optuna proposes architectures; their costs are found out, the cheap ones before a model is built, and proxies score
    what is within the limits. Latency is measured last. One objective gives a winner, several a Pareto front, each
    member with its config.json. With a proxy and a budget of parameters alone, the winner is written with random
    weights. An interrupted search continues with --resume, with the same result but for measurements. Several --workers
    help only with --among, a proxy and parameters: each proposal of Optuna depends on the earlier scores.

    Example: `lpz nas llama -o proxy:lpzero-any -o kv_cache --max params=50M --max latency=20ms --out nas`
    """
    if plots:
        from lpzero_hf.scoring.display import need_matplotlib

        need_matplotlib()

    load_libraries()
    from lpz_nas import Budget, explore, find_architecture, read_goals, read_limits

    from lpzero_hf.benchmarks.benchmark import load_benchmark
    from lpzero_hf.plugins import load_plugins
    from lpzero_hf.proxies.resolve import parted
    from lpzero_hf.scoring.cache import ScoreCache
    from lpzero_hf.spaces.named import load_space

    proxies, objective = parted(proxies or ()), parted(objective or ())
    if len(proxies) > 1:
        as_objectives = " ".join(f"--objective proxy:{one}" for one in proxies)
        raise UsageError(f"a search has one --proxy; for a Pareto front of several, write {as_objectives}")
    proxy = proxies[0] if proxies else None
    general = bool(objective or most or least or strategy or serving.cost_table)
    if not general and (proxy is None or max_params is None):
        raise UsageError(
            "say what to search for under which budget: --objective O and --max COST=N, or --proxy P and --max-params N"
        )
    if general:
        refuse_unread(context, ["trials"], among is not None, "with --among, which compares all of it; leave it out")
        refuse_unread(
            context, ["trials"], strategy == "exact", "with --strategy exact, which takes every one; leave it out"
        )
        refuse_unread(
            context, ["workers"], (workers.workers or 1) > 1,
            "with --objective, --max, --min, --strategy or --cost-table, which work in this process; leave it out",
        )  # fmt: skip
    else:
        bare = "with only --proxy and --max-params, which need no cost; leave it out, or add --objective or --max"
        refuse_unread(context, ("prompts", "prompt_len", "repeats", "warmup"), True, bare)
        alone = "without --among, where each proposal depends on the scores before it; leave it out"
        refuse_unread(context, ["workers"], among is None and (workers.workers or 1) > 1, alone)
    registry, warned = load_plugins(no_plugin or ()), KeptWarnings()
    rows, tokens = 16, 64
    how = table.options([] if among is None else [among])
    if among is not None:
        with warned.keeping():
            benchmark = load_benchmark(among, registry, how)
        rows, tokens = benchmark.batch_size, benchmark.seq_len
    setting = conditions.setting(batch_size or rows, seq_len or tokens)
    if general:
        if workers.executor not in (None, "local"):
            raise UsageError(f"--executor {workers.executor} works only with a proxy and parameters; leave it out")
        home = None if space is None else load_space(space, registry)
        tables = serving.tables(home, registry)
        objectives = [f"proxy:{proxy}"] * (proxy is not None) + [*objective] + ["params"] * front
        limits = read_limits(
            [*(most or []), *([] if max_params is None else [f"params={max_params}"])],
            [*(least or []), *([] if min_params is None else [f"params={min_params}"])],
            registry, tables,
        )  # fmt: skip
        goals = read_goals(objectives, registry, tables)
        _refuse_unread_by(context, goals, limits)
        deployment = serving.deployment(
            conditions.dtype, conditions.device, workers.threads, conditions.attn, conditions.seed
        )
        with warned.keeping(), ScoreCache() as cache, counting("architectures appraised") as progress:
            explored = explore(
                home, goals, limits, out=out, trials=trials, strategy=strategy or "auto", resume=resume, among=among,
                table=how, deployment=deployment, setting=setting, cache=cache, threads=workers.threads,
                plugins=registry, progress=progress,
            )  # fmt: skip
        if plots:
            from lpz_cli.plots.nas_plots import draw_front

            draw_front(explored, out / "plots" / "front.png")
        if json:
            print_json(explored.to_json() | {"warnings": warned})
        else:
            _as_front(explored, out)
        _warn(explored)
        return
    assert proxy is not None
    budget = Budget(max_params, min_params)
    executor = workers.start(setting.device, registry)
    if among is None and workers.executor not in (None, "local"):
        raise UsageError(
            f"--executor {workers.executor} works only with --among BENCH; add it, or use --executor local"
        )
    with (
        warned.keeping(),
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
        print_json(found.to_json() | {"warnings": warned})
    else:
        _as_tables(found, str(budget), out)


SCORED = (
    "batch_size", "seq_len", "text", "dataset", "dataset_config", "split", "column", "random_tokens", "same_init",
)  # fmt: skip


def _refuse_unread_by(context: typer.Context, goals: Sequence[Goal], limits: Sequence[Limit]) -> None:
    """Raise `UsageError` for an option of scores where no proxy scores, or of times where nothing is timed."""
    from lpzero_hf.scoring.costs import Cost

    costs = [one for one in (*(goal.by for goal in goals), *(limit.cost for limit in limits)) if isinstance(one, Cost)]
    scored = any(not isinstance(goal.by, Cost) for goal in goals)
    no_score = "with --objective of costs alone, which score nothing; leave it out, or add --objective proxy:P"
    refuse_unread(context, SCORED, not scored, no_score)
    timed = any(cost.stage == "run" for cost in costs)
    no_time = "with --objective and --max of nothing that is timed; leave it out, or limit latency"
    refuse_unread(context, ("repeats", "warmup"), not timed, no_time)


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
        say(f"{proxy} was searched on {found.left_out} of the architectures of {among}, and chooses among the others.")
    missing = [tried for tried in found.trials if tried.score is None]
    if missing:
        first = missing[0]
        tell(
            f"warning: {proxy} has no score of {len(missing)} architectures, {first.architecture} for example, "
            f"{first.reason}"
        )


def _as_front(explored: Explored, out: Path) -> None:
    goals, request = explored.goals, explored.request
    limited = [name.partition("_")[2] for name in request["limits"]]
    shown_costs = [name for name in dict.fromkeys(limited) if name not in {goal.name for goal in goals}]
    rows = [
        [*(goal.show(one.values[goal.name]) for goal in goals), *(shown(one.costs[name]) for name in shown_costs),
         f"{request['space']}:{one.architecture}"]
        for one in explored.front
    ]  # fmt: skip
    what = "the winner" if len(goals) == 1 else "the Pareto front"
    title = f"{request['space']} · {what} of {len(explored.within):,} architectures within the limits"
    header = [*(goal.name for goal in goals), *shown_costs, "architecture"]
    print_table(title, header, rows, range(len(header) - 1))
    say(
        f"{len(explored.outside):,} architectures were outside a limit, {len(explored.failed):,} without a value; "
        f"{request['strategy']}, {explored.seconds:.1f} s. Each of the table has its config.json in {out / 'front'}"
    )
    if explored.left_out:
        say(f"{explored.left_out} architectures of {request['among']} are left out: a proxy was searched on them.")


def _warn(explored: Explored) -> None:
    if explored.failed:
        first = explored.failed[0]
        tell(
            f"warning: {len(explored.failed)} architectures have no value, {first.architecture} for example: "
            f"{first.reason}"
        )
    if warned := [one for one in explored.within if one.warnings]:
        tell(f"warning: {len(warned)} architectures were measured with warnings, for example {warned[0].warnings[0]}")
