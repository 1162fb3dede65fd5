"""Trains several seeds of one architecture at once: their weights are stacked, and every operation works on all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lpzero_hf.benchmarks.train import (
    Recipe,
    TrainingOutcome,
    check_texts,
    check_trainable,
    examples,
    optimiser_of,
    outcome,
    validation_parts,
)
from lpzero_hf.errors import UsageError, one_line
from lpzero_hf.models.build import build_model
from lpzero_hf.models.objective import unchecked_objective

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def train_stack(
    config: PreTrainedConfig,
    text: Tensor,
    validation: Tensor,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    mask_id: int | None = None,
    device: str | torch.device = "cpu",
) -> list[TrainingOutcome]:
    """Train one architecture with several seeds at once, each as `train` does.

    The same weights see the same tokens as in `train`, and gradients are clipped for each; what differs is rounding,
    and the draws of dropout. One that diverges does not disturb the others.

    Args:
        config: of a causal or masked language model.
        text: token ids to train on [N].
        validation: token ids to measure on [M].
        recipe: the same for every architecture that is to be compared.
        seeds: each draws the weights and the order of the text of one model.
        mask_id: the id of the mask token, for a masked language model.
        device: where to train.

    Returns:
        One outcome a seed; the seconds of each are its share.

    Raises:
        UsageError: as `train`; or there are no seeds, or one twice.
        MinibatchError: as `train`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"the seeds {list(seeds)} are none, or one is there twice; give each once")
    start = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(seeds[0])
        # attention is written out: the fused kernel of CPUs has no rule for stacks
        models = [build_model(config, seed=seed, device=device, attention="eager") for seed in seeds]
        check_trainable(models[0], mask_id)
        check_texts(models[0], text, validation, recipe)
        curves = _fit(models, text, validation, recipe, seeds, mask_id)
    seconds = (time.perf_counter() - start) / len(seeds)
    return [outcome(models[0], curve, recipe, seconds) for curve in curves]


def check_stackable(
    config: PreTrainedConfig,
    text: Tensor,
    validation: Tensor,
    recipe: Recipe,
    *,
    mask_id: int | None = None,
    device: str | torch.device = "cpu",
) -> None:
    """Try one step of a stack of two, on one sequence.

    The arguments and errors are those of `train_stack`.

    Raises:
        UsageError: the code of the model cannot be run for a stack.
    """
    least = replace(recipe, steps=1, batch_size=1, warmup=1, windows=1, evaluations=1)
    try:
        train_stack(config, text, validation, least, seeds=[0, 1], mask_id=mask_id, device=device)
    except torch.OutOfMemoryError:  # whether it fits is not asked here
        return
    except RuntimeError as error:
        raise UsageError(
            f"models of the family '{config.model_type}' cannot be trained as a stack ({one_line(error)}); leave out "
            "`stack=True`, with another `out=` where it was given before"
        ) from error


class _Objective(nn.Module):
    """The objective of a model as the output of a module, so that its weights can be given by name."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        return unchecked_objective(self.model, {"input_ids": ids, "labels": labels}, 0)


def _fit(
    models: Sequence[PreTrainedModel],
    text: Tensor,
    validation: Tensor,
    recipe: Recipe,
    seeds: Sequence[int],
    mask_id: int | None,
) -> list[list[tuple[int, float]]]:
    modules = [_Objective(model.train()) for model in models]
    weights, buffers = stack_module_state(list(modules))  # each [G, ...]
    optimiser, schedule = optimiser_of(list(weights.values()), recipe)

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], ids: Tensor, labels: Tensor) -> Tensor:
        result: Tensor = functional_call(modules[0], (weights, buffers), (ids, labels))
        return result

    trained = vmap(loss, randomness="different")
    measured = vmap(loss, in_dims=(0, 0, None, None), randomness="different")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    curves: list[list[tuple[int, float]]] = [[] for _ in seeds]
    for step in range(1, recipe.steps + 1):
        batches = []
        for generator in generators:
            starts = torch.randint(len(text) - recipe.seq_len, (recipe.batch_size,), generator=generator)
            batches.append(examples(models[0], text, starts, recipe.seq_len, mask_id, seed=step))
        batch = {key: torch.stack([one[key] for one in batches]) for key in batches[0]}
        trained(weights, buffers, batch["input_ids"], batch["labels"]).sum().backward()
        _clip(list(weights.values()), recipe.clip)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step in recipe.measured():
            modules[0].eval()
            with torch.no_grad():
                total = torch.zeros(len(seeds))
                for part in validation_parts(models[0], validation, recipe, mask_id):
                    values = measured(weights, buffers, part["input_ids"], part["labels"])
                    total += values.cpu() * len(part["input_ids"])
            modules[0].train()
            for curve, value in zip(curves, (total / recipe.windows).tolist(), strict=True):
                curve.append((step, value))  # NaN for one that has diverged, from then on
    return curves


def _clip(weights: Sequence[Tensor], largest: float) -> None:
    """Scale the gradients of each model of a stack to a norm of at most `largest`; NaN where it is not finite."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    scale = (largest / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))
