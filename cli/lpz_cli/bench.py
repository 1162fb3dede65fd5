"""`lpz bench`: benchmarks of trained architectures."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from lpz_cli import options
from lpz_cli.output import print_json, quiet_stdout
from lpz_cli.progress import counting

bench_app = typer.Typer(help="Benchmarks: trained architectures, and how well proxies rank them.", no_args_is_help=True)


@bench_app.command()
def train(
    space: Annotated[str, typer.Argument(help="A space, see `lpz zoo`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run goes on there.")],
    validation: Annotated[Path, typer.Option("--validation", help="Text file to measure the loss on.")],
    text: Annotated[Path | None, typer.Option("--text", help="Text file to train on; else the embedded one.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of architectures.")] = 128,
    repeats: Annotated[int, typer.Option("--repeats", min=0, help="How many of them get further seeds.")] = 16,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds for those.")] = 3,
    sample: options.Sample = options.Sampling.choice,
    min_params: Annotated[int, typer.Option("--min-params", min=0, help="Fewest parameters without embeddings.")] = 0,
    max_params: Annotated[int, typer.Option("--max-params", min=1, help="Most parameters without embeddings.")] = 2**62,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps, the same for all.")] = 600,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Sequences per step.")] = 8,
    seq_len: Annotated[int, typer.Option("--seq-len", min=2, help="Tokens per sequence.")] = 64,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0.0, help="Peak of AdamW's.")] = 2e-3,
    windows: Annotated[int, typer.Option("--windows", min=1, help="Sequences of validation text.")] = 256,
    name: Annotated[str | None, typer.Option("--name", help="Of the benchmark; else the folder's.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Models trained at once; else one per core, or 1 on a GPU.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads per model.")] = 1,
    seed: options.Seed = 42,
    device: options.Device = "auto",
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Make a benchmark: train architectures of a space on a text and write down how good each became."""
    from lpzero_hf.making import Plan, make_benchmark
    from lpzero_hf.plugins import load_plugins
    from lpzero_hf.training import Recipe

    chosen = options.resolve_device(device)
    recipe = Recipe(
        steps=steps,
        batch_size=batch_size,
        seq_len=seq_len,
        learning_rate=learning_rate,
        warmup=max(1, steps // 10),
        windows=windows,
    )
    with quiet_stdout(), counting("models trained") as tell:
        file = make_benchmark(
            Plan(space, n, repeats, seeds, seed, sample.value, min_params, max_params, recipe),
            load_plugins(no_plugin or ()).space(space),
            out,
            name=name or out.resolve().name,
            text=text,
            validation=validation,
            workers=workers or (1 if chosen.type == "cuda" else os.cpu_count() or 1),
            threads=threads,
            device=str(chosen),
            command=shlex.join(["lpz", *sys.argv[1:]]),
            progress=tell,
        )
    if json:
        print_json({"benchmark": str(file)})
    else:
        print(f"{file}\n`lpz bench eval {shlex.quote(str(file.parent))}` ranks its architectures by proxies")
