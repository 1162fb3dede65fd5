"""Modules of version 0.1.0 under their old names, so that packages written for it can still be imported.

The public names are those of `from lpzero_hf import ...`. An import of an old module gives a `DeprecationWarning` that
says so, and the same objects.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PREFIX = "lpzero_hf."
NAMES = {"Plan": "SearchConfig"}  # public names of 0.1.0 that have another name now
RENAMED: dict[str, dict[str, str]] = {  # the same for the names of old modules
    "fitness": {"Fitness": "RankCorrelation"},
    "judging": {"Judge": "FitnessEvaluator", "Subject": "SearchPart", "Verdict": "Evaluation"},
    "making": {"Plan": "BenchmarkSpec"},
    "passes": {"Passes": "DirectScores"},
    "plan": {"Plan": "SearchConfig"},
    "planning": {"Plan": "MemoryEstimate", "plan": "estimate_memory"},
    "training": {"Outcome": "TrainingOutcome"},
    "waiting": {"Pair": "GradientPair", "Waiting": "PendingOutputs"},
}
MODULES: dict[str, tuple[str, ...]] = {  # where the names of an old module are now
    "agreement": ("benchmarks.agreement",),
    "archive": ("searching.archive",),
    "artifact": ("artifacts.artifact",),
    "attention": ("capture.attention",),
    "batches": ("models.minibatch",),
    "cache": ("scoring.cache",),
    "candidates": ("searching.expression_space",),
    "card": ("artifacts.card",),
    "deferred": ("models.deferred_init",),
    "downloads": ("models.disk_space",),
    "evaluation": ("scoring.evaluate", "scoring.setting", "scoring.cache_key"),
    "executors.tries": ("executors.retries",),
    "exporting": ("searching.export",),
    "expression": ("expressions.expression", "expressions.canonical"),
    "expression_proxies": ("proxies.expression_proxy",),
    "fitness": ("searching.correlation",),
    "found": ("searching.result",),
    "grading": ("benchmarks.grade",),
    "halvings": ("capture.worker_warnings",),
    "hub": ("artifacts.hub",),
    "hub_errors": ("artifacts.hub_errors",),
    "isolation": ("models.isolation",),
    "judging": ("searching.fitness",),
    "layout": ("models.layout", "models.body_parameters", "models.embeddings"),
    "lazy": ("models.lazy",),
    "loading": ("scoring.load_proxy",),
    "making": ("benchmarks.make",),
    "memory": ("models.memory",),
    "microbatches": ("capture.microbatches",),
    "objective": ("models.objective",),
    "operations": ("expressions.operations",),
    "passes": ("searching.direct_scores",),
    "plan": ("searching.config",),
    "planning": ("scoring.memory_estimate",),
    "plugin_export": ("packaging.artifact_template",),
    "proxy": ("proxies.base",),
    "pruning": ("searching.pruning",),
    "ranking": ("scoring.rank",),
    "recorder": ("capture.recorder",),
    "reducing": ("capture.reducer",),
    "reduction": ("capture.spec",),
    "runs": ("searching.run_folder",),
    "searched_proxy": ("proxies.searched_proxy",),
    "selection": ("searching.selection",),
    "shapes": ("models.meta_device",),
    "stack": ("expressions.stacked",),
    "strategies": ("searching.strategies",),
    "strategies.base": ("searching.strategies.base",),
    "strategies.evolution": ("searching.strategies.evolution",),
    "strategies.exhaustive": ("searching.strategies.exhaustive",),
    "strategies.random_search": ("searching.strategies.random_search",),
    "table_store": ("searching.table_cache",),
    "tables": ("expressions.tables",),
    "testing.promises": ("testing.proxy_checks",),
    "testing.state": ("testing.model_state",),
    "testing.subjects": ("testing.tiny_models",),
    "threads": ("executors.threads",),
    "training": ("benchmarks.train",),
    "waiting": ("capture.pending",),
}


def install() -> None:
    """Make the old names importable; they are tried last, so that they never hide a new module."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def current(name: str) -> str:
    """The public name that `name` of 0.1.0 has now, with a `DeprecationWarning` where it is another one."""
    if name in NAMES:
        warnings.warn(f"'lpzero_hf.{name}' is named '{NAMES[name]}' now", DeprecationWarning, stacklevel=3)
    return NAMES.get(name, name)


def names_of(*homes: str, renamed: Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """A `__getattr__` for a package that was a module in 0.1.0: it finds its names where they are now.

    Args:
        homes: the modules that have them.
        renamed: those that have another name there.
    """

    def get(name: str) -> Any:
        if not name.startswith("__"):
            for home in homes:
                module = importlib.import_module(PREFIX + home)
                if hasattr(module, (renamed or {}).get(name, name)):
                    return getattr(module, (renamed or {}).get(name, name))
        where = " or ".join(PREFIX + home for home in homes)
        raise AttributeError(f"no '{name}' in {where}; if 0.1.0 had it, CHANGELOG.md says what replaces it")

    return get


class _Finder(MetaPathFinder):
    """Finds the modules of `MODULES`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        old = fullname.removeprefix(PREFIX)
        if old == fullname or old not in MODULES:
            return None
        parent = any(other.startswith(f"{old}.") for other in MODULES)
        return ModuleSpec(fullname, _Former(old, MODULES[old]), is_package=parent)


class _Former(Loader):
    """Makes a module that provides the names of others."""

    def __init__(self, name: str, homes: tuple[str, ...]) -> None:
        self.name, self.homes = name, homes

    def exec_module(self, module: ModuleType) -> None:
        now = " and ".join(PREFIX + home for home in self.homes)
        warnings.warn(
            f"'{PREFIX}{self.name}' has moved to {now}; import public names from 'lpzero_hf' instead",
            DeprecationWarning,
            stacklevel=2,
        )
        module.__getattr__ = names_of(*self.homes, renamed=RENAMED.get(self.name))  # type: ignore[method-assign]  # PEP 562
