"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lpzero_hf.errors import UsageError

if TYPE_CHECKING:
    import torch

    from lpzero_hf.executors.base import Executor
    from lpzero_hf.plugins import PluginRegistry
    from lpzero_hf.scoring.setting import Setting

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
NoPlugin = Annotated[
    list[str] | None,
    typer.Option(
        "--no-plugin",
        metavar="NAME",
        help="Leave out a plugin or a whole distribution. May be repeated; also the variable LPZ_NO_PLUGINS.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of all random numbers.")]
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


def resolve_device(name: str) -> torch.device:
    """The device of that name. Raises `UsageError` if this machine has none."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's errors for a missing device
        raise UsageError(f"device '{name}' is not available here; try --device cpu") from error
    return device


Precision = Literal["float32", "bfloat16", "float16", "float64"]  # as torch calls them
Sample = Annotated[
    Literal["choice", "architecture"],
    typer.Option("--sample", help="choice: every choice uniformly; architecture: every architecture equally likely."),
]
Space = Annotated[str, typer.Argument(metavar="SPACE", help="A space, see `lpz zoo`.")]
Proxies = Annotated[
    list[str] | None, typer.Option("--proxy", "-p", help="A proxy's name, or all. Repeatable.", show_default="all")
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=3, help="Maximum number of architectures of a benchmark, evenly spaced.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the search in --out.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Sequences in the minibatch.")]
SeqLen = Annotated[int, typer.Option("--seq-len", min=2, help="Tokens per sequence.")]


@dataclass(frozen=True)
class Matching:
    """Which architectures are of one size."""

    match: Annotated[
        str, typer.Option("--match", metavar="PROXY", help="Size by: decoder_params, params, flops or any proxy.")
    ] = "decoder_params"
    within: Annotated[
        float, typer.Option("--within", help="Two sizes are alike if they differ by at most this factor.")
    ] = 1.15


@dataclass(frozen=True)
class Conditions:
    """Everything that determines scores, except the size of the minibatch."""

    text: Annotated[Path | None, typer.Option("--text", help="Text for the minibatch; default: embedded.")] = None
    random_tokens: Annotated[bool, typer.Option("--random-tokens", help="Random token ids instead of text.")] = False
    dtype: Annotated[Precision, typer.Option("--dtype", help="Precision of the weights.")] = "float32"
    seed: Seed = 42
    device: Device = "auto"
    attn: Annotated[
        Literal["eager", "sdpa"] | None,
        typer.Option("--attn", help="Implementation of attention.", show_default="the model's own"),
    ] = None

    def setting(self, batch_size: int, seq_len: int) -> Setting:
        """The setting with a minibatch of that size. Raises `UsageError` if the device is not available."""
        from lpzero_hf.scoring.setting import Setting

        place = str(resolve_device(self.device))
        return Setting(batch_size, seq_len, self.text, self.random_tokens, self.seed, self.dtype, place, self.attn)


@dataclass(frozen=True)
class Workers:
    """The executor for many architectures, and its resources."""

    executor: Annotated[
        str | None,
        typer.Option(
            "--executor",
            metavar="NAME",
            help="local: in this process; process: in several; ray: on a Ray cluster; or a plugin's. By default, "
            "process where there are several --workers.",
            show_default=False,
        ),
    ] = None
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="HOST:PORT", help="The Ray cluster to work on; without, one is started here."
        ),
    ] = None
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; else one per core, or one on a GPU.")
    ] = None
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="CPU threads per process; they decide the last digits of results.")
    ] = 1

    def __post_init__(self) -> None:
        if self.address is not None and self.executor is None:
            raise UsageError("--address names a Ray cluster; use it with --executor ray")

    def start(self, device: str, plugins: PluginRegistry) -> Executor:
        """The requested executor, to be used as a context manager. Raises `UsageError` if there is none."""
        from lpzero_hf.executors.builtin import default_executor
        from lpzero_hf.executors.offer import Resources, start_executor

        wanted = Resources(self.workers, self.threads, device, self.address)
        return default_executor(wanted) if self.executor is None else start_executor(self.executor, wanted, plugins)


@dataclass(frozen=True)
class Form:
    """The form of the output: a table for people, one JSON document, or CSV."""

    json: Json = False
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False

    def __post_init__(self) -> None:
        if self.json and self.csv:
            raise UsageError("--json and --csv are two forms of the same output; choose one")
