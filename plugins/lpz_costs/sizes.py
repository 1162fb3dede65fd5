"""Costs that the sizes of a model tell: parameters and the memory of its weights."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lpz_costs.serving import prefill, prompts
from lpzero_hf.errors import NotApplicable
from lpzero_hf.models.body_parameters import count_body_parameters
from lpzero_hf.models.flop_count import shapes_of
from lpzero_hf.models.kernels import plain_kernels
from lpzero_hf.models.layout import count_parameters, distinct_parameters
from lpzero_hf.scoring.costs import Cost, CostSubject
from lpzero_hf.scoring.quantities import BYTES, COUNT

CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "num_selected_experts", "moe_topk", "moe_k", "top_k")


def params(subject: CostSubject) -> float:
    """Parameters of the whole model, tied weights once."""
    return count_parameters(subject.model)


def non_embedding_params(subject: CostSubject) -> float:
    """Parameters outside embeddings and output heads."""
    return count_body_parameters(subject.model, subject.layout)


def active_params(subject: CostSubject) -> float:
    """Parameters that one token uses: of the experts, only those that it is sent to."""
    total, idle = count_parameters(subject.model), 0.0
    groups = experts_of(subject.model)
    if not groups:
        return total
    chosen = _chosen(subject, groups)
    for experts, number in groups.items():
        taken = chosen.get(experts)
        if taken is None:
            raise NotApplicable(f"how many of its {number} experts a token is sent to is not known")
        routed = [*distinct_parameters([experts]).values()]
        if not isinstance(experts, nn.ModuleList | nn.ModuleDict):
            routed = [p for p in routed if p.shape[0] == number]
        idle += sum(p.numel() for p in routed) * (1 - min(taken, number) / number)
    return total - round(idle)


def experts_of(model: nn.Module) -> dict[nn.Module, int]:
    """The modules that hold the experts of a mixture, each with their number: stacked weights, or a list."""
    found: dict[nn.Module, int] = {}
    for name, module in model.named_modules():
        last, kind = name.rpartition(".")[2].lower(), type(module).__name__.lower()
        stacked = [p for p in module.parameters(recurse=False) if p.dim() == 3]
        listed = isinstance(module, nn.ModuleList) and "expert" in last and "shared" not in last
        named = isinstance(module, nn.ModuleDict) and "expert" in kind
        if stacked and "expert" in kind:
            found[module] = stacked[0].shape[0]
        elif (listed or named) and len(module) > 1:
            found[module] = len(module)
    return found


def _chosen(subject: CostSubject, groups: dict[nn.Module, int]) -> dict[nn.Module, int]:
    """How many experts of each group one token is sent to: as the router says in a pass without values, where the
    experts are handed its choice; else as the configuration says."""
    found: dict[nn.Module, int] = {}

    def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for given in (*args, *kwargs.values()):
            if isinstance(given, Tensor) and not given.is_floating_point() and given.dim() == 2:
                found[module] = given.shape[-1]

    model = subject.model
    hooks = [module.register_forward_pre_hook(see, with_kwargs=True) for module in groups]
    try:
        with shapes_of(model), plain_kernels(model, "batched_mm"):
            prefill(model, prompts(model, 1, 2, subject.deployment.seed))
    except Exception:  # its control flow depends on values: the configuration tells
        found.clear()
    finally:
        for hook in hooks:
            hook.remove()
    config = model.config.get_text_config()
    declared = next((n for key in CHOSEN if isinstance(n := getattr(config, key, None), int) and n > 0), None)
    if declared is None and config.model_type == "switch_transformers":
        declared = 1  # Fedus et al. 2022: the best one
    for module in groups:
        if module not in found and declared is not None:
            found[module] = declared
    return found


def weights(subject: CostSubject) -> float:
    """Bytes of parameters and buffers."""
    return subject.weights


COSTS = [
    Cost(name="params", unit=COUNT, summary="parameters, tied ones once", measure=params, stage="shapes"),
    Cost(
        name="active_params",
        unit=COUNT,
        summary="parameters that one token uses",
        measure=active_params,
        stage="shapes",
    ),
    Cost(
        name="non_embedding_params",
        unit=COUNT,
        summary="parameters outside embeddings and output heads",
        measure=non_embedding_params,
        stage="shapes",
    ),
    Cost(name="weights", unit=BYTES, summary="memory of parameters and buffers", measure=weights, stage="shapes"),
]
