"""The zoo: architectures by name, spaces of them, and benchmarks of trained ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lpzero_hf.hookspecs import hookimpl

if TYPE_CHECKING:
    from lpzero_hf.benchmarks import Benchmark
    from lpzero_hf.models import ZooModel
    from lpzero_hf.spaces import Space


@hookimpl
def lpz_models() -> Iterable[ZooModel]:
    """The named architectures of this package."""
    from lpz_zoo.models import MODELS

    return MODELS


@hookimpl
def lpz_spaces() -> Iterable[Space]:
    """The spaces of this package."""
    from lpz_zoo.spaces import SPACES

    return SPACES


@hookimpl
def lpz_benchmarks() -> Iterable[Benchmark]:
    """The published benchmarks of this package."""
    from lpz_zoo.benchmarks import BENCHMARKS

    return BENCHMARKS
