"""The messages of the library on the command line: where these name an argument of Python, its option.

The library writes `batch_size=`, `seq_len=64` or `resume=True`, in backticks; a user of `lpz` reads --batch-size,
--seq-len 64 or --resume.
"""

from __future__ import annotations

import re
from typing import Any

ARGUMENT = re.compile(r"`([a-z_]+)=([^`\n]*)`")
SAME = (  # the option has the name of the argument
    "address", "among", "base", "batch", "batch_size", "branch", "checkpointing", "column", "device", "dtype",
    "executor", "force", "limit", "max", "metric", "micro_batch", "min", "minutes", "n", "out", "pretrained",
    "random_tokens", "resume", "seq_len", "skip_bad_rows", "space", "split", "stack", "strategy", "test", "text",
    "threads", "train", "trust_remote_code", "unary", "within", "workers",
)  # fmt: skip
OPTIONS = {name: "--" + name.replace("_", "-") for name in SAME} | {
    "architecture": "--architecture-column", "attention": "--attn", "config": "--dataset-config",
    "disabled": "--no-plugin", "extra_columns": "--extra-column", "goals": "--objective", "init_std": "--same-init",
    "prompt": "--prompt-len", "proxies": "--proxy",
}  # fmt: skip
WHOLE = {  # an argument with its value
    "larger_is_better=True": "--higher-is-better", "larger_is_better=False": "--lower-is-better",
    "text=DatasetText": "--dataset",
}  # fmt: skip


def as_options(text: str) -> str:
    """A message with options in place of arguments.

    Example:
        >>> as_options("use `seq_len=64` or less, or `random_tokens=True`; a smaller `batch_size=` needs less")
        'use --seq-len 64 or less, or --random-tokens; a smaller --batch-size needs less'
    """
    return ARGUMENT.sub(_option, text) if "`" in text else text


def _option(found: re.Match[str]) -> str:
    name, value = found.groups()
    if (whole := WHOLE.get(f"{name}={value}")) is not None:
        return whole
    option = OPTIONS.get(name)
    if option is None:  # of Python alone
        return found[0]
    return option if value in ("", "True") else f"{option} {value.removeprefix('torch.')}"


def all_as_options(value: Any) -> Any:
    """Plain data with options in place of arguments in every text; names of keys stay."""
    if isinstance(value, str):
        return as_options(value)
    if isinstance(value, dict):
        return {key: all_as_options(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [all_as_options(item) for item in value]
    return value
