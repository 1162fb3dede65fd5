"""What a device computes against the CPU, in float32 without TF32: scores of all proxies, branch tables, a search."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from lpzero_hf import score
from lpzero_hf.benchmarks.agreement import spearman
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.capture.capture import capture
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.tables import Table, tabulate
from lpzero_hf.models.layout import ModelLayout, layout_of
from lpzero_hf.models.running import running_layout
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.scores import Score, Scores
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.search import search
from lpzero_hf.spaces.named import load_space
from tests.support.families import FAMILIES

KINDS = ("gpt2", "llama", "bert", "mamba2", "mixtral", "t5")
SPACES = ("tiny-gpt2", "flexibert")
FAMILY_NAMES = (*KINDS, *SPACES)
DEPTH = {"gpt2": "n_layer", "t5": "num_layers"}  # others call it num_hidden_layers
SETTING = Setting(batch_size=4, seq_len=16)
BENCHMARK = "tiny-gpt2"
TOLERANCE = 1e-4  # float32 against float64 on a CPU, with the same weights, gave at most 5e-6
FRAGILE = {"zico": 0.05, "lpzero-flexibert": 0.1}  # ratios of differences that almost vanish; there 8e-3 and 2e-2


@contextmanager
def exact() -> Iterator[None]:
    """Matrix products and convolutions in full float32: no TF32, which has ten bits."""
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions


def architectures(family: str, models: int) -> list[PreTrainedConfig]:
    """So many of one of `FAMILY_NAMES`: tiny ones of 1 to `models` blocks, or members of a space of the zoo."""
    if family in SPACES:
        space = load_space(family)
        return [space.config(architecture) for architecture in space.samples(models)]
    depth = DEPTH.get(family, "num_hidden_layers")
    return [AutoConfig.for_model(family, **(FAMILIES[family] | {depth: 1 + i})) for i in range(models)]


@dataclass(frozen=True)
class ProxyComparison:
    """One proxy on one family, on a device and on the CPU.

    Args:
        family: of the models.
        proxy: its name.
        models: that have a score on both.
        difference: the largest between two scores of one model, as a fraction of the largest score in the family.
        rho: Spearman's, of the models' scores on both; None where all are equal, or there are fewer than three.
        apart: scores whose status is not that on the CPU, with both reasons.
    """

    family: str
    proxy: str
    models: int
    difference: float
    rho: float | None
    apart: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether no status differs, no value by more than its tolerance, and, unless it is fragile, no rank."""
        ranked = self.rho is None or self.rho > 1 - 1e-9 or self.proxy in FRAGILE
        return not self.apart and ranked and self.difference <= FRAGILE.get(self.proxy, TOLERANCE)


def scores_of(config: PreTrainedConfig, setting: Setting) -> Scores:
    """The scores of all proxies on one model, drawn on the CPU with a seed and thus the same on every device."""
    model, batch = setting.build(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small minibatches, and models without a loss: the same on both
        return score(model, batch, "all")


def compare_proxies(family: str, configs: Sequence[PreTrainedConfig], setting: Setting) -> list[ProxyComparison]:
    """All proxies on the models of one family, in `setting` against float32 on the CPU."""
    reference = replace(setting, device="cpu", dtype="float32")
    both = [(scores_of(config, setting), scores_of(config, reference)) for config in configs]
    return [_compared(family, name, [(one[name], other[name]) for one, other in both]) for name in both[0][1]]


def _compared(family: str, name: str, pairs: Sequence[tuple[Score, Score]]) -> ProxyComparison:
    values = [(one.value, other.value) for one, other in pairs if one.value is not None and other.value is not None]
    apart = tuple(
        f"{one.status} ({one.reason}) and not {other.status} ({other.reason})"
        for one, other in pairs
        if one.status != other.status
    )
    if not values:
        return ProxyComparison(family, name, 0, 0.0, None, apart)
    largest = max(abs(value) for pair in values for value in pair) or 1.0
    difference = max(abs(a - b) for a, b in values) / largest
    rho = spearman(*map(list, zip(*values, strict=True))) if len(values) > 2 else None
    return ProxyComparison(family, name, len(values), difference, rho, apart)


def by_proxy(found: Iterable[ProxyComparison]) -> list[dict[str, Any]]:
    """A record for each proxy: the largest difference and the lowest rho over all families, and where they are."""
    rows: dict[str, list[ProxyComparison]] = {}
    for one in found:
        rows.setdefault(one.proxy, []).append(one)
    return [_summary(name, of) for name, of in rows.items()]


def _summary(name: str, of: Sequence[ProxyComparison]) -> dict[str, Any]:
    worst = max(of, key=lambda one: one.difference)
    rhos = {one.family: one.rho for one in of if one.rho is not None}
    least = min(rhos, key=lambda family: rhos[family], default=None)
    return {
        "proxy": name,
        "scores": sum(one.models for one in of),
        "difference": worst.difference,
        "of": worst.family,
        "lowest_rho": None if least is None else rhos[least],
        "ranks_of": least,
        "ranks_equal": sum(rho == 1.0 for rho in rhos.values()),
        "families_ranked": len(rhos),
        "apart": [f"{one.family}: {text}" for one in of for text in one.apart],
    }


def compare_tables(device: str, architectures: int) -> dict[str, Any]:
    """Branch tables of some architectures made on both: whether counts are equal, and the share of entries that are.

    An entry counts as equal if both are NaN or the same infinity, or they differ by at most 1e-3 of the larger. A sum
    that nearly cancels is nothing but rounding, on any device. So the entries that double precision on the CPU gives
    to 1e-4 as well, the steady ones, are counted by themselves.
    """
    config = SearchConfig((BENCHMARK,), unary=(1, 1))
    plugins = load_plugins()
    wanted = config.space(installed_operations(plugins)).wanted
    benchmark = load_benchmark(BENCHMARK, plugins)
    entries = spaced(benchmark.trained(), architectures)
    setting = config.setting
    there, here, exactly = [], [], []
    for entry in entries:
        model, batch = setting.build(benchmark.space.config(entry.architecture))
        layout = running_layout(model, layout_of(model, plugins), batch, setting.seed)

        def table(batch: dict[str, Tensor], model: PreTrainedModel = model, layout: ModelLayout = layout) -> Table:
            reductions = list(wanted.reductions.values())
            return tabulate(wanted, capture(model, batch, reductions, layout, seed=setting.seed))

        weights: torch.nn.Module = model
        here.append(table(batch))
        weights.to(device)
        there.append(table({key: tensor.to(device) for key, tensor in batch.items()}))
        weights.to("cpu", torch.float64)  # the same weights
        exactly.append(table(batch))
    counts = all(
        torch.equal(one.counts[group], other.counts[group])
        for one, other in zip(there, here, strict=True)
        for group in other.counts
    )
    equal, steady = (
        torch.cat([_equal(one, other, rtol) for one, other in zip(first, second, strict=True)])
        for first, second, rtol in ((there, here, 1e-3), (exactly, here, 1e-4))
    )
    return {
        "architectures": len(entries),
        "counts_equal": counts,
        "entries": equal.numel(),
        "share_equal": float(equal.double().mean()),
        "steady": int(steady.sum()),
        "share_of_steady_equal": float(equal[steady].double().mean()),
    }


def _equal(one: Table, other: Table, rtol: float) -> Tensor:
    def entries(table: Table) -> Tensor:
        kinds = (table.totals, table.products, table.matmuls)
        return torch.cat([tensor.reshape(-1).double() for kind in kinds for tensor in kind.values()])

    return torch.isclose(entries(one), entries(other), rtol=rtol, atol=0.0, equal_nan=True)


def compare_searches(device: str, limit: int) -> dict[str, Any]:
    """An exhaustive search of one unary operation a branch on both: their best fitness, and what they chose."""
    train = max(3, limit * 2 // 3)
    plan = SearchConfig((BENCHMARK,), strategy="exhaustive", unary=(1, 1), train=train, limit=limit)
    found: dict[str, Any] = {"benchmark": BENCHMARK, "architectures": limit, "searched_on": train}
    fittest: list[dict[str, float]] = []
    for what, where in (("device", device), ("cpu", "cpu")):
        split = search(replace(plan, setting=replace(plan.setting, device=where))).splits[0]
        fittest.append({str(one.expression): one.fitness for one in split.fittest})
        found[what] = {
            "evaluated": split.evaluated,
            "fitness": max(fittest[-1].values()),
            "winner": [str(expression) for expression in split.winner.expressions],
        }
    found["fittest_in_common"] = len(fittest[0].keys() & fittest[1].keys())
    found["fittest"] = len(fittest[1])
    return found


def agreement(device: torch.device, models: int, limit: int, keep: Callable[[Mapping[str, Any]], None]) -> None:
    """All proxies on `models` of each family, tables of as many architectures, and a search on `limit` of them.

    Args:
        device: to compare with the CPU.
        models: of each family.
        limit: architectures that are searched on, and held out.
        keep: called with what is found after each part.
    """
    setting = replace(SETTING, device=str(device))
    found: dict[str, Any] = {"tolerance": TOLERANCE, "fragile": FRAGILE}
    found |= {"models": models, "minibatch": [setting.batch_size, setting.seq_len], "families": []}
    compared: list[ProxyComparison] = []
    with exact():
        for family in FAMILY_NAMES:
            start = time.perf_counter()
            compared += compare_proxies(family, architectures(family, models), setting)
            found["families"].append({"family": family, "seconds": time.perf_counter() - start})
            found["disagree"] = [asdict(one) for one in compared if not one.agrees]
            found["proxies"] = by_proxy(compared)
            keep(found)
        found["table"] = compare_tables(str(device), models)
        keep(found)
        found["search"] = compare_searches(str(device), limit)
        keep(found)
