"""Finds an architecture under a budget, and writes the study, the result and the winner to a folder."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.utils import logging

from lpz_nas.budget import Budget
from lpz_nas.candidates import compare
from lpz_nas.evaluator import ProxyEvaluator, proxy_of
from lpz_nas.folder import RESULT, STUDY, WINNER, discard, open_folder, replacing_folder
from lpz_nas.outcome import Found, NothingScored
from lpzero_hf.benchmarks.benchmark import BenchmarkLike, load_benchmark, named_benchmarks
from lpzero_hf.benchmarks.held_out import content_of, searched_keys
from lpzero_hf.errors import LpzError, UsageError, said_once
from lpzero_hf.executors.base import Executor
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.files import one_process, write_json
from lpzero_hf.models.build import build_model
from lpzero_hf.models.torch_names import precision
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.proxies.resolve import ProxyLike, warn_of_minibatch
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.comparability import warn_of_differences
from lpzero_hf.scoring.load_proxy import LoadedProxy
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.spaces.base import Architecture, SearchSpace
from lpzero_hf.spaces.named import load_space

if TYPE_CHECKING:
    from lpzero_hf.benchmarks.benchmark import Benchmark, Trained
    from lpzero_hf.benchmarks.table_options import TableOptions

Progress = Callable[[int, int, float | None], None]


@said_once
@one_process
def find_architecture(
    space: str | Path | SearchSpace | None,
    proxy: ProxyLike | LoadedProxy,
    budget: Budget,
    *,
    trials: int = 100,
    out: str | Path,
    resume: bool = False,
    among: BenchmarkLike | None = None,
    table: TableOptions | None = None,
    front: bool = False,
    setting: Setting | None = None,
    cache: ScoreCache | None = None,
    executor: Executor | None = None,
    plugins: PluginRegistry | None = None,
    progress: Progress | None = None,
) -> Found:
    """Find the architecture that a proxy prefers under a budget.

    A whole space is searched by Optuna's TPE sampler. The study is stored in `out`, and an interrupted one continues
    with `resume`: with the same versions, its trials and its winner are those of an uninterrupted search. With `among`,
    the trained architectures of a benchmark are scored one by one, without those that the proxy was searched on: their
    trained performance is not used.

    Args:
        space: to search, or its name; None for that of the benchmark `among`.
        proxy: an argument of `load_proxy`, its result, or a plain function `f(model, batch) -> float`.
        budget: limits of the number of parameters.
        trials: number of different architectures to score. The search ends earlier if 10 * trials + 50 proposals
            contain fewer new ones within the budget.
        out: the folder to write: `nas.json` (the settings), `study.sqlite`, `result.json`, and `winner`, a model
            with random weights that `AutoModel` and `lpz score` read.
        resume: continue the search in `out`; `trials` may differ from before.
        among: a benchmark of that space, by its name or as an object; of more
            than `trials` architectures within the budget, a seeded draw.
        table: how `among` is read if it is a table.
        front: search for the whole front of score against parameters, instead of the best score alone.
        setting: minibatch, seed, precision and device; the default is 16 x 64 tokens, or the benchmark's.
        cache: stores scores for later calls; None stores none.
        executor: where to work, by default in this process, with one thread; several workers help only with `among`,
            because without it each proposal depends on the result of the one before.
        plugins: where names are looked up.
        progress: called with (architectures scored, architectures to score, best score so far).

    Raises:
        UsageError: a name is unknown, a number is out of range, or `out` holds another search.
        LpzError: Optuna is missing, no architecture is within the budget, none has a score, or a file cannot be read
            or written. A search that fails before its first score leaves nothing in `out`.

    Warns (`ComparisonWarning`) of vocabularies, objectives and initial weights that differ between architectures with
    a score.

    Example:
        >>> import tempfile
        >>> from lpz_nas import Budget, find_architecture
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = find_architecture(
        ...         "tiny-gpt2", "num_heads", Budget(max_params=400_000), trials=5, out=Path(folder) / "nas"
        ...     )
        >>> found.winner.params <= 400_000, len(found.trials)
        (True, 5)
    """
    if trials < 1:
        raise UsageError(f"{trials} trials find nothing; ask for at least 1")
    if not isinstance(budget, Budget):
        raise UsageError(f"{budget!r} is no budget; give Budget(max_params=...)")
    start = time.perf_counter()
    executor = LocalExecutor() if executor is None else executor
    threads = executor.threads
    out = Path(out)
    names, plugins = named_benchmarks(() if among is None else among, plugins)
    among = next(iter(names), None)
    prefix = str(space) if isinstance(space, str | Path) else ""
    space = None if space is None else load_space(space, plugins)
    chosen = proxy_of(proxy, plugins)
    benchmark = None if among is None else _benchmark(among, space, plugins, table)
    entries = [] if benchmark is None else _buildable(benchmark)
    candidates, left_out = ([], 0) if benchmark is None else _unseen(benchmark, entries, chosen, plugins)
    if space is None:
        if benchmark is None:
            raise UsageError("name the space to search, or a benchmark to choose from with `among=`")
        space = benchmark.space
    if benchmark is None:
        need("optuna", "searching a space")
    if setting is None:
        setting = Setting(16, 64) if benchmark is None else Setting(benchmark.batch_size, benchmark.seq_len)
    request = _request(space, chosen, budget, among, front, setting, threads)
    if benchmark is not None:
        request |= {"among_content": content_of(benchmark, entries)}
    if table is not None:
        request |= {"table": asdict(table)}
    libraries = ("lpzero-hf", "torch", "transformers", *(() if benchmark else ("optuna",)))
    made_with = {name: version(name) for name in libraries}
    open_folder(out, request | {"versions": made_with}, resume)
    scored = resume  # a resumed search may already have scores, so its files are kept

    def follow(done: int, total: int, best: float | None) -> None:
        nonlocal scored
        scored = scored or best is not None
        if progress is not None:
            progress(done, total, best)

    try:
        if benchmark is None:
            from lpz_nas.space_search import search_space

            evaluator = ProxyEvaluator(
                chosen, space=space, setting=setting, cache=cache, threads=threads, plugins=plugins
            )
            tried, proposed = search_space(
                evaluator, budget, trials=trials, storage=out / STUDY, front=front, progress=follow
            )
        else:
            warn_of_minibatch([chosen], setting.batch_size, setting.seq_len)
            tried, proposed = compare(
                space, candidates, chosen, budget, trials=trials,
                setting=setting, cache=cache, executor=executor, plugins=plugins, progress=follow,
            )  # fmt: skip
    except Exception as error:
        if isinstance(error, NothingScored) or not scored:
            discard(out)
        raise
    seconds = time.perf_counter() - start
    configs = {one.architecture: space.config(space.parse(one.architecture)) for one in tried if one.score is not None}
    warn_of_differences(configs, setting)
    found = Found(
        request | {"trials": trials}, tuple(tried), proposed, seconds, made_with, left_out, prefix or space.name
    )
    config = space.config(space.parse(found.winner.architecture))
    model = build_model(config, seed=setting.weights_seed, dtype=precision(setting.dtype))
    with replacing_folder(out / WINNER) as folder, _without_bars():
        model.save_pretrained(folder)
    write_json(out / RESULT, found.to_json())
    return found


def need(module: str, what: str) -> None:
    """Raise `LpzError`, naming the extra to install, if there is no such module; the extra has the module's name."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise LpzError(f"{what} needs {module}; install it with `pip install 'lpzero-hf[{module}]'`") from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Turn off the progress bars of transformers on stderr."""
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()


def _benchmark(name: str, space: SearchSpace | None, plugins: PluginRegistry, table: TableOptions | None) -> Benchmark:
    if table is not None and space is not None and table.space is None and table.base is None:
        table = replace(table, space=space.name)  # the column holds its ids
    benchmark = load_benchmark(name, plugins, table)
    if space is not None and benchmark.space.fingerprint() != space.fingerprint():
        other = "another space of that name" if benchmark.space.name == space.name else f"not '{space.name}'"
        raise UsageError(
            f"the architectures of benchmark '{name}' are of space '{benchmark.space.name}', {other}; search that one"
        )
    return benchmark


def candidates_among(
    name: str,
    space: SearchSpace | None,
    table: TableOptions | None,
    proxies: Sequence[Proxy],
    plugins: PluginRegistry,
) -> tuple[SearchSpace, list[Architecture], int]:
    """The space of a benchmark, those of its architectures that no proxy was searched on, and the number of others.

    Args:
        name: of the benchmark, or its file.
        space: that it must be of; None for any.
        table: how it is read if it is a table.
        proxies: that choose.
        plugins: where names are looked up.
    """
    benchmark = _benchmark(name, space, plugins, table)
    entries = _buildable(benchmark)
    left = list(dict.fromkeys(entry.architecture for entry in entries))
    every = len(left)
    for proxy in proxies:
        unseen = set(_unseen(benchmark, entries, proxy, plugins)[0])
        left = [architecture for architecture in left if architecture in unseen]
    if not left:
        raise UsageError(f"the proxies were searched on all architectures of benchmark '{name}'; choose others")
    return benchmark.space, left, every - len(left)


def _buildable(benchmark: Benchmark) -> list[Trained]:
    """The trained architectures, without those that cannot be built where the benchmark leaves these out."""
    entries = benchmark.trained()
    if not benchmark.skip_failures:
        return entries
    configs = benchmark.configs(entries)
    return [entry for entry in entries if entry.key in configs]


def _unseen(
    benchmark: Benchmark, entries: Sequence[Trained], proxy: Proxy, plugins: PluginRegistry
) -> tuple[list[Architecture], int]:
    """The different architectures of a benchmark that a proxy was not searched on, and the number of the others."""
    seen = searched_keys(proxy, benchmark, plugins, entries)
    left = dict.fromkeys(entry.architecture for entry in entries if entry.key not in seen)
    left_out = len({entry.architecture for entry in entries} - left.keys())
    if not left:
        raise UsageError(
            f"proxy '{proxy.name}' was searched on all {left_out} architectures of benchmark '{benchmark.name}'; "
            "choose another proxy, or leave out `among=`"
        )
    return list(left), left_out


def _request(
    space: SearchSpace, proxy: Proxy, budget: Budget, among: str | None, front: bool, setting: Setting, threads: int
) -> dict[str, Any]:
    """Everything that determines the outcome except the number of trials, as plain data."""
    facts = setting.to_json()
    definition = space.definition()
    return {
        "space": space.name,
        **({} if definition is None else {"definition": definition}),
        "among": among,
        "proxy": proxy.name,
        "proxy_version": proxy.version,
        "orientation": proxy.orientation,
        "budget": asdict(budget),
        "front": front,
        "setting": facts | {"text": facts["text"] or "embedded", "text_sha256": setting.content()},
        "threads": threads,
    }
