"""`lpz search`: find expressions that rank the architectures of a benchmark."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.kept_warnings import KeptWarnings
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_json, print_table, say
from lpz_cli.progress import stages
from lpz_cli.unread import refuse_unread
from lpzero_hf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpzero_hf.benchmarks.agreement import Agreement
    from lpzero_hf.searching.config import SearchConfig
    from lpzero_hf.searching.result import SearchResult, Split, Winner

Strategy = Literal["evolution", "random", "exhaustive"]
Fold = Literal["sum", "mean", "any"]
KINDS = ("spearman", "kendall", "matched")
SUMMED = ("Spearman's rho", "Kendall's tau-b", "at equal size")
Combine = Literal["mean", "worst"]
Preset = Literal["default", "paper"]


@dataclass(frozen=True)
class Searching:
    """What is searched, by which fitness and how; wherever a command searches."""

    strategy: Annotated[Strategy, typer.Option("--strategy", "-s", help="How to search.")] = "evolution"
    unary: Annotated[
        str, typer.Option("--unary", help="Unary operations in each branch, 1 to 4; `2,1` for different branches.")
    ] = "1"
    reduce: Annotated[Fold, typer.Option("--reduce", help="Fold over the elements of a block.")] = "any"
    aggregate: Annotated[Fold, typer.Option("--aggregate", help="Fold over blocks.")] = "any"
    roles: Annotated[
        bool, typer.Option("--roles", help="Also by role: W, G, A, J of feed-forward layers and of mixers.")
    ] = False
    fitness: Annotated[
        Literal["spearman", "kendall", "matched", "mixed"],
        typer.Option("--fitness", help="Rank correlation, agreement at matched size, or the mean of both."),
    ] = "spearman"
    combine: Annotated[Combine, typer.Option("--combine", help="Several benchmarks.")] = "mean"
    select: Annotated[Literal["bagging", "best"], typer.Option("--select", help="How the winner is chosen.")] = (
        "bagging"
    )
    no_prune: Annotated[bool, typer.Option("--no-prune", help="Evaluate every candidate that is drawn.")] = False
    early: Annotated[
        int, typer.Option("--early", min=0, help="Architectures to evaluate first; 0 evaluates all at once.")
    ] = 10
    preset: Annotated[
        Preset, typer.Option("--preset", help="Of an evolution: in generations, or as in LPZero, child by child.")
    ] = "default"
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Candidates that are proposed, pruned and scored together.")
    ] = None
    iterations: Annotated[
        int | None,
        typer.Option("--iterations", min=1, help="Children of an evolution; by default as many as the preset makes."),
    ] = None
    population: Annotated[int, typer.Option("--population", min=2, help="Of an evolution.")] = 80
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Sequences in the minibatch.", show_default="4")
    ] = None
    seq_len: Annotated[int | None, typer.Option("--seq-len", min=2, help="Tokens per sequence.", show_default="32")] = (
        None
    )
    minibatch: Annotated[
        list[str] | None,
        typer.Option(
            "--minibatch", metavar="BxT", help="A minibatch of B sequences of T tokens. Repeatable: do well on each."
        ),
    ] = None
    init_seed: Annotated[
        list[int] | None,
        typer.Option(
            "--init-seed",
            min=0,
            max=options.LARGEST_SEED,
            help="Seed of the weights alone. Repeatable: do well with each.",
        ),
    ] = None
    over_settings: Annotated[
        Combine, typer.Option("--over-settings", help="Several minibatches or seeds of the weights.")
    ] = "mean"

    @property
    def in_generations(self) -> bool:
        """Whether it is an evolution that scores whole generations."""
        return self.strategy == "evolution" and self.preset == "default"

    def refuse_unread(self, context: typer.Context) -> None:
        """Raise `UsageError` if an option was given that this way to search does not read."""
        how = f"--strategy {self.strategy}"
        listing = ("iterations", "population", "preset", "batch", "no_prune", "early")
        every = f"with {how}, which evaluates every expression; leave it out"
        refuse_unread(context, listing, self.strategy == "exhaustive", every)
        refuse_unread(context, ["preset"], self.strategy != "evolution", f"with {how}; it is of --strategy evolution")
        refuse_unread(
            context, ["population", "early"], self.in_generations,
            "with --preset default, which scores whole generations; leave it out, or use --preset paper",
        )  # fmt: skip
        refuse_unread(
            context, ["early"], self.fitness != "spearman",
            f"with --fitness {self.fitness}; it bounds --fitness spearman, leave it out",
        )  # fmt: skip
        several = len(self.minibatch or ()) > 1 or len(self.init_seed or ()) > 1
        one = "with a single --minibatch and --init-seed; give several of one of these, or leave it out"
        refuse_unread(context, ["over_settings"], not several, one)

    def config(
        self, benchmarks: Sequence[str], conditions: options.Conditions, matching: options.Matching, **others: Any
    ) -> SearchConfig:
        """The settings of a search; `others` are those of `SearchConfig` that commands set themselves."""
        from lpzero_hf.searching.config import SearchConfig

        return SearchConfig(
            tuple(benchmarks), self.strategy, _lengths(self.unary), _folds(self.reduce), _folds(self.aggregate),
            fitness=self.fitness, combine=self.combine, select=self.select, prune=not self.no_prune, early=self.early,
            preset=self.preset, batch=self.batch, iterations=self.iterations, population=self.population,
            seed=conditions.seed,
            setting=conditions.setting(self.batch_size or 4, self.seq_len or 32),
            minibatches=_minibatches(self.minibatch or (), self.batch_size, self.seq_len),
            init_seeds=tuple(self.init_seed or ()), over_settings=self.over_settings,
            match=matching.match, within=matching.within, roles=self.roles, **others,
        )  # fmt: skip


@grouped
def search(
    context: typer.Context,
    benchmarks: Annotated[list[str], typer.Argument(metavar="BENCH...", help="One benchmark or table, or several.")],
    searching: Searching,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for history, checkpoints, result and plots.")
    ] = None,
    resume: options.Resume = False,
    train: Annotated[int, typer.Option("--train", min=0, help="Architectures to search on; 0 for all.")] = 50,
    splits: Annotated[int, typer.Option("--splits", min=1, help="Searches, each on other architectures.")] = 1,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="End the search on each split after so long, with its result.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start", help="Folder of a search whose fittest expressions are looked at first.")
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option("--test", help="Another benchmark, to test the winners on. Repeatable.")
    ] = None,
    ceiling: Annotated[bool, typer.Option("--ceiling", help="Also search on all architectures: a bound.")] = False,
    limit: options.Limit = None,
    plots: Annotated[bool, typer.Option("--plots", help="Draw figures in the folder --out.")] = False,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
    *,
    matching: options.Matching,
    conditions: options.Conditions,
    workers: options.Workers,
    table: options.Tables,
) -> None:
    """Search for symbolic expressions whose scores rank architectures as training would.

    Each architecture is captured once; its tables are kept in the cache. The winner is chosen on the architectures
    searched on, and graded on those held out.

    Example: `lpz search tiny-lm --strategy exhaustive --train 50 --splits 3`
    """
    searching.refuse_unread(context)
    refuse_unread(context, ["combine"], len(benchmarks) == 1, "on a single BENCH; leave it out, or name several")
    how = "--preset paper" if searching.strategy == "evolution" else f"--strategy {searching.strategy}"
    refuse_unread(
        context, ["start"], not searching.in_generations, f"with {how}; leave one of them out"
    )  # fmt: skip
    if (plots or resume) and out is None:
        raise UsageError("--plots and --resume need the folder of the search; name it with --out")
    if plots:
        from lpzero_hf.scoring.display import need_matplotlib

        need_matplotlib()

    load_libraries()
    from lpzero_hf.plugins import load_plugins
    from lpzero_hf.searching.search import search as run

    registry = load_plugins(no_plugin or ())
    config = searching.config(
        benchmarks, conditions, matching,
        train=train or None, splits=splits, limit=limit, table=table.options([*benchmarks, *(test or ())]),
    )  # fmt: skip
    warned = KeptWarnings()
    with warned.keeping(), workers.start(config.setting.device, registry) as executor, stages() as progress:
        result = run(
            config, out=out, resume=resume, test=test or (), ceiling=ceiling, minutes=minutes, start=start,
            executor=executor, plugins=registry, progress=progress,
        )  # fmt: skip
    if plots and out is not None:
        from lpz_cli.plots.search_plots import draw_search

        draw_search(out, result)
    if json:
        print_json(result.to_json() | {"warnings": warned})
    else:
        _as_tables(result, out)


def _lengths(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--unary takes one number or two, such as 2 or 2,1, not '{text}'")
    numbers = [int(part) for part in parts]
    return numbers[0], numbers[-1]


def _minibatches(
    given: Sequence[str], batch_size: int | None, seq_len: int | None
) -> tuple[tuple[int, int], ...]:  # fmt: skip
    if given and (batch_size, seq_len) != (None, None):
        raise UsageError("--minibatch says both numbers; leave out --batch-size and --seq-len")
    sizes = []
    for text in given:
        match = re.fullmatch("([0-9]{1,9})x([0-9]{1,9})", text)
        if match is None:
            raise UsageError(f"--minibatch takes sequences and tokens of each, such as 4x32, not '{text[:40]}'")
        sizes.append((int(match[1]), int(match[2])))
    return tuple(sizes)


def _folds(fold: Fold) -> tuple[str, ...]:
    return ("sum", "mean") if fold == "any" else (fold,)


# Tables ----------------------------------------------------------------------------------------------------


def _as_tables(result: SearchResult, out: Path | None) -> None:
    from lpzero_hf.searching.result import MEASURES

    config = result.config
    names = [*config.benchmarks]
    what = " and ".join(names)
    title = (
        f"{what} · {config.strategy} over {result.size:,} expressions · "
        f"{'all' if config.train is None else config.train} architectures searched on"
    )
    header = ["split", "train", *(f"{name} rho (tau) held out" for name in names), "winner"]
    rows = [
        [str(number), _train(split, names), *(_held(split.winner, name) for name in names), _spelled(split.winner)]
        for number, split in enumerate(result.splits)
    ]
    print_table(title, header, rows, range(1, 2 + len(names)))
    ensembles = [
        [str(number), *(_held(split.ensemble, name) for name in names), _spelled(split.ensemble)]
        for number, split in enumerate(result.splits)
    ]
    print_table("Rank ensembles", ["split", *header[2:-1], "members"], ensembles, range(1, 1 + len(names)))
    summary = [
        [name, row, *(_spread(made, kind) for kind in KINDS)]
        for name, found in result.summary().items()
        for row, made in found.items()
    ]
    if summary:
        splits = len(result.splits)
        caption = f"Held out, mean ± standard deviation of {splits} splits" if splits > 1 else "Held out, of one split"
        print_table(caption, ["benchmark", "ranked by", *SUMMED], summary, [2, 3, 4])
        _say_settings(result)
        say(f"At equal size: over pairs of architectures within {config.within:g} times {config.match}.")
    seen = [row for row in result.to_rows() if row["architectures"] == "searched on"]
    if all(not split.winner.held_out for split in result.splits):
        cells = [[row["benchmark"], row["scored by"], *(_number(row[of]) for of in MEASURES.values())] for row in seen]
        print_table("Searched on, not a result", ["benchmark", "ranked by", *SUMMED], cells, [2, 3, 4])
    first = result.splits[0]
    front = [[str(c.expression.complexity), f"{c.fitness:.4f}", str(c.expression)] for c in first.pareto]
    print_table("Fitness against complexity, first split", ["complexity", "fitness", "expression"], front, [0, 1])
    if result.ceiling is not None:
        say(
            f"The fittest expression on all architectures, an upper bound and not a result: "
            f"{result.ceiling.fitness:.4f} {result.ceiling.expression}"
        )
    counts = [f"{count:,} {reason}" for reason, count in [*first.pruned.items(), *first.rejected.items()]]
    say(
        f"First split: {first.evaluated:,} evaluated in {first.seconds:.1f} s"
        + ("" if first.complete else ", where --minutes ended it")
        + (f"; rejected: {', '.join(counts)}" if counts else "")
        + f". Capture took {result.seconds['capture']:.1f} s, everything {result.seconds['all']:.1f} s."
    )
    if out is not None:
        say(f"{out / 'result.json'}")


def _say_settings(result: SearchResult) -> None:
    """A table of the agreement under each setting, where there are several."""
    config = result.config
    if not config.several:
        return
    whole = result.summary()
    rows = [
        [name, row, label, *(_spread(made, kind) for kind in KINDS)]
        for name, found in whole.items()
        for row in found
        for label, under in result.setting_summaries().items()
        if (made := under[name].get(row))
    ]
    ranges = [
        [name, row, "lowest to highest", *(_range(made, kind) for kind in KINDS)]
        for name, found in whole.items()
        for row, made in found.items()
        if any(f"{kind}_lowest" in made for kind in KINDS)
    ]
    caption = (
        f"Held out under each setting; the fitness is the {config.over_settings} of them, other tables show the mean"
    )
    print_table(caption, ["benchmark", "ranked by", "setting", *SUMMED], [*rows, *ranges], [3, 4, 5])


def _range(made: dict[str, float | int], kind: str) -> str:
    if f"{kind}_lowest" not in made:
        return "—"
    return f"{made[f'{kind}_lowest']:+.4f} to {made[f'{kind}_highest']:+.4f}"


def _spelled(winner: Winner) -> str:
    from lpzero_hf.artifacts.artifact import weighted

    return "\n".join(weighted(map(str, winner.expressions), winner.orientations))


def _train(split: Split, names: list[str]) -> str:
    return ", ".join(_rho(split.winner.train[name]) for name in names)


def _rho(agreement: Agreement) -> str:
    return "—" if agreement.spearman is None else f"{agreement.spearman.value:+.3f}"


def _held(winner: Winner, name: str) -> str:
    agreement = winner.held_out.get(name)
    if agreement is None or agreement.spearman is None or agreement.kendall is None:
        return "—"
    rho, tau = agreement.spearman, agreement.kendall
    return f"{rho.value:+.3f} {rho.between('{:+.3f}'.format)} ({tau.value:+.3f})"


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:+.4f}"


def _spread(made: dict[str, float | int], kind: str) -> str:
    if kind not in made:
        return "—"
    return f"{made[kind]:+.4f}" + (f" ± {made[f'{kind}_sd']:.4f}" if f"{kind}_sd" in made else "")
