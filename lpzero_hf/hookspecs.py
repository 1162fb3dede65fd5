"""Every extension point of lpzero-hf; a plugin implements any of them and names itself in the
entry-point group `lpzero_hf`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import typer
    from transformers import PreTrainedModel

    from lpzero_hf import Benchmark, Cost, ExecutorOffer, ModelLayout, Proxy, SearchSpace, Unary, ZooModel

PROJECT = "lpzero_hf"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def lpz_proxies() -> Iterable[Proxy | Callable[[PreTrainedModel, dict[str, Any]], float]]:
    """Return proxies: `Proxy` objects, or plain functions `f(model, batch) -> float`."""
    return ()


@hookspec
def lpz_operations() -> Iterable[Unary]:
    """Return unary operations that expressions may use."""
    return ()


@hookspec
def lpz_models() -> Iterable[ZooModel]:
    """Return named architectures that `lpz score NAME` builds."""
    return ()


@hookspec
def lpz_model_types() -> None:
    """Register model types of your own with transformers, by importing their module; called before one is looked up."""


@hookspec
def lpz_spaces() -> Iterable[SearchSpace]:
    """Return spaces of architectures."""
    return ()


@hookspec
def lpz_benchmarks() -> Iterable[Benchmark]:
    """Return benchmarks: architectures of a space with their trained performance."""
    return ()


@hookspec
def lpz_model_layout(model: PreTrainedModel) -> ModelLayout | None:
    """Return where an exotic model keeps its blocks and mixers, or None to leave it to others."""


@hookspec
def lpz_costs() -> Iterable[Cost]:
    """Return costs: what an architecture takes to run, measured or looked up."""
    return ()


@hookspec
def lpz_executors() -> Iterable[ExecutorOffer]:
    """Return executors: where `--executor NAME` does the work on many architectures."""
    return ()


@hookspec
def lpz_commands(app: typer.Typer) -> None:
    """Add commands to the `lpz` command line."""
