"""`lpz rank`: the best architectures of a space, by proxies."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.output import print_csv, print_json, print_table, quiet_stdout
from lpz_cli.progress import counting
from lpz_cli.score import shown
from lpzero_hf.errors import UsageError
from lpzero_hf.plugins import load_plugins


def rank(
    space: Annotated[str, typer.Argument(help="A space, see `lpz zoo`.")],
    proxy: Annotated[list[str], typer.Option("--proxy", "-p", help="A proxy's name. Several vote by mean rank.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Architectures to draw.")] = 100,
    top: Annotated[int, typer.Option("--top", min=1, help="Rows of the table; --json and --csv hold all.")] = 20,
    sample: options.Sample = options.Sampling.choice,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Sequences in the minibatch.")] = 16,
    seq_len: Annotated[int, typer.Option("--seq-len", min=2, help="Tokens per sequence.")] = 64,
    text: options.Text = None,
    random_tokens: options.RandomTokens = False,
    workers: options.Workers = None,
    threads: options.Threads = 1,
    dtype: options.Dtype = options.Precision.float32,
    seed: options.Seed = 42,
    device: options.Device = "auto",
    json: options.Json = False,
    csv: options.Csv = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Draw architectures of a space and rank them without training any.

    Example: `lpz rank tiny-gpt2 --proxy synaptic_diversity --n 100`
    """
    if json and csv:
        raise UsageError("--json and --csv are two forms of the same output; choose one")
    with quiet_stdout():
        registry = load_plugins(no_plugin or ())
        from lpzero_hf.cache import ScoreCache
        from lpzero_hf.evaluation import Setting
        from lpzero_hf.ranking import rank as rank_architectures

        chosen = str(options.resolve_device(device))
        setting = Setting(batch_size, seq_len, text, random_tokens, seed, dtype.value, chosen)
        with counting("architectures scored") as tell:
            ranking = rank_architectures(
                space, proxy, n=n, by=sample.value, setting=setting, cache=ScoreCache(),
                workers=options.worker_count(workers, chosen), threads=threads, plugins=registry, progress=tell,
            )  # fmt: skip
    names = list(ranking[0].rows)
    rows: list[dict[str, Any]] = [
        {"place": place, "architecture": f"{space}:{ranked.name}", "rank": ranked.rank}
        | {name: ranked.rows[name]["value"] for name in names}
        for place, ranked in enumerate(ranking, 1)
    ]
    if json:
        print_json({"space": space, "ranking": rows})
    elif csv:
        print_csv(list(rows[0]), [["" if value is None else value for value in row.values()] for row in rows])
    else:
        cells = [
            [
                str(row["place"]),
                *("—" if row[name] is None else shown(row[name]) for name in names),
                row["architecture"],
            ]
            for row in rows[:top]
        ]
        title = f"The best {min(top, len(rows))} of {len(rows)} architectures of {space}"
        print_table(title, ["place", *names, "architecture"], cells, range(len(names) + 1))
    for ranked in ranking:
        for name, row in ranked.rows.items():
            if row["value"] is None:
                typer.echo(f"warning: {name} has no score of {ranked.name}, {row['status']}: {row['reason']}", err=True)
