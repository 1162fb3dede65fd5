"""The zoo: architectures by name, spaces of them, benchmarks of trained ones, and the proxies found on these."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING

from lpzero_hf.hookspecs import hookimpl

if TYPE_CHECKING:
    from lpzero_hf.benchmarks.benchmark import Benchmark
    from lpzero_hf.proxies.base import Proxy
    from lpzero_hf.spaces.base import SearchSpace
    from lpzero_hf.spaces.named import ZooModel


WINNERS = ("lpzero-any", "lpzero-flexibert", "lpzero-gpt2", "lpzero-any-0.1.0")


@hookimpl
def lpz_proxies() -> Iterable[Proxy]:
    """The proxies that `lpz search` has found on the benchmarks of this package, from their artifacts."""
    from lpzero_hf.proxies.searched_proxy import shipped_proxy

    return [shipped_proxy(files(__name__) / "data" / f"{name}.json") for name in WINNERS]


@hookimpl
def lpz_models() -> Iterable[ZooModel]:
    """The named architectures of this package."""
    from lpz_zoo.models import MODELS

    return MODELS


@hookimpl
def lpz_model_types() -> None:
    """FlexiBERT, and GPT-2 with heads and widths of each layer's own."""
    from lpz_zoo import flexibert, gpt2  # noqa: F401  # they register themselves


@hookimpl
def lpz_spaces() -> Iterable[SearchSpace]:
    """The spaces of this package."""
    from lpz_zoo.spaces import SPACES, space_files

    return [*SPACES, *space_files()]


@hookimpl
def lpz_benchmarks() -> Iterable[Benchmark]:
    """The published benchmarks of this package."""
    from lpz_zoo.benchmarks import BENCHMARKS

    return BENCHMARKS
