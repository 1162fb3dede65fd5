"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpzero_hf.errors import UsageError

if TYPE_CHECKING:
    import torch

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
NoPlugin = Annotated[
    list[str] | None,
    typer.Option(
        "--no-plugin",
        metavar="NAME",
        help="Leave out a plugin or a whole distribution. May be repeated; also the variable LPZ_NO_PLUGINS.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Drives everything random.")]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:1, mps, ...; auto takes a GPU where there is one.")
]


def debugging(arguments: Sequence[str] = ()) -> bool:
    """Whether tracebacks are wanted; remembers a `--debug` among the arguments."""
    if "--debug" in arguments:
        os.environ["LPZ_DEBUG"] = "1"
    return os.environ.get("LPZ_DEBUG", "") not in ("", "0")


def without_plugins(arguments: Sequence[str]) -> list[str]:
    """The values of `--no-plugin` in a command line that has not been parsed yet."""
    names = [after for before, after in pairwise(arguments) if before == "--no-plugin"]
    return names + [a.partition("=")[2] for a in arguments if a.startswith("--no-plugin=")]


class Precision(StrEnum):
    """Names of floating-point types, as torch calls them."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float64 = "float64"


class Sampling(StrEnum):
    """How architectures are drawn from a space."""

    choice = "choice"
    architecture = "architecture"


def resolve_device(name: str) -> torch.device:
    """The device of that name. Raises `UsageError` if this machine has none."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's ways of saying there is none
        raise UsageError(f"device '{name}' is not to be had here; try --device cpu") from error
    return device


Dtype = Annotated[Precision, typer.Option("--dtype", help="Precision of the weights.")]
Sample = Annotated[
    Sampling,
    typer.Option("--sample", help="choice: every choice uniformly; architecture: every architecture alike."),
]
Proxies = Annotated[
    list[str] | None, typer.Option("--proxy", "-p", help="A proxy's name, or all. Repeatable.", show_default="all")
]
Text = Annotated[Path | None, typer.Option("--text", help="Text for the minibatch; default: embedded.")]
RandomTokens = Annotated[bool, typer.Option("--random-tokens", help="Random token ids instead of text.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; else one per core, or one on a GPU.")]
Threads = Annotated[
    int, typer.Option("--threads", min=1, help="CPU threads per process; they decide the last digits of results.")
]


def worker_count(wanted: int | None, device: str) -> int:
    """As many processes as asked for; else one per core that this process may use, or one on a GPU."""
    if wanted is not None:
        return wanted
    return len(os.sched_getaffinity(0)) if device == "cpu" and hasattr(os, "sched_getaffinity") else 1
