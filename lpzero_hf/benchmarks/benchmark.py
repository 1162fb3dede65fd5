"""Benchmarks: architectures of a space together with their trained performance."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpzero_hf.benchmarks.table_files import SUFFIXES, is_table
from lpzero_hf.errors import LpzError, TableWarning, UsageError, unknown
from lpzero_hf.files import read_json, reading
from lpzero_hf.plugins import Claim, PluginRegistry, instance_of, load_plugins
from lpzero_hf.spaces.base import Architecture, SearchSpace
from lpzero_hf.spaces.misplaced import refuse_misplaced
from lpzero_hf.spaces.named import load_space

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from lpzero_hf.benchmarks.table_options import TableOptions

FORMAT = "lpzero-hf benchmark"
VERSION = 1
SAMPLE = 3  # configurations that are built to describe a table
REMEDY = "make it again with `lpz bench train`"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trained:
    """One trained architecture.

    Args:
        key: its name in the benchmark.
        architecture: a member of the benchmark's space.
        quality: its trained performance, in the unit of the benchmark's metric; of several trainings, the mean.
        extra: what else is recorded of it, by the name of the column: the number of tokens, for example. Where several
            trainings differ, the list of their values.
        where: the place in a file that it was read from, for messages.
    """

    key: str
    architecture: Architecture
    quality: float
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    where: str = ""


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
        facts: returns what else there is to tell about it, by name.
        skip_failures: whether architectures whose configuration cannot be built are left out, and counted.
        present: returns whether the data are there, for listings; by default reading is tried.
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
    facts: Callable[[], Mapping[str, Any]] | None = None
    skip_failures: bool = False
    present: Callable[[], bool] | None = None

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

    def configs(self, entries: Sequence[Trained]) -> dict[str, PreTrainedConfig]:
        """The configurations of some of its architectures by their keys.

        Raises:
            LpzError: one cannot be built. With `skip_failures` it is left out, and a `TableWarning` says how many are.
        """
        made: dict[str, PreTrainedConfig] = {}
        failed: list[LpzError] = []
        for entry in entries:
            try:
                made[entry.key] = self.space.config(entry.architecture)
            except LpzError as error:
                if not self.skip_failures:
                    raise
                failed.append(error)
        if failed:
            warnings.warn(
                f"{len(failed)} of {len(entries)} architectures of benchmark '{self.name}' are left out: "
                f"{failed[0]}" + f", and {len(failed) - 1} like it" * (len(failed) > 1),
                TableWarning,
                stacklevel=2,
            )
        return made

    def here(self) -> bool:
        """Whether the data can be read without a download."""
        if self.present is not None:
            return self.present()
        try:
            self.read()
        except LpzError:
            return False
        return True

    def target(self, entry: Trained) -> float:
        """The target of scores: the trained performance, with its sign changed if needed so that higher is better."""
        return entry.quality if self.larger_is_better else -entry.quality


BenchmarkLike = str | Path | Benchmark


def installed_benchmarks(plugins: PluginRegistry) -> dict[str, Claim[Benchmark]]:
    """Every offered benchmark by name. Raises `PluginError` if two distributions claim one name."""
    return plugins.offers("lpz_benchmarks", "benchmark", instance_of(Benchmark))


class _WithBenchmarks(PluginRegistry):
    """A registry that offers benchmarks of a caller's beside those of plugins; in another process, only the latter."""

    def __init__(self, plugins: PluginRegistry, given: Mapping[str, Benchmark]) -> None:
        vars(self).update(vars(plugins))
        known: dict[str, Claim[Benchmark]] = getattr(plugins, "_given", {})
        for name, benchmark in given.items():
            if name in known and known[name].item is not benchmark:
                raise UsageError(f"two different benchmarks are named '{name}'; give one of them another name")
        self._given = known | {name: Claim("given", "given", benchmark) for name, benchmark in given.items()}

    def offers(self, hook: str, kind: str, prepare: Callable[[Any], Any]) -> dict[str, Claim[Any]]:
        found = super().offers(hook, kind, prepare)
        return {**found, **self._given} if hook == "lpz_benchmarks" else found


def named_benchmarks(
    benchmarks: BenchmarkLike | Iterable[BenchmarkLike], plugins: PluginRegistry | None
) -> tuple[tuple[str, ...], PluginRegistry]:
    """The names of benchmarks, and a registry in which these, and the objects among them, are found by name.

    Args:
        benchmarks: names, paths or objects; one or several.
        plugins: where names are looked up; by default everything installed.

    Raises:
        UsageError: two objects have one name.
    """
    plugins = load_plugins() if plugins is None else plugins
    several = (benchmarks,) if isinstance(benchmarks, str | Path | Benchmark) else tuple(benchmarks)
    given: dict[str, Benchmark] = {}
    for one in several:
        if isinstance(one, Benchmark) and given.setdefault(one.name, one) is not one:
            raise UsageError(f"two different benchmarks are called '{one.name}'; rename one")
    names = tuple(one.name if isinstance(one, Benchmark) else str(one) for one in several)
    return names, _WithBenchmarks(plugins, given) if given else plugins


def load_benchmark(
    name: BenchmarkLike, plugins: PluginRegistry | None = None, table: TableOptions | None = None
) -> Benchmark:
    """The benchmark called `name`, or made by `lpz bench train` in the file or folder of that name, or a table.

    Args:
        name: as `lpz bench list` shows it, or a path; a benchmark itself is returned as it is.
        plugins: where names are looked up; by default everything installed.
        table: how it is read if it is a table; other benchmarks need none.

    Raises:
        UsageError: there is none; the message suggests the nearest name. Or it is a table, and nothing says how to
            read it.
        LpzError: the file is no benchmark, or the table cannot be read.

    Example:
        >>> from lpzero_hf import load_benchmark
        >>> len(load_benchmark("tiny-gpt2").trained())
        128
    """
    if isinstance(name, Benchmark):
        return name
    plugins = load_plugins() if plugins is None else plugins
    installed = installed_benchmarks(plugins)
    if isinstance(name, str) and name in installed:
        return installed[name].item
    path = Path(name).expanduser()
    refuse_misplaced(name, "benchmark", plugins)
    if path.is_file() and is_table(path):
        return _of_table(path, table, plugins)
    if path.is_file() and path.suffix.lower() != ".json":
        raise UsageError(
            f"'{path}' is neither a benchmark.json nor a table that can be read here; save it as one of "
            f"{', '.join(SUFFIXES)}, unpacked"
        )
    if path.exists():
        return made_benchmark(path / "benchmark.json" if path.is_dir() else path, plugins)
    raise UsageError(unknown("benchmark", str(name), installed, ": no file, and none that `lpz bench list` shows"))


def _of_table(path: Path, table: TableOptions | None, plugins: PluginRegistry) -> Benchmark:
    from lpzero_hf.benchmarks.table import benchmark_from_table
    from lpzero_hf.benchmarks.table_roles import refuse_unsaid

    if table is None:
        refuse_unsaid(path, None, None, plugins=plugins)
    return benchmark_from_table(path, **asdict(table), plugins=plugins)


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
    if benchmark.facts is not None:
        facts |= {**benchmark.facts(), "built": _built(benchmark, entries)}
    if benchmark.document is None:
        return facts
    document = benchmark.document()
    left = {"not_trained": len(document["missing"])} if document.get("missing") else {}
    return (
        facts
        | left
        | {
            "noise": noise_of(by_seed(document)),
            "training": document["plan"]["recipe"],
            "corpus": document["corpus"],
            "made_by": document["command"],
            "versions": document["versions"],
        }
    )


def _built(benchmark: Benchmark, entries: Sequence[Trained]) -> str:
    """What building a few configurations shows. Raises `LpzError` if one cannot be built, and such are not skipped."""
    sample = [entries[i * (len(entries) - 1) // (SAMPLE - 1)] for i in range(SAMPLE)]
    made = benchmark.configs(sample)
    return f"{len(made)} of {SAMPLE} sampled configurations"


def noise_of(losses: Mapping[Any, Mapping[str, float]]) -> dict[str, Any] | None:
    """How far trainings with other seeds differ; None if no two seeds have three architectures in common.

    Args:
        losses: by seed, then by architecture.
    """
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
