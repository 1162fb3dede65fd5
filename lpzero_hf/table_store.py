"""Makes the branch tables of many architectures and keeps them in the cache, one safetensors file each."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lpzero_hf.batches import embedded_tokenizer, minibatch
from lpzero_hf.cache import digest
from lpzero_hf.capture import capture
from lpzero_hf.errors import LpzError, MinibatchError, one_line
from lpzero_hf.evaluation import Setting, identity
from lpzero_hf.expression import VERSION
from lpzero_hf.files import replacing
from lpzero_hf.models import build_model
from lpzero_hf.parallel import each
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.tables import GROUPS, Pair, Table, Wanted, tabulate

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Chains = Mapping[str, tuple[tuple[str, ...], ...]]


def make_tables(
    configs: Mapping[str, PreTrainedConfig],
    wanted: Wanted,
    setting: Setting,
    folder: Path,
    *,
    workers: int = 1,
    threads: int = 1,
    plugins: PluginRegistry,
    progress: Callable[[int, int], None] | None = None,
) -> list[Table]:
    """The table of every architecture in order; one that is in `folder` already is not made again.

    Args:
        configs: architectures by any name.
        wanted: what the tables hold; its operations are those of `plugins`.
        setting: minibatch, seed, precision and device.
        folder: where tables are kept; each is there whole or not at all.
        workers: processes.
        threads: CPU threads in each; they decide the rounding.
        plugins: where layouts and operations are looked up.
        progress: called with (architectures done, architectures in all).

    Raises:
        LpzError: an architecture cannot be built or captured, or a kept table is damaged.
    """
    key = table_key(wanted, setting, threads)
    files = {name: folder / f"{digest(identity(config), key)}.safetensors" for name, config in configs.items()}
    missing = [name for name, file in files.items() if not file.exists()]
    tell = progress or (lambda done, total: None)
    done = len(configs) - len(missing)
    tell(done, len(configs))
    work = functools.partial(
        _make_one, chains=dict(wanted.chains), pairs=wanted.pairs, setting=setting, plugins=plugins
    )
    tasks = [(name, configs[name], files[name]) for name in missing]
    for _ in each(work, tasks, workers=workers, threads=threads):
        done += 1
        tell(done, len(configs))
    return [read_table(file, wanted) for file in files.values()]


def table_key(wanted: Wanted, setting: Setting, threads: int) -> str:
    """A digest of what decides a table beside the architecture."""
    used = {name for chains in wanted.chains.values() for chain in chains for name in chain}
    versions = {name: wanted.operations[name].version for name in sorted(used)}
    chains = {name: list(all_) for name, all_ in wanted.chains.items()}
    return digest(VERSION, setting.key(), chains, list(wanted.pairs), versions, threads)


def _make_one(
    task: tuple[str, PreTrainedConfig, Path],
    *,
    chains: Chains,
    pairs: tuple[Pair, ...],
    setting: Setting,
    plugins: PluginRegistry,
) -> None:
    name, config, file = task
    wanted = Wanted(chains, pairs, plugins.operations)
    try:
        model = build_model(config, seed=setting.seed, dtype=getattr(torch, setting.dtype), device=setting.device)
        batch = minibatch(
            model,
            text=setting.text,
            tokenizer=embedded_tokenizer(),
            batch_size=setting.batch_size,
            seq_len=setting.seq_len,
            seed=setting.seed,
            random_tokens=setting.random_tokens,
        )
        captured = capture(model, batch, list(wanted.reductions.values()), plugins.layout(model), seed=setting.seed)
        table = tabulate(wanted, captured)
    except MinibatchError:  # its message says what to do
        raise
    except LpzError as error:
        raise LpzError(f"no statistics of architecture {name}: {error}") from error
    write_table(file, table)


def write_table(file: Path, table: Table) -> None:
    """Keep a table, whole or not at all. Raises `LpzError` if it cannot be written."""
    tensors: dict[str, Tensor] = {}
    tensors |= {f"counts.{group}": tensor for group, tensor in table.counts.items()}
    tensors |= {f"totals.{name}": tensor for name, tensor in table.totals.items()}
    tensors |= {f"products.{x}.{y}": tensor for (x, y), tensor in table.products.items()}
    tensors |= {f"matmuls.{x}.{y}": tensor for (x, y), tensor in table.matmuls.items()}
    with replacing(file) as temporary:
        try:
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()},
                temporary,
                {"chains": json.dumps({name: list(all_) for name, all_ in table.chains.items()})},
            )
        except SafetensorError as error:
            raise LpzError(f"cannot write '{file}': {one_line(error)}; make room, or set LPZ_CACHE") from error


def read_table(file: Path, wanted: Wanted) -> Table:
    """A table that was kept. Raises `LpzError` if it is damaged, or not what is wanted."""
    table = Table(wanted.chains, {}, {}, {}, {})
    try:
        with safe_open(file, "pt") as opened:
            chains = json.loads(opened.metadata()["chains"])
            for key in opened.keys():  # noqa: SIM118  # not a dict
                kind, *names = key.split(".")
                part = getattr(table, kind)
                part[tuple(names) if len(names) == 2 else names[0]] = opened.get_tensor(key)
        if {name: tuple(map(tuple, all_)) for name, all_ in chains.items()} != dict(wanted.chains):
            raise ValueError("other chains than those wanted")
        _check(table, wanted)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise LpzError(f"the table '{file}' is damaged ({one_line(error)}); delete it, and it is made again") from error
    return table


def _check(table: Table, wanted: Wanted) -> None:
    """Raises `ValueError` unless all tensors have the shapes that belong together."""
    for group, counts in table.counts.items():
        for name in GROUPS[group]:
            if name in wanted.chains and table.totals[name].shape != (2, counts.shape[1], len(wanted.chains[name])):
                raise ValueError(f"totals of {name} of shape {tuple(table.totals[name].shape)}")
    for pair in wanted.pairs:
        if pair[0] in table.totals and table.products[pair].shape[1:] != tuple(len(wanted.chains[s]) for s in pair):
            raise ValueError(f"products of {pair} of shape {tuple(table.products[pair].shape)}")
