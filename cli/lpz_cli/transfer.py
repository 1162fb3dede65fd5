"""`lpz bench transfer`: what proxies and searches are worth on benchmarks that were left out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.bench import brief, counted, three
from lpz_cli.grouping import grouped
from lpz_cli.kept_warnings import KeptWarnings
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_csv, print_json, print_table, say, tell
from lpz_cli.progress import stages
from lpz_cli.repeated import refuse_repeated
from lpz_cli.search import Searching
from lpz_cli.unread import refuse_unread
from lpzero_hf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpzero_hf.benchmarks.across import BenchmarkCell, MeanAcross
    from lpzero_hf.searching.transfer_rows import TransferResult, TransferRow


@grouped
def transfer(
    context: typer.Context,
    benchmarks: Annotated[list[str], typer.Argument(metavar="BENCH...", help="Benchmarks or tables.")],
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy", "-p", help="A proxy's name, or all. Repeatable.", show_default="all that were not searched"
        ),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            metavar="OPTIONS",
            help="Search too, on all benchmarks but the one left out, with these options of `lpz search`, in quotes: "
            "'--fitness matched --unary 2', or '' for the defaults. Repeatable, to compare several.",
        ),
    ] = None,
    consensus: Annotated[
        bool,
        typer.Option(
            "--consensus",
            help="Also the consensus of the proxies: the geometric mean of those that agree with every other "
            "benchmark at equal size.",
        ),
    ] = False,
    ceiling: Annotated[
        bool, typer.Option("--ceiling", help="With --search: also search on all benchmarks at once, a bound.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the searches and the result.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the searches in --out.")] = False,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Sequences in the minibatch of proxies; else the benchmark's."),
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option("--seq-len", min=2, help="Tokens per sequence for proxies; else the benchmark's.")
    ] = None,
    limit: options.Limit = None,
    more: Annotated[bool, typer.Option("--more", help="Show the intervals on every benchmark.")] = False,
    no_plugin: options.NoPlugin = None,
    *,
    matching: options.Matching,
    conditions: options.Conditions,
    workers: options.Workers,
    form: options.Form,
    table: options.Tables,
) -> None:
    """Grade proxies and searches on benchmarks that were left out of every choice.

    Each benchmark is left out once: a search sees all architectures of the others, and what it chooses is graded on the
    one left out. Proxies that need no search are graded on every benchmark. Scores and tables are cached; --resume goes
    on with searches that were interrupted.

    Example: `lpz bench transfer flexibert gpt2-wt103 tiny-lm -p snip --search '--fitness matched'`
    """
    refuse_unread(context, ["more"], form.whole, f"with {form.whole}, which holds every interval; leave it out")
    if resume and out is None:
        raise UsageError("--resume needs the folder of the searches; name it with --out")
    if ceiling and not search:
        raise UsageError("--ceiling bounds a search; add --search ''")
    texts = [shlex.join(_split(text)) for text in search or ()]
    if len(set(texts)) < len(texts):
        raise UsageError("two --search have the same options; give each once")
    chosen = {f"searched {text}".strip() if len(texts) > 1 else "searched": searching_of(text) for text in texts}

    load_libraries()
    from lpzero_hf.plugins import load_plugins
    from lpzero_hf.searching.transfer import transfer as run

    registry = load_plugins(no_plugin or ())
    read = table.options(benchmarks)
    searches = {name: one.config(benchmarks, conditions, matching, train=None) for name, one in chosen.items()}
    device = conditions.setting(1, 2).device
    warned = KeptWarnings()
    with warned.keeping(), workers.start(device, registry) as executor, stages() as progress:
        result = run(
            benchmarks, proxy, searches, consensus=consensus,
            setting=lambda b: conditions.setting(batch_size or b.batch_size, seq_len or b.seq_len),
            ceiling=ceiling, limit=limit, table=read, match=matching.match, within=matching.within,
            out=out, resume=resume, executor=executor, plugins=registry, progress=progress,
        )  # fmt: skip
    if form.json:
        print_json(result.to_dict() | {"warnings": warned})
    elif form.csv:
        told = "; ".join(warned)
        print_csv(COLUMNS, [[*line, told] for row in result.rows for line in _lines(row, result)])
    else:
        _as_tables(result, more)
    for row in result.rows:
        for name, reasons in row.unscored.items():
            for why, count in reasons.items():
                if why.startswith(("failed", "invalid")):
                    tell(f"warning: {row.name} has no score of {count} architectures of {name}, {why}")


def searching_of(text: str) -> Searching:
    """The options of a search in a text, as `lpz search` takes them. Raises an error of wrong usage for any other."""
    made: list[Searching] = []

    def take(context: typer.Context, searching: Searching) -> None:
        searching.refuse_unread(context)
        made.append(searching)

    app = typer.Typer(add_completion=False)
    app.command()(grouped(take))
    command = typer.main.get_command(app)
    refuse_repeated(command)
    command.main(_split(text), prog_name="--search", standalone_mode=False)
    if not made:
        raise UsageError("--search takes options of a search, such as '--fitness matched', and no --help")
    return made[0]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:  # a quote that is not closed
        raise UsageError(f"--search '{text}' cannot be read ({error}); put its options in one pair of quotes") from None


# Tables ----------------------------------------------------------------------------------------------------

COLUMNS = (
    "proxy", "kind", "over", "benchmark", "n", "spearman", "spearman_low", "spearman_high",
    "matched", "matched_low", "matched_high", "pairs", "match", "within", "found", "unscored",
    "warnings",
)  # fmt: skip


def _lines(row: TransferRow, result: TransferResult) -> list[list[Any]]:
    """The lines of one row as CSV: each benchmark, the mean and the worst."""
    sizes, rho, matched = result.columns[0].sizes, row.grade.spearman, row.grade.matched
    made: list[list[Any]] = [
        [
            row.name, row.kind, "benchmark", name, cell.n, *three(cell.spearman), *three(cell.matched), cell.pairs,
            sizes.match, sizes.within, _spelled(row, name), counted(row.unscored.get(name, {})),
        ]
        for name, cell in row.grade.cells.items()
    ]  # fmt: skip
    empty = ("", "")
    ends = ("", sizes.match, sizes.within, "", "")
    made.append([row.name, row.kind, "mean", "", matched.n, *three(rho.mean), *three(matched.mean), *ends])
    worst = ["" if value is None else value for value in (rho.worst, matched.worst)]
    made.append([row.name, row.kind, "worst", "", matched.n, worst[0], *empty, worst[1], *empty, *ends])
    return made


def _as_tables(result: TransferResult, more: bool) -> None:
    names = _short([column.name for column in result.columns])
    sizes = result.columns[0].sizes
    header = ["ranked by", "kind", *names.values(), "mean", "worst", "n"]
    rows = [
        [
            row.name, row.kind, *(_pair(cell) for cell in row.grade.cells.values()),
            _two(_value(row.grade.spearman), _value(row.grade.matched)),
            _two(row.grade.spearman.worst, row.grade.matched.worst), _count(row),
        ]
        for row in result.rows
    ]  # fmt: skip
    print_table("Spearman's rho, and agreement at equal size", header, rows, range(2, len(header)))
    say(
        f"At equal size: the share of better ones minus that of worse ones that score higher, over pairs within "
        f"{sizes.within:g} times {sizes.match}. n: benchmarks in the means; rows that lack one come last."
        + ("" if more else " `--more` shows intervals.")
    )
    _means_table(result)
    if more:
        for title, kind in (("Spearman's rho [95%]", "spearman"), ("At equal size [95%]", "matched")):
            cells = [
                [row.name, *(f"{brief(getattr(c, kind))} {c.n}" for c in row.grade.cells.values())]
                for row in result.rows
            ]
            header = ["ranked by", *(f"{name}, n" for name in names.values())]
            print_table(title, header, cells, range(1, len(header)))
    found = [[row.name, names[name], _spelled(row, name)] for row in result.rows for name in row.found]
    if found:
        print_table("Chosen without the benchmark left out", ["ranked by", "left out", "chosen"], found)
    for held, others in result.left_out.items():
        for other, count in others.items():
            say(f"{count} architectures of {other} are in {held} too; the searches without {held} did not see them.")


def _means_table(result: TransferResult) -> None:
    """The means with their intervals: the best row of each kind, or all that were searched."""
    first: dict[str, TransferRow] = {}
    for row in result.rows:
        first.setdefault(row.name if row.kind == "searched" else row.kind, row)
    rows = [
        [row.name, row.kind, brief(row.grade.spearman.mean), brief(row.grade.matched.mean)] for row in first.values()
    ]
    print_table("Means: the best of each kind", ["ranked by", "kind", "rho [95%]", "at equal size [95%]"], rows, [2, 3])


def _pair(cell: BenchmarkCell) -> str:
    return _two(*(None if e is None else e.value for e in (cell.spearman, cell.matched)))


def _value(measure: MeanAcross) -> float | None:
    return None if measure.mean is None else measure.mean.value


def _two(rho: float | None, matched: float | None) -> str:
    return " ".join("    —" if value is None else f"{value:+.2f}" for value in (rho, matched))


def _count(row: TransferRow) -> str:
    """The benchmarks in the means: of rho, and of agreement at equal size where that is another number."""
    counts = (row.grade.spearman.n, row.grade.matched.n)
    return " ".join(map(str, dict.fromkeys(counts)))


def _spelled(row: TransferRow, name: str) -> str:
    from lpzero_hf.artifacts.artifact import weighted

    found = row.found.get(name, ())
    return "\n".join(weighted([text for text, _ in found], [sign for _, sign in found]))


def _short(names: Sequence[str]) -> dict[str, str]:
    """The last parts of paths, where these differ."""
    last = [Path(name).name for name in names]
    return dict(zip(names, last if len(set(last)) == len(names) else names, strict=True))
