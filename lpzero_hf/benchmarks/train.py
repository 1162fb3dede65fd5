"""Trains one architecture for a fixed number of steps and measures its validation loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_cosine_schedule_with_warmup

from lpzero_hf.errors import UsageError
from lpzero_hf.models.body_parameters import count_body_parameters
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import count_parameters
from lpzero_hf.models.minibatch import check_minibatch
from lpzero_hf.models.objective import head_kind, masked_positions, unchecked_objective

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Recipe:
    """How every architecture of a benchmark is trained: AdamW, linear warm-up, cosine decay to zero.

    Args:
        steps: optimiser steps.
        batch_size: sequences per step.
        seq_len: tokens per sequence.
        learning_rate: at its peak.
        warmup: steps until the peak.
        weight_decay: of AdamW.
        clip: the largest norm of the gradient.
        windows: sequences of validation text, evenly spaced; the same for every architecture.
        evaluations: points of the validation curve, the last one after the last step.
    """

    steps: int = 600
    batch_size: int = 8
    seq_len: int = 64
    learning_rate: float = 2e-3
    warmup: int = 60
    weight_decay: float = 0.1
    clip: float = 1.0
    windows: int = 256
    evaluations: int = 6

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "windows", "evaluations"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seq_len < 2:
            raise UsageError(f"a sequence of {self.seq_len} tokens has none to predict; ask for at least 2")

    def measured(self) -> set[int]:
        """The steps after which the validation loss is measured."""
        return {round(self.steps * (i + 1) / self.evaluations) for i in range(self.evaluations)}

    def tokens(self) -> int:
        """Tokens that one training sees."""
        return self.steps * self.batch_size * self.seq_len


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of training one architecture.

    Args:
        loss: the validation loss in nats per predicted token after the last step, None if it diverged.
        curve: (step, validation loss) along the way.
        parameters: all of them.
        body_parameters: those outside embeddings and output head.
        seconds: wall-clock time.
    """

    loss: float | None
    curve: tuple[tuple[int, float], ...]
    parameters: int
    body_parameters: int
    seconds: float


def train(
    config: PreTrainedConfig,
    text: Tensor,
    validation: Tensor,
    recipe: Recipe,
    *,
    seed: int = 42,
    mask_id: int | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[int], None] | None = None,
) -> TrainingOutcome:
    """Train a randomly initialised language model.

    Args:
        config: of a causal or masked language model.
        text: token ids to train on [N].
        validation: token ids to measure on [M].
        recipe: the same for every architecture that is to be compared.
        seed: draws the weights, the order of the text and the dropout.
        mask_id: the id of the mask token, for a masked language model.
        device: where to train.
        progress: called with the number of steps done.

    Raises:
        UsageError: the model is no causal or masked language model, or a text is too short.
        MinibatchError: the tokens or the length of a sequence do not fit the model.
    """
    start = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(config, seed=seed, device=device)
        check_trainable(model, mask_id)
        check_texts(model, text, validation, recipe)
        curve = _fit(model, text, validation, recipe, seed, mask_id, progress)
    return outcome(model, curve, recipe, time.perf_counter() - start)


def outcome(
    model: PreTrainedModel, curve: Sequence[tuple[int, float]], recipe: Recipe, seconds: float
) -> TrainingOutcome:
    """What a training gave, from its validation curve, whose last loss is NaN if it diverged."""
    loss = curve[-1][1] if curve[-1][0] == recipe.steps and math.isfinite(curve[-1][1]) else None
    finite = tuple(point for point in curve if math.isfinite(point[1]))
    return TrainingOutcome(loss, finite, count_parameters(model), count_body_parameters(model), seconds)


def check_trainable(model: PreTrainedModel, mask_id: int | None) -> None:
    """Raises `UsageError` if it is no causal or masked language model, or one without a mask token."""
    if head_kind(model) not in ("causal", "masked"):
        raise UsageError(f"{type(model).__name__} is no causal or masked language model, so it cannot be trained")
    if head_kind(model) == "masked" and mask_id is None:
        raise UsageError("a masked language model needs a tokenizer with a mask token")


def check_texts(model: PreTrainedModel, text: Tensor, validation: Tensor, recipe: Recipe) -> None:
    """Raises `UsageError` if a text is too short, `MinibatchError` if its tokens do not fit the model."""
    if min(len(text), len(validation)) <= recipe.seq_len:
        raise UsageError(f"a text is shorter than one sequence of {recipe.seq_len} tokens; give a longer one")
    for ids in (text, validation):  # the longest sequence with the largest id
        check_minibatch({"input_ids": torch.cat([ids[: recipe.seq_len - 1], ids.max()[None]])[None]}, model)


def optimiser_of(weights: Sequence[Tensor], recipe: Recipe) -> tuple[torch.optim.AdamW, LambdaLR]:
    """AdamW over some weights, and its schedule."""
    fused = weights[0].device.type in ("cpu", "cuda")
    optimiser = torch.optim.AdamW(
        weights, recipe.learning_rate, (0.9, 0.95), weight_decay=recipe.weight_decay, fused=fused
    )
    return optimiser, get_cosine_schedule_with_warmup(optimiser, min(recipe.warmup, recipe.steps), recipe.steps)


def _fit(
    model: PreTrainedModel,
    text: Tensor,
    validation: Tensor,
    recipe: Recipe,
    seed: int,
    mask_id: int | None,
    progress: Callable[[int], None] | None,
) -> list[tuple[int, float]]:
    optimiser, schedule = optimiser_of(list(model.parameters()), recipe)
    generator = torch.Generator().manual_seed(seed)
    measured = recipe.measured()
    curve: list[tuple[int, float]] = []
    for step in range(1, recipe.steps + 1):
        model.train()
        starts = torch.randint(len(text) - recipe.seq_len, (recipe.batch_size,), generator=generator)
        batch = examples(model, text, starts, recipe.seq_len, mask_id, seed=step)
        loss = unchecked_objective(model, batch, seed)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        if not bool(torch.isfinite(norm)):
            return [*curve, (step, math.nan)]
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step in measured:
            curve.append((step, validation_loss(model, validation, recipe, mask_id)))
        if progress is not None:
            progress(step)
    return curve


@torch.no_grad()
def validation_loss(model: PreTrainedModel, validation: Tensor, recipe: Recipe, mask_id: int | None = None) -> float:
    """The mean loss over the recipe's windows of `validation` [M], in nats per predicted token."""
    model.eval()
    total = 0.0
    for batch in validation_parts(model, validation, recipe, mask_id):
        total += float(unchecked_objective(model, batch, 0)) * len(batch["input_ids"])
    return total / recipe.windows


def validation_parts(
    model: PreTrainedModel, validation: Tensor, recipe: Recipe, mask_id: int | None
) -> Iterator[dict[str, Tensor]]:
    """The recipe's windows of `validation` [M], 32 at a time."""
    starts = torch.linspace(0, len(validation) - recipe.seq_len, recipe.windows, dtype=torch.float64).long()
    for part in starts.split(32):
        yield examples(model, validation, part, recipe.seq_len, mask_id, seed=0)


def examples(
    model: PreTrainedModel, text: Tensor, starts: Tensor, length: int, mask_id: int | None, seed: int
) -> dict[str, Tensor]:
    """The minibatch of the windows of `text` [M] that begin at `starts` [B], with labels."""
    ids = torch.stack([text[i : i + length] for i in starts.tolist()])
    labels = ids
    if head_kind(model) == "masked":
        chosen = masked_positions({"input_ids": ids}, seed)
        labels, ids = ids.masked_fill(~chosen, -100), ids.masked_fill(chosen, mask_id or 0)
    return {"input_ids": ids.to(model.device), "labels": labels.to(model.device)}
