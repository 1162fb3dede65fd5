"""What held-out means: architectures and benchmarks are known by their content, whatever they are called.

A proxy that was searched on an architecture knows its trained performance. So it is neither graded on it nor does it
choose it, under another key, in a copy, a part or a renamed file of the benchmark, or in another benchmark.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from pathlib import Path

from lpzero_hf.benchmarks.benchmark import Benchmark, Trained, load_benchmark
from lpzero_hf.errors import LpzError
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import CompositeProxy, Proxy
from lpzero_hf.scoring.cache import digest
from lpzero_hf.scoring.cache_key import architecture_content
from lpzero_hf.spaces.base import Architecture, SearchSpace

MARK = 16  # hexadecimal digits


def marks_of(space: SearchSpace, architecture: Architecture) -> frozenset[str]:
    """Two names of an architecture by its content; of equal architectures, at least one is equal.

    One is a digest of its configuration, which is the same in whatever space; the other, where its space has data or a
    name for it, a digest of `SearchSpace.content`, which a release of transformers with other defaults does not change.
    """
    config = architecture_content(space.config(architecture))
    names = [digest("config", config)]
    if content := space.content(architecture):
        names.append(digest("named", *content))
    return frozenset(name[:MARK] for name in names)


def unseen(architectures: Sequence[Collection[str]], seen: Collection[str]) -> list[int]:
    """The places of the architectures none of whose marks is among those seen."""
    seen = frozenset(seen)
    return [place for place, marks in enumerate(architectures) if seen.isdisjoint(marks)]


def content_of(benchmark: Benchmark, entries: Sequence[Trained]) -> str:
    """A digest of the architectures of a benchmark and their trained performance, whatever their keys and order."""
    rows = sorted(
        [*sorted(marks_of(benchmark.space, entry.architecture)), repr(float(benchmark.target(entry)))]
        for entry in entries
    )
    return digest("benchmark", rows)


def searched_keys(
    proxy: Proxy,
    benchmark: Benchmark,
    plugins: PluginRegistry | None = None,
    entries: Sequence[Trained] | None = None,
) -> frozenset[str]:
    """The keys of a benchmark's architectures whose trained performance was used to find a proxy.

    Architectures are compared by their marks, which an artifact records. For one of version 0.1.0, which records names
    and keys alone, these are looked up in the benchmarks of those names, where these can be read.

    Args:
        proxy: any; of one that was not searched there are none.
        benchmark: trained architectures.
        plugins: where the names of benchmarks are looked up.
        entries: those of the benchmark to look at; by default all.

    Raises:
        LpzError: the benchmark cannot be read.
    """
    of_members: frozenset[str] = frozenset()
    if isinstance(proxy, CompositeProxy):
        of_members = of_members.union(*(searched_keys(m, benchmark, plugins, entries) for m in proxy.members))
    keys = set(proxy.searched_on(benchmark.name))
    seen = set(proxy.searched_marks)
    if not seen:
        for name, recorded in proxy.trained_on.items():
            seen |= _marks_of_recorded(name, set(recorded), plugins)
            if _is_path(name):  # a benchmark made by `lpz bench train`, whose keys are the names of architectures
                keys |= set(recorded)
    if not keys and not seen:
        return of_members
    everything = benchmark.trained()
    seen |= {
        mark for entry in everything if entry.key in keys for mark in marks_of(benchmark.space, entry.architecture)
    }
    entries = everything if entries is None else entries
    marks = [marks_of(benchmark.space, entry.architecture) for entry in entries]
    new = set(unseen(marks, seen))
    return of_members | {entry.key for place, entry in enumerate(entries) if place not in new}


def _marks_of_recorded(name: str, keys: Set[str], plugins: PluginRegistry | None) -> set[str]:
    """The marks of architectures given by the name of a benchmark and their keys; none if it cannot be read."""
    try:
        benchmark = load_benchmark(name, plugins)
        entries = [entry for entry in benchmark.trained() if entry.key in keys]
    except LpzError:  # it is not here, and names and keys are all that is known
        return set()
    return {mark for entry in entries for mark in marks_of(benchmark.space, entry.architecture)}


def _is_path(name: str) -> bool:
    return len(Path(name).parts) > 1 or name.endswith(".json")
