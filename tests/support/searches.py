"""What tests of searches share: twelve architectures with made-up losses, and the options of a short search."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf.searching import selection
from tests.support.trained import write_benchmark

NAMES = [
    f"d64.e32.k{k}-h{heads}.i{inner}{more}"
    for k in (1, 2) for heads, inner in ((1, 64), (2, 64), (2, 128)) for more in ("", "-h1.i64")
]  # fmt: skip
LOSSES = [5 + i * 5 % 12 / 7 for i in range(12)]
OPTIONS = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu", "--workers", "1")
SHORT = (*OPTIONS, "--preset", "paper", "--iterations", "40", "--population", "10", "--train", "8")


@contextmanager
def few_resamples() -> Iterator[None]:
    """A tenth of the resamples, which most of a short search would go to: they show the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "RESAMPLES", 100)
        yield


def write(folder: Path, losses: Sequence[float] = LOSSES) -> str:
    """The folder of a benchmark of the first few architectures."""
    return write_benchmark(folder, dict(zip(NAMES, losses, strict=False)))


def timeless(document: Mapping[str, Any]) -> dict[str, Any]:
    """A result as plain data, without what depends on the clock."""
    data: dict[str, Any] = json.loads(json.dumps(document))
    assert data.pop("seconds")["all"] > 0
    for split in data["splits"]:
        assert split.pop("seconds") >= 0
    return data
