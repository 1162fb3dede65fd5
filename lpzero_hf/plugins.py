"""Finds installed plugins through entry points and asks them what they offer."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from lpzero_hf import hookspecs
from lpzero_hf.errors import PluginError, PluginWarning, UsageError, did_you_mean, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from lpzero_hf.benchmarks.benchmark import Benchmark
    from lpzero_hf.expressions.operations import Unary
    from lpzero_hf.models.layout import ModelLayout
    from lpzero_hf.proxies.base import Proxy
    from lpzero_hf.spaces.space import Space

OWN = "lpzero-hf"
DISABLE_VARIABLE = "LPZ_NO_PLUGINS"
HUB_PREFIX = "hub:"
Offered = TypeVar("Offered")


@dataclass
class PluginStatus:
    """What became of one installed plugin."""

    name: str
    distribution: str
    version: str
    status: str = "active"  # or "disabled", "failed"
    reason: str = ""
    hooks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Claim:
    """A name (of a proxy, a model, ...) together with the plugin that offers it."""

    plugin: str
    distribution: str
    item: Any


class PluginRegistry:
    """The plugins installed beside lpzero-hf, the built-in ones among them.

    A plugin that fails, at import or when asked for what it offers, is marked as failed and warned
    about once; the others go on. Two plugins that claim one name are an error.

    Args:
        disabled: names of plugins or of their distributions to leave out.
        found: entry points to use instead of those installed (for tests).
    """

    def __init__(self, disabled: Iterable[str] = (), found: Iterable[EntryPoint] | None = None) -> None:
        self.disabled = frozenset(disabled)
        self.statuses: dict[str, PluginStatus] = {}
        self._registered: dict[str, PluginStatus] = {}  # by the name that pluggy knows
        self.conflicts: list[str] = []
        self._found: dict[str, Proxy] = {}  # that no plugin offers, by their text or digest
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        points = entry_points(group=hookspecs.PROJECT) if found is None else found
        for point in sorted(points, key=lambda p: (_distribution(p)[0] != OWN, p.name)):
            self._load(point)

    def __reduce__(self) -> tuple[Callable[..., PluginRegistry], tuple[frozenset[str]]]:
        """In another process, the plugins are loaded anew."""
        return load_plugins, (self.disabled,)

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
            plugin = point.load()
            self._registered[point.name] = status
            self._manager.register(plugin, name=point.name)
        except (Exception, SystemExit) as error:
            self._fail(status, "failed to import", error)
            return
        callers = self._manager.get_hookcallers(plugin) or []
        status.hooks = sorted(caller.name for caller in callers)

    def _fail(self, status: PluginStatus, what: str, error: BaseException) -> None:
        self._manager.unregister(name=status.name)
        status.status, status.reason = "failed", f"{what}: {one_line(error)}"
        warnings.warn(
            f"plugin '{status.name}' of {status.distribution} {what} and is left out: {one_line(error)}; "
            f"fix or uninstall it, or silence this with --no-plugin {status.name}",
            PluginWarning,
            stacklevel=2,
        )

    def _ask(self, hook: str, **arguments: Any) -> Iterator[tuple[PluginStatus, Any]]:
        """Call one hook on each plugin that has it, in the order of registration."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            status = self._registered[implementation.plugin_name]
            try:
                values = [arguments[name] for name in implementation.argnames]
                result = implementation.function(*values)
                yield status, list(result) if isinstance(result, Iterable) else result
            except (Exception, SystemExit) as error:
                self._fail(status, f"failed in {hook}", error)

    def _collect(
        self, kind: str, hook: str, prepare: Callable[[Any], Offered], name_of: Callable[[Offered], str]
    ) -> dict[str, Claim]:
        if self.conflicts:
            raise PluginError(self.conflicts[0])
        claims: dict[str, Claim] = {}
        for status, offered in self._ask(hook):
            try:
                prepared = [prepare(item) for item in offered or []]
            except Exception as error:
                self._fail(status, f"returned something unusable from {hook}", error)
                continue
            for item in prepared:
                name, rival = name_of(item), claims.get(name_of(item))
                if rival is not None:
                    raise PluginError(_conflict(kind, name, rival.distribution, status.distribution))
                claims[name] = Claim(status.name, status.distribution, item)
        return claims

    @functools.cached_property
    def proxies(self) -> dict[str, Claim]:
        """Every proxy on offer by name. Raises `PluginError` if two distributions claim one name."""
        from lpzero_hf.proxies.base import as_proxy

        def name_of(proxy: Proxy) -> str:
            return proxy.name

        return self._collect("proxy", "lpz_proxies", as_proxy, name_of)

    @functools.cached_property
    def operations(self) -> dict[str, Unary]:
        """Every unary operation by name. Raises `PluginError` if two distributions claim one name."""
        from lpzero_hf.expressions.operations import Unary

        return {name: claim.item for name, claim in self._named("operation", "lpz_operations", Unary).items()}

    @functools.cached_property
    def models(self) -> dict[str, Claim]:
        """Every zoo model on offer by name. Raises `PluginError` if two distributions claim one name."""
        from lpzero_hf.models.load import ZooModel

        return self._named("zoo model", "lpz_models", ZooModel)

    @functools.cached_property
    def spaces(self) -> dict[str, Claim]:
        """Every space on offer by name. Raises `PluginError` if two distributions claim one name."""
        from lpzero_hf.spaces.space import Space

        return self._named("space", "lpz_spaces", Space)

    @functools.cached_property
    def benchmarks(self) -> dict[str, Claim]:
        """Every benchmark on offer by name. Raises `PluginError` if two distributions claim one name."""
        from lpzero_hf.benchmarks.benchmark import Benchmark

        return self._named("benchmark", "lpz_benchmarks", Benchmark)

    def _named(self, kind: str, hook: str, expected: type) -> dict[str, Claim]:
        def prepare(item: Any) -> Any:
            if not isinstance(item, expected):
                raise TypeError(f"expected a lpzero_hf.{expected.__name__}, got {type(item).__name__}")
            return item

        return self._collect(kind, hook, prepare, lambda item: item.name)

    def layout(self, model: PreTrainedModel) -> ModelLayout:
        """Where `model` keeps its blocks: by the first plugin that says so, a stranger's before a built-in
        one, else as found generically.

        Raises:
            LayoutError: nobody found any blocks.
        """
        from lpzero_hf.models.layout import find_layout

        answers = [layout for _, layout in self._ask("lpz_model_layout", model=model) if layout is not None]
        return answers[-1] if answers else find_layout(model)

    def add_commands(self, app: Any) -> None:
        """Let every plugin add its commands to the `lpz` application."""
        for _ in self._ask("lpz_commands", app=app):
            pass

    def proxy(self, name: str | Path) -> Proxy:
        """The proxy called `name`, or that an artifact describes: the path of its file, or `hub:user/repo` (`user/repo`
        will do where no such file is, `user/repo@REVISION` pins it); or the one that an expression spells.

        Raises:
            UsageError: there is none; with the nearest name, or the column where the expression breaks off.
            LpzError: the artifact cannot be read or got.
        """
        if isinstance(name, str) and name in self.proxies:
            return self.proxies[name].item  # type: ignore[no-any-return]  # Claim holds any kind of item
        path, name = Path(name).expanduser(), name if isinstance(name, str) else ""
        if not name or name.endswith(".json") or (not name.startswith(HUB_PREFIX) and _is_file(path)):
            from lpzero_hf.artifacts.artifact import read_artifact

            artifact = read_artifact(path, self.operations)
        elif "(" in name:
            from lpzero_hf.expressions.expression import parse
            from lpzero_hf.proxies.expression_proxy import expression_proxy

            expression = parse(name, self.operations)
            return self._once(str(expression), lambda: expression_proxy(expression, operations=self.operations))
        elif name.startswith(HUB_PREFIX) or name.count("/") == 1:
            from lpzero_hf.artifacts.hub import pull

            artifact = pull(name.removeprefix(HUB_PREFIX), operations=self.operations).artifact
        else:
            near = did_you_mean(name, self.proxies)
            raise UsageError(f"unknown proxy '{name}'{near} (`lpz proxies` lists them all)")
        from lpzero_hf.proxies.searched_proxy import searched_proxy

        return self._once(artifact.digest, lambda: searched_proxy(artifact, self.operations))

    def _once(self, key: str, make: Callable[[], Proxy]) -> Proxy:
        """One proxy for all who ask for the same."""
        if key not in self._found:
            self._found[key] = make()
        return self._found[key]

    def zoo_config(self, source: str) -> PreTrainedConfig | None:
        """The configuration of the zoo model called `source`, or of the architecture that `SPACE:ID` names; None
        if no zoo model and no space has that name.

        Raises:
            UsageError: the space has no architecture of that id.
        """
        if source in self.models:
            return self.models[source].item.config()  # type: ignore[no-any-return]  # Claim holds any kind of item
        name, _, text = source.partition(":")
        if not text or name not in self.spaces:
            return None
        space = self.space(name)
        return space.config(space.parse(text))

    def space(self, name: str) -> Space:
        """The space called `name`. Raises `UsageError`, with the nearest name, if there is none."""
        if name not in self.spaces:
            raise UsageError(f"unknown space '{name}'{did_you_mean(name, self.spaces)} (`lpz zoo` lists them all)")
        return self.spaces[name].item  # type: ignore[no-any-return]  # Claim holds any kind of item

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark called `name`, or made by `lpz bench train` in the file or folder of that name.

        Raises:
            UsageError: there is none.
            LpzError: the file is no benchmark.
        """
        from lpzero_hf.benchmarks.benchmark import made_benchmark

        if name in self.benchmarks:
            return self.benchmarks[name].item  # type: ignore[no-any-return]  # Claim holds any kind of item
        path = Path(name).expanduser()
        if path.exists():
            return made_benchmark(path / "benchmark.json" if path.is_dir() else path, self.space)
        near = did_you_mean(name, self.benchmarks)
        raise UsageError(f"unknown benchmark '{name}'{near}: no file, and none that `lpz bench list` shows")


def load_plugins(disabled: Iterable[str] = ()) -> PluginRegistry:
    """The registry of installed plugins, less `disabled` and those named in `LPZ_NO_PLUGINS` (commas
    between names). Loaded once per set of disabled names.

    Raises:
        UsageError: a name in `disabled` is no installed plugin.
    """
    named = frozenset(disabled)
    known = {p.name for p in entry_points(group=hookspecs.PROJECT)}
    known |= {_distribution(p)[0] for p in entry_points(group=hookspecs.PROJECT)}
    variable = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()}
    for name in sorted(named - known - variable):
        raise UsageError(f"no plugin '{name}' to turn off{did_you_mean(name, known)} (`lpz plugins` lists them)")
    return _registry(named | variable)


@functools.cache
def _registry(disabled: frozenset[str]) -> PluginRegistry:
    return PluginRegistry(disabled)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or no path at all: an expression, say
        return False


def _distribution(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return "unknown", "0"
    return point.dist.name, point.dist.version


def _conflict(kind: str, name: str, first: str, second: str) -> str:
    first, second = sorted((first, second), key=lambda distribution: distribution != OWN)
    return (
        f"{kind} name '{name}' is claimed by two distributions, {first} and {second}; "
        f"uninstall one or turn it off with --no-plugin {second}"
    )
