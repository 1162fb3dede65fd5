"""How one of many architectures fits into the free memory, decided before any weight is made."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.memory import give_back
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.scoring.memory_estimate import GIB, estimate_memory
from lpzero_hf.scoring.run_plan import AS_IT_IS, MARGIN, RunPlan, planned

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOO_LARGE = "it needs more memory than is free"
NARROWER = f"{TOO_LARGE}; `dtype=torch.bfloat16` needs less"


class Crowded(Exception):
    """A model needs more than its share of the memory: it is to be scored when no other is."""


def fitting(
    model: PreTrainedModel,
    batch: Mapping[str, Any] | None,
    proxies: Sequence[Proxy],
    plugins: PluginRegistry,
    *,
    device: str,
    sharing: int = 1,
) -> RunPlan:
    """How a lazy model is scored in the memory that is free: with checkpointing or in micro-batches where that is
    short, and which proxies are left out.

    A rough estimate is enough for a model far from its limits, so that many small ones cost no further pass each.

    Args:
        model: lazy, see `load_model`.
        batch: as for `score`.
        proxies: those wanted.
        plugins: where layouts come from.
        device: where they will run.
        sharing: how many models share the memory; each has an equal part of what is free.

    Raises:
        Crowded: it needs more than that part, and would have more if it were alone.
    """
    if all(proxy.requires != "model" for proxy in proxies):
        return AS_IT_IS
    layout = layout_of(model, plugins)
    rough = estimate_memory(model, batch, proxies, layout, device=device, rough=True)
    if rough.available is None or MARGIN * rough.bytes + GIB <= rough.available / sharing:
        return AS_IT_IS
    gc.collect()  # what earlier models have left
    give_back()
    estimate = estimate_memory(model, batch, proxies, layout, device=device)
    if estimate.available is None:
        return AS_IT_IS
    if sharing > 1:
        if estimate.bytes <= estimate.available / sharing:
            return AS_IT_IS
        raise Crowded
    return planned(estimate)
