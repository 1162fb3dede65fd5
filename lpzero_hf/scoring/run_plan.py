"""How a model is scored in the memory that is free: the way its shared passes run, and which proxies are left out.

Where memory is short, blocks keep their inputs alone and run twice, which gives the same scores bit for bit. If that is
not enough, the minibatch runs in micro-batches, which gives the same scores to rounding. What needs more memory even
then is left out, and all else is scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.lazy import source_of
from lpzero_hf.proxies.base import Proxy, StatisticProxy, ranks_a_set, single
from lpzero_hf.scoring.memory_estimate import GIB, MemoryEstimate, estimate_memory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from lpzero_hf.plugins import PluginRegistry

Way = tuple[bool, int | None]  # whether blocks run twice; how many sequences run at a time, None for all
MARGIN = 4  # by which a rough estimate may be wrong
UNSURE = 2  # by which any may be


@dataclass(frozen=True)
class RunPlan:
    """How a model is scored.

    Args:
        checkpointing: whether blocks run twice.
        micro_batch: number of sequences that run at a time, None for all.
        instead: other ways that fit, for a model that refuses this one.
        refusable: whether it is not the way asked for, nor is any of those: if the model refuses them, there is no
            memory to run it.
        left_out: the proxies that need more memory than is free, by name, and how much.
        estimate: of the memory, for the proxies that are not left out, or for all if none fits; None if there was no
            need for one.
    """

    checkpointing: bool
    micro_batch: int | None
    left_out: Mapping[str, str] = field(default_factory=dict)
    instead: tuple[Way, ...] = ()
    refusable: bool = False
    estimate: MemoryEstimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        estimate = {} if self.estimate is None else self.estimate.to_dict()
        return estimate | {"left_out": dict(self.left_out)}


AS_IT_IS = RunPlan(checkpointing=False, micro_batch=None)


def plan_run(
    model: PreTrainedModel,
    batch: Mapping[str, Any] | None,
    proxies: Sequence[Proxy],
    *,
    dtype: torch.dtype | None = None,
    checkpointing: bool = False,
    micro_batch: int | None = None,
    fixed: bool = False,
    force: bool = False,
    notable: int | None = None,
    device: str | torch.device | None = None,
    plugins: PluginRegistry,
) -> RunPlan:
    """How to score a model in the memory that is free now.

    Args:
        model: lazy or not; the weights of one that is not are there already.
        batch: as for `score`.
        proxies: all that are wanted.
        dtype: as for `score`.
        checkpointing: as asked for; more where memory is short.
        micro_batch: likewise.
        fixed: run as asked for, and only leave out what does not fit.
        force: run all as asked for.
        notable: bytes from which a need is estimated closely even if much more is free, and 0 for all, even what needs
            no weights; None for none, and nothing that needs no weights. A close estimate takes a pass without values.
        device: where it will run; None for where its weights are, or the CPU for a lazy model.
        plugins: where layouts come from.
    """
    asked = RunPlan(checkpointing, micro_batch)
    read = single(proxy for proxy in proxies if not ranks_a_set(proxy))
    if notable is None and (force or all(proxy.requires != "model" for proxy in read)):
        return asked
    layout, source = layout_of(model, plugins), source_of(model)
    lazy = source is not None
    place = device or (model.device if source is None else source.device)

    def estimated(some: Sequence[Proxy], rough: bool) -> MemoryEstimate:
        made = estimate_memory(
            model, batch, some, layout, checkpointing=checkpointing, micro_batch=micro_batch, device=place, rough=rough
        )  # fmt: skip
        itemsize = None if dtype is None else dtype.itemsize
        return replace(made, weights=made.weights if lazy else 0, shared_itemsize=itemsize)

    if notable != 0:
        rough = estimated(read, True)
        roomy = rough.available is None or MARGIN * rough.bytes + GIB <= rough.available
        if roomy and not rough.fallback and (notable is None or rough.bytes < notable):
            return asked
    estimate = estimated(read, False)
    if force:
        return replace(asked, estimate=estimate)
    plan = planned(estimate, fixed=fixed)
    rest = [proxy for proxy in read if proxy.name not in plan.left_out]
    if plan.left_out and rest and lazy and all(proxy.requires != "model" for proxy in rest):
        # Without the others, a model that reads values may be built for these.
        more = planned(estimated(rest, False), fixed=fixed)
        plan = replace(more, left_out={**plan.left_out, **more.left_out})
    return plan


def planned(estimate: MemoryEstimate, *, fixed: bool = False) -> RunPlan:
    """The plan for an estimate of what is asked for.

    Args:
        estimate: of all proxies, run as asked for.
        fixed: whether they run just so.
    """
    ways = [estimate] if fixed else _roomiest(estimate)
    chosen = ways[0]
    fits = chosen.fitting()
    left_out = {proxy.name: chosen.why_not(proxy) for proxy in chosen.proxies if proxy not in fits}
    if left_out and fits:
        chosen = chosen.of(fits)
    instead = tuple((way.checkpointing, way.micro_batch) for way in ways[1:])
    asked = estimate.checkpointing, estimate.micro_batch
    refusable = asked not in [(chosen.checkpointing, chosen.micro_batch), *instead]
    return RunPlan(chosen.checkpointing, chosen.micro_batch, left_out, instead, refusable, chosen)


def _roomiest(estimate: MemoryEstimate) -> list[MemoryEstimate]:
    """The first way of running the shared passes that fits, or else the one that needs least; after it, ways that fit
    and ask less of the model.

    As asked for, if that takes at most half of what is free, because estimates may be wrong by a factor of two.
    """
    shared = [p for p in estimate.proxies if isinstance(p, StatisticProxy) and p.requires == "model"]
    free = estimate.available
    if free is None or not shared or estimate.need(shared) * UNSURE <= free:
        return [estimate]
    needs = [(way.need(shared), place, way) for place, way in enumerate(_ways(estimate))]
    gained = needs[1][0] < needs[0][0]
    for need, _, way in needs[1:] if gained else needs:
        if need <= free:
            return [way, *(other for less, place, other in needs[:2] if other is not way and less <= free)]
    return [min(needs, key=lambda one: one[:2])[2]]


def _ways(estimate: MemoryEstimate) -> Iterator[MemoryEstimate]:
    """As asked for, with checkpointing, and with micro-batches of half, a quarter, ... of the sequences too."""
    yield estimate
    yield estimate.having(True, estimate.micro_batch)
    size = min(estimate.micro_batch or estimate.footprint.sequences, estimate.footprint.sequences)
    while size > 1:
        size //= 2
        yield estimate.having(True, size)
