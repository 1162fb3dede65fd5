"""Makes the branch tables of many architectures and keeps them in the cache, one safetensors file each."""

from __future__ import annotations

import functools
import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lpzero_hf.capture import worker_warnings
from lpzero_hf.capture.capture import capture
from lpzero_hf.errors import LpzError, MinibatchError, ModelWarning, listed, one_line
from lpzero_hf.executors.base import Executor, Failure
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.expressions.expression import BUILT_IN, VERSION
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.tables import GROUPS, Pair, Table, Wanted, tabulate
from lpzero_hf.files import parse_json, replacing
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.running import running_layout
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.code_digest import code_digest
from lpzero_hf.scoring.cache import digest
from lpzero_hf.scoring.cache_key import architecture_key
from lpzero_hf.scoring.setting import Setting

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Chains = Mapping[str, tuple[tuple[str, ...], ...]]


class CaptureFailed(LpzError):
    """Some architectures have no table; the tables of all others are made and cached.

    Args:
        reasons: by the name of the architecture.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        what = "architecture" if len(reasons) == 1 else f"{len(reasons)} architectures:"
        super().__init__(f"no statistics of {what} {listed(reasons)}; those of all others are kept")


def make_tables(
    configs: Mapping[str, PreTrainedConfig],
    wanted: Wanted,
    setting: Setting,
    folder: Path,
    *,
    executor: Executor | None = None,
    plugins: PluginRegistry,
    progress: Callable[[int, int], None] | None = None,
) -> list[Table]:
    """The table of every architecture in order; a table that is already in `folder` is not made again.

    A table made in micro-batches because the device was out of memory (with a `MicroBatchWarning`) is not cached: it
    equals that of the whole minibatch except for rounding. Nor is that of a model defined in a script.

    Args:
        configs: architectures by any name.
        wanted: the content of the tables; its operations are those of `plugins`.
        setting: minibatch, seed, precision and device.
        folder: of the cached tables; each is written completely or not at all.
        executor: where to work; by default in this process, with one thread. Its threads decide the rounding.
        plugins: where layouts and operations are looked up.
        progress: called with (architectures done, total number of architectures).

    Raises:
        CaptureFailed: architectures cannot be built or captured; the tables of the others are cached.
        LpzError: a cached table is damaged, or no worker can be started.
    """
    executor = LocalExecutor() if executor is None else executor
    setting = setting.portable()
    key = table_key(wanted, setting, executor.threads)
    keys = {name: architecture_key(config, key, plugins) if key else "" for name, config in configs.items()}
    files = {name: folder / f"{key}.safetensors" for name, key in keys.items() if key}
    missing = [name for name in configs if name not in files or not files[name].exists()]
    report = progress or (lambda done, total: None)
    done = len(configs) - len(missing)
    report(done, len(configs))
    work = functools.partial(
        _make_one,
        chains=dict(wanted.chains), pairs=wanted.pairs, setting=setting, plugins=plugins,
    )  # fmt: skip
    reasons: dict[str, str] = {}
    uncached: dict[str, Table] = {}
    reported: set[str] = set()
    for number, result in executor.map(work, [configs[name] for name in missing]):
        name = missing[number]
        made, messages = (result, []) if isinstance(result, Failure) else result
        worker_warnings.report(messages, reported)
        if isinstance(made, Failure):
            reasons[name] = made.reason
        elif worker_warnings.in_parts(messages) or name not in files:
            uncached[name] = made
        else:
            write_table(files[name], made)  # here and not in the worker, which may be on another machine
        done += 1
        report(done, len(configs))
    if reasons:
        raise CaptureFailed({name: reasons[name] for name in missing if name in reasons})
    tables = [uncached[name] if name in uncached else read_table(files[name], wanted) for name in configs]
    notes = Counter(note for table in tables for note in table.notes)
    for message in worker_warnings.counted(notes, len(tables)):
        warnings.warn(message, ModelWarning, stacklevel=2)
    return tables


def table_key(wanted: Wanted, setting: Setting, threads: int) -> str:
    """A digest of all that determines a table, except the architecture; "" if the code of an operation has none."""
    used = sorted({name for chains in wanted.chains.values() for chain in chains for name in chain})
    versions = {name: wanted.operations[name].version for name in used}
    foreign = [wanted.operations[name] for name in used if wanted.operations[name] is not BUILT_IN.get(name)]
    code = [code_digest(*foreign)] if foreign else []
    if "" in code:
        return ""
    chains = {name: list(all_) for name, all_ in wanted.chains.items()}
    return digest(VERSION, setting.key(threads), chains, list(wanted.pairs), versions, *code)


def _make_one(
    config: PreTrainedConfig,
    *,
    chains: Chains,
    pairs: tuple[Pair, ...],
    setting: Setting,
    plugins: PluginRegistry,
) -> tuple[Table | Failure, list[worker_warnings.Recorded]]:
    """The table of one architecture, and the warnings."""
    with worker_warnings.recording() as recorded:
        made = _table(config, chains, pairs, setting, plugins)
    return made, recorded


def _table(
    config: PreTrainedConfig,
    chains: Chains,
    pairs: tuple[Pair, ...],
    setting: Setting,
    plugins: PluginRegistry,
) -> Table | Failure:
    wanted = Wanted(chains, pairs, installed_operations(plugins))
    try:
        model, batch = setting.build(config)
        layout = running_layout(model, layout_of(model, plugins), batch, setting.seed)
        captured = capture(model, batch, list(wanted.reductions.values()), layout, seed=setting.seed)
        return tabulate(wanted, captured)
    except MinibatchError:  # wrong for every architecture
        raise
    except Exception as error:  # one architecture must not cost the tables of the others
        return Failure(str(error) if isinstance(error, LpzError) else one_line(error))


def write_table(file: Path, table: Table) -> None:
    """Write a table, completely or not at all. Raises `LpzError` if it cannot be written."""
    tensors: dict[str, Tensor] = {}
    tensors |= {f"counts.{group}": tensor for group, tensor in table.counts.items()}
    tensors |= {f"totals.{name}": tensor for name, tensor in table.totals.items()}
    tensors |= {f"products.{x}.{y}": tensor for (x, y), tensor in table.products.items()}
    tensors |= {f"matmuls.{x}.{y}": tensor for (x, y), tensor in table.matmuls.items()}
    described = {"chains": {name: list(all_) for name, all_ in table.chains.items()}, "notes": table.notes}
    with replacing(file) as temporary:
        try:
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()},
                temporary,
                {"table": json.dumps(described)},
            )
        except SafetensorError as error:
            raise LpzError(f"cannot write '{file}': {one_line(error)}; free disk space, or set LPZ_CACHE") from error


def read_table(file: Path, wanted: Wanted) -> Table:
    """Read a cached table. Raises `LpzError` if it is damaged, or has other content than `wanted`."""
    table = Table(wanted.chains, {}, {}, {}, {})
    try:
        with safe_open(file, "pt") as opened:
            described = parse_json(opened.metadata()["table"], "its description", "make it again")
            chains, notes = described["chains"], described["notes"]
            for key in opened.keys():  # noqa: SIM118  # not a dict
                kind, *names = key.split(".")
                part = getattr(table, kind)
                part[tuple(names) if len(names) == 2 else names[0]] = opened.get_tensor(key)
        if {name: tuple(map(tuple, all_)) for name, all_ in chains.items()} != dict(wanted.chains):
            raise ValueError("other chains than those wanted")
        _check(table, wanted)
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise ValueError("notes that are no texts")
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, LpzError) as error:
        raise LpzError(f"the table '{file}' is damaged ({one_line(error)}); delete it, and it is made again") from error
    return replace(table, notes=tuple(notes))


def _check(table: Table, wanted: Wanted) -> None:
    """Raise `ValueError` unless the shapes of all tensors are consistent."""
    for group, counts in table.counts.items():
        for name in GROUPS[group]:
            if name in wanted.chains and table.totals[name].shape != (2, counts.shape[1], len(wanted.chains[name])):
                raise ValueError(f"totals of {name} of shape {tuple(table.totals[name].shape)}")
    for pair in wanted.pairs:
        if pair[0] in table.totals and table.products[pair].shape[1:] != tuple(len(wanted.chains[s]) for s in pair):
            raise ValueError(f"products of {pair} of shape {tuple(table.products[pair].shape)}")
