"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer

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
