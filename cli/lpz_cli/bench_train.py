"""`lpz bench train`: makes a benchmark by training."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_json, say
from lpz_cli.progress import counting
from lpz_cli.unread import refuse_unread
from lpzero_hf.plugins import load_plugins


@grouped
def train(
    context: typer.Context,
    space: options.Space,
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run continues there.")],
    validation: Annotated[
        Path | None,
        typer.Option(
            "--validation", help="Text file, or table, to measure the loss on; default: the last tenth of the text."
        ),
    ] = None,
    validation_split: Annotated[
        str | None, typer.Option("--validation-split", metavar="NAME", help="The split of --dataset to measure it on.")
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", min=1, help="Number of architectures; default: 128, or all of --architectures.")
    ] = None,
    architectures: Annotated[
        Path | None,
        typer.Option("--architectures", metavar="FILE", help="Train these, one text id a line, and draw none."),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=0, help="How many of them get further seeds.")] = 16,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds for those.")] = 3,
    sample: options.Sample = "choice",
    min_params: Annotated[
        int,
        typer.Option(
            "--min-params", parser=options.parameters, metavar="N", help="Fewest parameters without embeddings."
        ),
    ] = 1,
    max_params: Annotated[
        int,
        typer.Option(
            "--max-params", parser=options.parameters, metavar="N", help="Most parameters without embeddings."
        ),
    ] = 2**62,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps, the same for all.")] = 600,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Sequences per step.")] = 8,
    seq_len: Annotated[int, typer.Option("--seq-len", min=2, help="Tokens per sequence.")] = 64,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0.0, help="Peak of AdamW's.")] = 2e-3,
    windows: Annotated[int, typer.Option("--windows", min=1, help="Sequences of validation text.")] = 256,
    evaluations: Annotated[
        int, typer.Option("--evaluations", min=1, help="Points of the validation curve, the last after all steps.")
    ] = 6,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", min=0.0, help="Begin no training after that time; the same command goes on where it stopped."
        ),
    ] = None,
    stack: Annotated[
        bool, typer.Option("--stack", help="Train all seeds of an architecture at once; for a GPU.")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", help="Of the benchmark; else the folder's.")] = None,
    seed: options.Seed = 42,
    device: options.Device = "auto",
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
    *,
    corpus: options.TextOptions,
    workers: options.Workers,
) -> None:
    """Make a benchmark: train architectures of a space on a text and record the loss of each."""
    refuse_unread(
        context, ["sample"], architectures is not None, "with --architectures, which draws none; leave it out"
    )
    refuse_unread(
        context, ["seeds"], repeats == 0 and seeds > 1,
        "with --repeats 0, which gives no architecture further ones; leave it out, or give --repeats more",
    )  # fmt: skip
    load_libraries()
    from lpzero_hf.benchmarks.make import BenchmarkSpec, make_benchmark
    from lpzero_hf.benchmarks.train import Recipe
    from lpzero_hf.spaces.named import load_space

    text, measured = corpus.source(), corpus.validation(validation, validation_split)
    chosen = str(options.resolve_device(device))
    recipe = Recipe(
        steps=steps,
        batch_size=batch_size,
        seq_len=seq_len,
        learning_rate=learning_rate,
        warmup=max(1, steps // 10),
        windows=windows,
        evaluations=evaluations,
    )
    listed = () if architectures is None else _lines(architectures)
    registry = load_plugins(no_plugin or ())
    home = load_space(space, registry)
    with workers.start(chosen, registry) as executor, counting("models trained") as progress:
        file = make_benchmark(
            BenchmarkSpec(
                home.name, n or len(listed) or 128, repeats, seeds, seed, sample, min_params, max_params, recipe, listed
            ),
            home,
            out,
            name=name or out.resolve().name,
            text=text,
            validation=measured,
            executor=executor,
            device=chosen,
            command=shlex.join(["lpz", *sys.argv[1:]]),
            minutes=minutes,
            stack=stack,
            progress=progress,
        )
    if json:
        print_json({"benchmark": str(file)})
    else:
        say(str(file), f"`lpz bench eval {shlex.quote(str(file.parent))}` ranks its architectures by proxies")


def _lines(file: Path) -> tuple[str, ...]:
    """The lines of a file that are not empty. Raises `UsageError` if it has none or cannot be read."""
    from lpzero_hf.errors import LpzError, UsageError
    from lpzero_hf.files import read_text

    try:
        lines = tuple(line.strip() for line in read_text(file, "give another --architectures").splitlines())
    except LpzError as error:
        raise UsageError(str(error)) from error
    if not any(lines):
        raise UsageError(f"'{file}' lists no architecture; give one text id a line")
    return tuple(line for line in lines if line)
