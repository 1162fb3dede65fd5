"""Options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lpz_cli.own_tables import Tables as Tables
from lpzero_hf.errors import UsageError

if TYPE_CHECKING:
    import torch

    from lpzero_hf.executors.base import Executor
    from lpzero_hf.models.text_source import Source
    from lpzero_hf.plugins import PluginRegistry
    from lpzero_hf.scoring.costs import Cost, Deployment
    from lpzero_hf.scoring.setting import Setting
    from lpzero_hf.spaces.base import SearchSpace

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
NoPlugin = Annotated[
    list[str] | None,
    typer.Option(
        "--no-plugin",
        metavar="NAME",
        help="Leave out a plugin or a whole distribution. May be repeated; also the variable LPZ_NO_PLUGINS.",
    ),
]
LARGEST_INTEGER = 2**31 - 1  # of an option without an end of its own
LARGEST_SEED = 2**53 - 1  # of those that JSON keeps exactly
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of all random numbers.")]
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


def parameters(written: str | int) -> int:
    """A number of parameters as people write it: 5000000, 5_000_000, 5M, 1.5B or 5e6; a default comes as a number.

    Raises:
        ValueError: it is no whole number above 0.

    Example:
        >>> parameters("1.5M"), parameters("300k")
        (1500000, 300000)
    """
    text = str(written)
    match = re.fullmatch(r"([0-9_]{1,20}(?:\.[0-9]{1,9})?(?:[eE][0-9]{1,2})?)([kKmMbB]?)", text)
    if match is not None and re.search("[0-9]", match[1]):
        number = Fraction(match[1].replace("_", "")) * {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}[match[2].lower()]
        if number >= 1 and number.denominator == 1:
            return int(number)
    raise ValueError(f"'{text[:40]}' is no number of parameters; write 5000000, 5M, 1.5B or 5e6")


Precision = Literal["float32", "bfloat16", "float16", "float64"]  # as torch calls them
Attention = Literal["eager", "sdpa"]
Sample = Annotated[
    Literal["choice", "architecture"],
    typer.Option("--sample", help="choice: every choice uniformly; architecture: every architecture equally likely."),
]
Space = Annotated[str, typer.Argument(metavar="SPACE", help="A space, see `lpz zoo`, or its file (YAML or JSON).")]
Proxies = Annotated[
    list[str] | None, typer.Option("--proxy", "-p", help="A proxy's name, or all. Repeatable.", show_default="all")
]
RecommendedProxies = Annotated[
    list[str] | None,
    typer.Option("--proxy", "-p", help="A proxy's name, or all. Repeatable.", show_default="the recommended ones"),
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
class TextOptions:
    """The text: a file, with a column if it is a table, or a dataset."""

    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            metavar="FILE",
            help="A text, or a table: .jsonl, .json, .csv, .tsv, .parquet, .arrow; also with .gz, .bz2, .xz. Default: "
            "the embedded text.",
            show_default=False,
        ),
    ] = None
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="A dataset of the Hub, or its folder, for the text.")
    ] = None
    dataset_config: Annotated[
        str | None, typer.Option("--dataset-config", metavar="NAME", help="The configuration of the dataset.")
    ] = None
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="The split of the dataset.", show_default="train"),
    ] = None
    column: Annotated[
        str | None,
        typer.Option(
            "--column", "--text-field", metavar="NAME", help="The column of dataset or table.", show_default="text"
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.dataset is not None and self.text is not None:
            raise UsageError("--dataset and --text are two sources of one text; choose one")
        for option, value in (("--split", self.split), ("--dataset-config", self.dataset_config)):
            if value is not None and self.dataset is None:
                raise UsageError(f"{option} is of a dataset; name it with --dataset")

    def source(self) -> Source | None:
        """The source of the text; None for the embedded one.

        Raises:
            UsageError: there is a column, but no dataset and no file that has columns.
        """
        from lpzero_hf.models.text_source import DatasetText

        if self.dataset is not None:
            column = "text" if self.column is None else self.column
            return DatasetText(self.dataset, self.split or "train", column, self.dataset_config)
        source = self._file(self.text)
        if self.column is not None and not isinstance(source, DatasetText):
            raise UsageError(
                "--column is of a dataset or a table; add --dataset NAME, or --text with a .jsonl, .csv or .parquet"
            )
        return source

    def validation(self, file: Path | None, split: str | None) -> Source | None:
        """The text to measure on: a file, or another split of the dataset; None for the last tenth of a plain text.

        Raises:
            UsageError: it is none of these, or both.
        """
        from lpzero_hf.models.text_source import DatasetText

        source = self.source()
        if split is not None and file is None and self.dataset is not None and isinstance(source, DatasetText):
            return replace(source, split=split)
        if file is None and split is None and not isinstance(source, DatasetText):
            return None
        if file is None or split is not None:
            raise UsageError("name either a file as --validation, or with --dataset a --validation-split")
        measured = self._file(file)
        assert measured is not None
        return measured

    def _file(self, path: Path | None) -> Source | None:
        from lpzero_hf.models.text_source import DatasetText, source_of

        source = source_of(path)
        return replace(source, column=self.column or "text") if isinstance(source, DatasetText) else source


@dataclass(frozen=True)
class Conditions(TextOptions):
    """Everything that determines scores, except the size of the minibatch."""

    random_tokens: Annotated[bool, typer.Option("--random-tokens", help="Random token ids instead of text.")] = False
    dtype: Annotated[Precision, typer.Option("--dtype", help="Precision of the weights.")] = "float32"
    seed: Seed = 42
    device: Device = "auto"
    attn: Annotated[
        Attention | None,
        typer.Option("--attn", help="Implementation of attention.", show_default="the model's own"),
    ] = None
    same_init: Annotated[
        float | None,
        typer.Option(
            "--same-init", metavar="STD", help="Draw the weights of every model with this deviation: 0.02, for example."
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.random_tokens and (self.dataset, self.text, self.column) != (None, None, None):
            raise UsageError("--random-tokens are drawn instead of a text; leave out --text, --dataset and --column")

    def setting(self, batch_size: int, seq_len: int) -> Setting:
        """The setting with a minibatch of that size. Raises `UsageError` if the device is not available."""
        from lpzero_hf.scoring.setting import Setting

        place = str(resolve_device(self.device))
        return Setting(
            batch_size, seq_len, self.source(), self.random_tokens, self.seed, self.dtype, place, self.attn,
            init_std=self.same_init,
        )  # fmt: skip


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
class Serving:
    """How a model is run where its costs count, beside precision and device."""

    prompts: Annotated[int, typer.Option("--prompts", min=1, help="Of costs: prompts at a time.")] = 1
    prompt_len: Annotated[
        int | None,
        typer.Option(
            "--prompt-len",
            min=1,
            help="Of costs: tokens of a prompt.",
            show_default="128, or one less than the model's positions",
        ),
    ] = None
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Of latency: passes that are timed.")] = 10
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Of latency: passes before these.")] = 3
    cost_table: Annotated[
        list[Path] | None,
        typer.Option(
            "--cost-table",
            metavar="FILE",
            help="Costs measured elsewhere: a table with a column for each, and one with architectures. Repeatable.",
        ),
    ] = None

    def deployment(self, dtype: str, device: str, threads: int, attention: str | None, seed: int) -> Deployment:
        """The deployment with that precision, device and so on. Raises `UsageError` if there is no such device."""
        from lpzero_hf.scoring.costs import Deployment

        place = str(resolve_device(device))
        return Deployment(
            self.prompts, self.prompt_len, dtype, place, threads, attention, self.warmup, self.repeats, seed
        )  # fmt: skip

    def tables(self, space: SearchSpace | None, plugins: PluginRegistry) -> dict[str, Cost]:
        """The costs in the tables, by name; their architectures are ids of `space`, where there is one."""
        from lpzero_hf.benchmarks.cost_table import costs_from_files

        return costs_from_files(self.cost_table or [], space, None, plugins)


@dataclass(frozen=True)
class Form:
    """The form of the output: a table for people, one JSON document, or CSV."""

    json: Json = False
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False

    def __post_init__(self) -> None:
        if self.json and self.csv:
            raise UsageError("--json and --csv are two forms of the same output; choose one")

    @property
    def whole(self) -> str:
        """The option that asks for a form which always holds everything; "" for tables."""
        return "--json" if self.json else "--csv" if self.csv else ""
