"""Benchmarks: architectures of a space together with their trained performance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from lpzero_hf.errors import LpzError, UsageError, did_you_mean
from lpzero_hf.files import read_json, reading
from lpzero_hf.plugins import Claim, PluginRegistry, instance_of, load_plugins
from lpzero_hf.spaces.base import Architecture, SearchSpace
from lpzero_hf.spaces.named import load_space

FORMAT = "lpzero-hf benchmark"
VERSION = 1
REMEDY = "make it again with `lpz bench train`"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trained:
    """One trained architecture.

    Args:
        key: its name in the benchmark.
        architecture: a member of the benchmark's space.
        quality: its trained performance, in the unit of the benchmark's metric.
    """

    key: str
    architecture: Architecture
    quality: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Trained architectures of a space.

    Args:
        name: what users type.
        summary: one line for people.
        space: of the architectures.
        metric: of the trained performance, with its unit.
        larger_is_better: whether higher is better for the metric.
        read: returns the trained architectures; raises `LpzError`, naming the remedy, if it cannot.
        citation: the source.
        license: of the data.
        batch_size: sequences of the minibatch that proxies are scored on by default.
        seq_len: tokens of each.
        fetch: downloads the data into the user's cache and returns the folder; None if no download is
            needed. Its argument is a progress function, called with (file, bytes done, total bytes).
        notes: for its users.
        document: returns the document that `lpz bench train` wrote, for a benchmark made by it.
    """

    name: str
    summary: str
    space: SearchSpace
    metric: str
    larger_is_better: bool
    read: Callable[[], Sequence[Trained]]
    citation: str = ""
    license: str = ""
    batch_size: int = 16
    seq_len: int = 128
    fetch: Callable[[Progress], Path] | None = None
    document: Callable[[], Mapping[str, Any]] | None = None
    notes: str = ""

    def trained(self) -> list[Trained]:
        """The trained architectures; one that was trained twice appears twice, under two keys.

        Raises:
            LpzError: the data are missing, unreadable, empty, hold a value that is not a finite number, or a key twice.
        """
        with reading(f"benchmark '{self.name}'", "get it again from where it came from"):
            entries = list(self.read())
        if not entries:
            raise LpzError(f"benchmark '{self.name}' holds no trained architectures")
        seen: set[str] = set()
        for entry in entries:
            if not is_finite(entry.quality):
                raise LpzError(f"benchmark '{self.name}' gives {entry.key} a {self.metric} of {entry.quality!r}")
            if entry.key in seen:
                raise LpzError(f"benchmark '{self.name}' holds {entry.key} twice; every entry needs its own key")
            seen.add(entry.key)
        return entries

    def here(self) -> bool:
        """Whether the data can be read without a download."""
        try:
            self.read()
        except LpzError:
            return False
        return True

    def target(self, entry: Trained) -> float:
        """The target of scores: the trained performance, with its sign changed if needed so that higher is better."""
        return entry.quality if self.larger_is_better else -entry.quality


def installed_benchmarks(plugins: PluginRegistry) -> dict[str, Claim[Benchmark]]:
    """Every offered benchmark by name. Raises `PluginError` if two distributions claim one name."""
    return plugins.offers("lpz_benchmarks", "benchmark", instance_of(Benchmark))


def load_benchmark(name: str | Path, plugins: PluginRegistry | None = None) -> Benchmark:
    """The benchmark called `name`, or made by `lpz bench train` in the file or folder of that name.

    Args:
        name: as `lpz bench list` shows it, or a path.
        plugins: where names are looked up; by default everything installed.

    Raises:
        UsageError: there is none; the message suggests the nearest name.
        LpzError: the file is no benchmark.

    Example:
        >>> from lpzero_hf import load_benchmark
        >>> len(load_benchmark("tiny-gpt2").trained())
        128
    """
    plugins = load_plugins() if plugins is None else plugins
    installed = installed_benchmarks(plugins)
    if isinstance(name, str) and name in installed:
        return installed[name].item
    path = Path(name).expanduser()
    if path.exists():
        return made_benchmark(path / "benchmark.json" if path.is_dir() else path, plugins)
    near = did_you_mean(str(name), installed)
    raise UsageError(f"unknown benchmark '{name}'{near}: no file, and none that `lpz bench list` shows")


def made_benchmark(path: Path, plugins: PluginRegistry | None = None) -> Benchmark:
    """A benchmark that `lpz bench train` has made.

    Args:
        path: its file, `benchmark.json`.
        plugins: where its space is looked up.

    Raises:
        LpzError: the file is missing, no JSON, or no such benchmark.
    """
    document = read_made(path)
    with reading(f"'{path}'", REMEDY, UsageError):
        home = load_space(document.get("definition") or document["space"], plugins)
        entries = first_seed(document, home)
        tokens = document["plan"]["recipe"]["seq_len"]
        if not is_finite(tokens) or tokens != int(tokens) or tokens < 2 or not isinstance(document["name"], str):
            raise ValueError(f"sequences of {tokens!r} tokens, or no name")
        return Benchmark(
            name=document["name"],
            summary=f"{len({row['architecture'] for row in document['trained']})} models trained by `lpz bench train`",
            space=home,
            metric=document["metric"],
            larger_is_better=document["larger_is_better"],
            seq_len=int(tokens),
            read=lambda: entries,
            document=lambda: document,
        )


def read_made(path: Path) -> dict[str, Any]:
    """The document in a `benchmark.json`. Raises `LpzError` if the file does not hold one."""
    document = read_json(path, REMEDY)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise LpzError(f"'{path}' is no benchmark made by `lpz bench train`")
    if document.get("version") != VERSION:
        raise LpzError(f"'{path}' has version {document.get('version')} of its format; this release reads {VERSION}")
    return document


def first_seed(document: Mapping[str, Any], space: SearchSpace) -> list[Trained]:
    """The architectures of a made benchmark with the loss that their first seed reached; those that
    diverged are left out.

    Raises:
        ValueError: a loss is no finite number, or an architecture has two.
    """
    entries: dict[str, Trained] = {}
    for row in document["trained"]:
        name, loss = row["architecture"], row["loss"]
        if row["seed"] != document["plan"]["seed"] or loss is None:
            continue
        if not is_finite(loss) or name in entries:
            raise ValueError(f"{name} has a loss of {loss!r}, or two")
        entries[name] = Trained(name, space.parse(name), loss)
    return list(entries.values())


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def by_seed(document: Mapping[str, Any]) -> dict[int, dict[str, float]]:
    """The losses of a made benchmark by seed, then by architecture."""
    losses: dict[int, dict[str, float]] = {}
    for row in document["trained"]:
        if row["loss"] is not None:
            losses.setdefault(row["seed"], {})[row["architecture"]] = row["loss"]
    return losses


def describe(benchmark: Benchmark) -> dict[str, Any]:
    """Facts about a benchmark for people: what was trained, the spread of the results, and their noise.

    For one made by `lpz bench train` with several seeds, the noise is the mean Spearman's rho between the rankings
    by two seeds of the architectures trained with both. A proxy that predicts the mean performance over seeds
    perfectly would have a rho of about the square root of that with the ranking by one seed.
    """
    with reading(f"benchmark '{benchmark.name}'", "make it again"):
        return _facts(benchmark)


def _facts(benchmark: Benchmark) -> dict[str, Any]:
    entries = benchmark.trained()
    values = [entry.quality for entry in entries]
    facts: dict[str, Any] = {
        "benchmark": benchmark.name,
        "summary": benchmark.summary,
        "space": benchmark.space.name,
        "architectures": len(entries),
        "metric": benchmark.metric,
        "better": "larger" if benchmark.larger_is_better else "smaller",
        "spread": {
            "minimum": min(values),
            "median": statistics.median(values),
            "maximum": max(values),
            "standard_deviation": statistics.pstdev(values),
        },
        "minibatch": f"{benchmark.batch_size} x {benchmark.seq_len} tokens",
        "citation": benchmark.citation,
        "license": benchmark.license,
        "notes": benchmark.notes,
    }
    if benchmark.document is None:
        return facts
    document = benchmark.document()
    return facts | {
        "noise": _noise(by_seed(document)),
        "training": document["plan"]["recipe"],
        "corpus": document["corpus"],
        "made_by": document["command"],
        "versions": document["versions"],
    }


def _noise(losses: Mapping[int, Mapping[str, float]]) -> dict[str, Any] | None:
    from lpzero_hf.benchmarks.agreement import kendall, spearman

    pairs = []
    for one, other in combinations(losses.values(), 2):
        common = [name for name in one if name in other]
        if len(common) >= 3:
            pairs.append(([one[name] for name in common], [other[name] for name in common]))
    if not pairs:
        return None
    differences = [a - b for one, other in pairs for a, b in zip(one, other, strict=True)]
    return {
        "seeds": len(losses),
        "architectures_with_several_seeds": len(pairs[0][0]),
        "spearman_between_seeds": statistics.mean(spearman(*pair) or 0.0 for pair in pairs),
        "kendall_between_seeds": statistics.mean(kendall(*pair) or 0.0 for pair in pairs),
        "standard_deviation_of_a_seed": statistics.pstdev(differences) / 2**0.5,
    }
