"""Executors by name: what plugins offer, and how one is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpzero_hf.errors import UsageError, did_you_mean
from lpzero_hf.plugins import Claim, PluginRegistry, instance_of, load_plugins

if TYPE_CHECKING:
    from lpzero_hf.executors.base import Executor


@dataclass(frozen=True)
class Resources:
    """What an executor is asked to work with.

    Args:
        workers: at a time; None for as many as there is room for.
        threads: CPU threads of each; they decide the rounding.
        device: where each task computes, as torch calls it.
        address: of a cluster; None for this machine.
    """

    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    address: str | None = None


@dataclass(frozen=True)
class ExecutorOffer:
    """An executor on offer, for the hook `lpz_executors`.

    Args:
        name: what users type after `--executor`.
        summary: one line for people.
        start: makes the executor; raises `UsageError` for resources that it cannot work with.

    Example:
        >>> from lpzero_hf import ExecutorOffer, LocalExecutor, hookimpl
        >>> @hookimpl
        ... def lpz_executors():
        ...     return [ExecutorOffer("mine", "in this process", lambda wanted: LocalExecutor(wanted.threads))]
    """

    name: str
    summary: str
    start: Callable[[Resources], Executor]


def installed_executors(plugins: PluginRegistry) -> dict[str, Claim[ExecutorOffer]]:
    """Every executor on offer by name. Raises `PluginError` if two distributions claim one name."""
    return plugins.offers("lpz_executors", "executor", instance_of(ExecutorOffer))


def start_executor(name: str, resources: Resources, plugins: PluginRegistry | None = None) -> Executor:
    """The executor called `name`, to be used as a context manager.

    Args:
        name: `local`, `process`, `ray`, or what a plugin offers.
        resources: what it is to work with.
        plugins: where the name is looked up; by default everything installed.

    Raises:
        UsageError: there is none, with the nearest name, or it cannot work with these resources.
        LpzError: it cannot be started.
    """
    offers = installed_executors(load_plugins() if plugins is None else plugins)
    if name not in offers:
        known = ", ".join(offers) or "none"
        raise UsageError(f"unknown executor '{name}'{did_you_mean(name, offers)} (there are: {known})")
    return offers[name].item.start(resources)
