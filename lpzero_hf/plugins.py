"""Finds installed plugins through entry points, calls their hooks, and records the status of each.

Offered items are looked up by name in the package of their kind: `spaces.named`, `proxies.resolve`, ...
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar

import pluggy

from lpzero_hf import hookspecs
from lpzero_hf.errors import PluginError, PluginWarning, UsageError, did_you_mean, one_line
from lpzero_hf.foreign import contained, several

OWN = "lpzero-hf"
DISABLE_VARIABLE = "LPZ_NO_PLUGINS"


class Named(Protocol):
    """Anything that a plugin offers under a name."""

    @property
    def name(self) -> str:
        """What users type."""


Offered = TypeVar("Offered", bound=Named, covariant=True)


@dataclass
class PluginStatus:
    """The status of one installed plugin."""

    name: str
    distribution: str
    version: str
    status: str = "active"  # or "disabled", "failed"
    reason: str = ""
    hooks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Claim(Generic[Offered]):
    """A named item (a proxy, a space, ...) together with the plugin that offers it."""

    plugin: str
    distribution: str
    item: Offered


class PluginRegistry:
    """All installed plugins, including the built-in ones.

    A plugin that fails, at import or in a hook, is marked as failed, with one warning; the others
    continue. Two plugins that claim one name are an error.

    Args:
        disabled: names of plugins or of their distributions to leave out.
        found: entry points to use instead of those installed (for tests).
    """

    def __init__(self, disabled: Iterable[str] = (), found: Iterable[EntryPoint] | None = None) -> None:
        self.disabled = frozenset(disabled)
        self.statuses: dict[str, PluginStatus] = {}
        self._registered: dict[str, PluginStatus] = {}  # by the name that pluggy knows
        self.conflicts: list[str] = []
        self._offers: dict[str, dict[str, Claim[Any]]] = {}  # by hook
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        points = entry_points(group=hookspecs.PROJECT) if found is None else found
        for point in sorted(points, key=lambda p: (_distribution(p)[0] != OWN, p.name)):
            self._load(point)

    def __reduce__(self) -> tuple[Callable[..., PluginRegistry], tuple[frozenset[str]]]:
        """In another process, the plugins are loaded anew."""
        return _registry, (self.disabled,)

    def ask(self, hook: str, **arguments: Any) -> Iterator[tuple[PluginStatus, Any]]:
        """Call one hook on each plugin that has it, built-in plugins first: (the plugin, what it returned)."""
        for found in getattr(self._manager.hook, hook).get_hookimpls():
            status = self._registered[found.plugin_name]
            try:
                with contained(f"in {hook} of plugin '{status.name}'", status.name):
                    result = found.function(*[arguments[name] for name in found.argnames])
                    result = several(result) if isinstance(result, Iterable) else result
            except Exception as error:
                self._fail(status, f"failed in {hook}", error)
            else:
                yield status, result

    def implementations(self, hook: str) -> list[tuple[PluginStatus, Any]]:
        """The plugins that implement a hook, each with its function."""
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return [(self._registered[one.plugin_name], one.function) for one in found]

    def offers(self, hook: str, kind: str, prepare: Callable[[Any], Offered]) -> dict[str, Claim[Offered]]:
        """Everything that plugins return from a hook, by name; it is called once.

        Args:
            hook: one that returns named items.
            kind: the word for one of them in messages.
            prepare: checks one of them, and may replace it. A plugin for which it raises is marked as failed.

        Raises:
            PluginError: two distributions claim one name.
        """
        self._offers[hook] = self._offers.get(hook) or self._collect(hook, kind, prepare)
        return self._offers[hook]

    def _collect(self, hook: str, kind: str, prepare: Callable[[Any], Offered]) -> dict[str, Claim[Offered]]:
        if self.conflicts:
            raise PluginError(self.conflicts[0])
        claims: dict[str, Claim[Offered]] = {}
        for status, offered in self.ask(hook):
            try:
                with contained(f"reading {hook} of plugin '{status.name}'", status.name):
                    prepared = [(str(item.name), item) for item in map(prepare, offered or [])]
            except Exception as error:
                self._fail(status, f"returned something unusable from {hook}", error)
                continue
            for name, item in prepared:
                if (rival := claims.get(name)) is not None:
                    raise PluginError(_conflict(kind, name, rival.distribution, status.distribution))
                claims[name] = Claim(status.name, status.distribution, item)
        return claims

    def _load(self, point: EntryPoint) -> None:
        off, (distribution, version) = self.disabled, _distribution(point)
        status = PluginStatus(point.name, distribution, version)
        rival = self.statuses.get(point.name)
        if rival is not None and off.isdisjoint({rival.distribution, distribution, point.name}):
            self.conflicts.append(_conflict("plugin", point.name, rival.distribution, distribution))
            return
        self.statuses[point.name if rival is None else f"{point.name} ({distribution})"] = status
        if point.name in off or distribution in off:
            status.status, status.reason = "disabled", "turned off by the user"
            return
        try:
            with contained(f"importing plugin '{point.name}'", point.name):
                plugin = point.load()
                self._registered[point.name] = status
                self._manager.register(plugin, name=point.name)
                status.hooks = sorted(caller.name for caller in self._manager.get_hookcallers(plugin) or [])
        except Exception as error:
            self._fail(status, "failed to import", error)

    def _fail(self, status: PluginStatus, what: str, error: BaseException) -> None:
        self._manager.unregister(name=status.name)
        status.status, status.reason = "failed", f"{what}: {one_line(error)}"
        warnings.warn(
            f"plugin '{status.name}' of {status.distribution} {what} and is left out: {one_line(error)}; "
            f"fix or uninstall it, or silence this with `disabled={status.name}`",
            PluginWarning,
            stacklevel=2,
        )


def load_plugins(disabled: str | Iterable[str] = ()) -> PluginRegistry:
    """The registry of installed plugins, less `disabled` and those named in `LPZ_NO_PLUGINS` (commas
    between names). Loaded once per set of disabled names. Raises `UsageError` if one is no installed plugin."""
    named = frozenset([disabled] if isinstance(disabled, str) else disabled)
    known = {name for p in entry_points(group=hookspecs.PROJECT) for name in (p.name, _distribution(p)[0])}
    variable = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()}
    for name in sorted(named - known):
        raise UsageError(f"no plugin '{name}' to turn off{did_you_mean(name, known)} (`lpz plugins` lists them)")
    return _registry(named | variable)


@functools.cache
def _registry(disabled: frozenset[str]) -> PluginRegistry:
    return PluginRegistry(disabled)


def instance_of(expected: type[Offered]) -> Callable[[Any], Offered]:
    """A check for `PluginRegistry.offers`: what is offered must be of that public class."""

    def check(item: Any) -> Offered:
        if not isinstance(item, expected):
            raise TypeError(f"expected a lpzero_hf.{expected.__name__}, got {type(item).__name__}")
        return item

    return check


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (str(point.dist.name), str(point.dist.version)) if point.dist else ("unknown", "0")


def _conflict(kind: str, name: str, first: str, second: str) -> str:
    first, second = sorted((first, second), key=lambda name: name != OWN)
    remedy = f"uninstall one or turn it off with `disabled={second}`"
    return f"{kind} name '{name}' is claimed by two distributions, {first} and {second}; {remedy}"
