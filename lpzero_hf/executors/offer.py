"""Executors by name: those that plugins offer, and how one is started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpzero_hf.errors import UsageError, unknown
from lpzero_hf.plugins import Claim, PluginRegistry, instance_of, load_plugins

if TYPE_CHECKING:
    from lpzero_hf.executors.base import Executor


@dataclass(frozen=True)
class Resources:
    """The resources that an executor may use.

    Args:
        workers: tasks that run at the same time; None lets the executor choose.
        threads: CPU threads of each task; they decide the rounding.
        device: torch device on which each task computes.
        address: of a cluster; None for this machine.
    """

    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    address: str | None = None


@dataclass(frozen=True)
class ExecutorOffer:
    """An executor that a plugin offers through the hook `lpz_executors`.

    Args:
        name: what users type after `--executor`.
        summary: one line for people.
        start: makes the executor; raises `UsageError` for resources that it cannot use.

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
    """Every offered executor by name. Raises `PluginError` if two distributions claim one name."""
    return plugins.offers("lpz_executors", "executor", instance_of(ExecutorOffer))


def start_executor(name: str, resources: Resources, plugins: PluginRegistry | None = None) -> Executor:
    """The executor called `name`, to be used as a context manager.

    Args:
        name: `local`, `process`, `ray`, or what a plugin offers.
        resources: what it may use.
        plugins: where the name is looked up; by default everything installed.

    Raises:
        UsageError: the name is unknown (the message suggests the nearest one), or it cannot use these resources.
        LpzError: it cannot be started.
    """
    offers = installed_executors(load_plugins() if plugins is None else plugins)
    if name not in offers:
        known = ", ".join(offers) or "none"
        raise UsageError(unknown("executor", name, offers, f" (there are: {known})"))
    return offers[name].item.start(resources)
