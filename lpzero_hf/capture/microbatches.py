"""Splits a minibatch into micro-batches whose gradients add up to those of the whole minibatch.

They do if no sample influences another and the objective is a mean over a known number of items: the cross-entropy of
the targets, or the projection of a model without a loss. Both conditions are tested: two samples are run together and
alone, and the model's loss is compared with its definition. If one does not hold, micro-batches are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lpzero_hf.errors import CaptureError, WayRefused
from lpzero_hf.models.objective import Batch, finite_output, first_output, head_kind, project, projected, real_targets
from lpzero_hf.models.padding import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WHOLE = "score this model with its whole minibatch, without `micro_batch=`, or with a smaller `batch_size=`"
ITEMS = "num_items_in_batch"  # what transformers calls the number that a loss is to be divided by
OUTPUT_TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-5}  # relative, for rounding in the outputs of a sample
LOSS_TOLERANCE = {torch.float64: 2e-6, torch.float32: 2e-6}  # of a loss, often computed in single precision
HALF = 2e-2  # of both in half precision
Targets = Callable[[Tensor], Tensor]

TARGETS: dict[str, Targets] = {"next": lambda labels: labels[:, 1:], "same": lambda labels: labels}


class Indivisible(WayRefused):
    """A minibatch cannot run in parts.

    Args:
        cause: why, without a remedy.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(cause, WHOLE)


@dataclass(frozen=True)
class Shares:
    """How the objective of a minibatch is divided among its samples.

    Args:
        counts: number of targets of every sample, [B].
        divides: whether the model divides its loss by a number that is passed to it.
    """

    counts: Tensor
    divides: bool = False

    def objective(self, model: PreTrainedModel, batch: Batch, part: slice, seed: int) -> Tensor:
        """The contribution of some samples to the objective of the minibatch.

        Args:
            batch: of these samples.
            part: which they are.
            seed: as for `lpzero_hf.models.objective.objective`.
        """
        whole, mine = int(self.counts.sum()), int(self.counts[part].sum())
        if whole == 0:
            raise CaptureError(
                "the objective is nan; check the labels (are all of them -100?) and the tokens (one has no next one)"
            )
        output = finite_output(model, batch | {ITEMS: torch.tensor(whole)} if self.divides else batch)
        loss: Tensor | None = output.get("loss")
        if mine == 0:  # the mean over no target is not a number; its gradients are zero
            return (first_output(output) * 0).sum()
        if loss is None or loss.dim():
            loss = project(first_output(output), projected(output, batch), seed)
        return loss if self.divides else loss * (mine / whole)


def split(batch: Batch, size: int) -> list[tuple[slice, Batch]]:
    """`batch` in parts of at most `size` samples: the slice of the samples, and their batch.

    Raises:
        Indivisible: an entry has neither one row per sample nor one value for all of them.
    """
    samples = len(batch["input_ids"])
    parts = [slice(start, min(start + size, samples)) for start in range(0, samples, size)]
    return [(part, rows(batch, part)) for part in parts]


def rows(batch: Batch, chosen: slice | Tensor) -> Batch:
    """Some samples of `batch`. Raises `Indivisible` as `split` does."""
    samples, picked = len(batch["input_ids"]), {}
    for name, value in batch.items():
        if isinstance(value, Tensor) and value.dim() and len(value) == samples and "head_mask" not in name:
            picked[name] = value[chosen]
        elif isinstance(value, Tensor) and value.dim() and len(value) != 1 and "head_mask" not in name:
            raise Indivisible(f"'{name}' {list(value.shape)} cannot be split into {samples} samples")
        else:
            picked[name] = value
    return picked


@torch.no_grad()
def shares(model: PreTrainedModel, batch: Batch, begin: Callable[[Batch], Any]) -> Shares:
    """How the objective is divided, from trial passes over two samples, together and alone.

    Args:
        batch: two samples or more, with labels where the model has a loss.
        begin: called with the batch of each trial.

    Raises:
        Indivisible: samples influence each other, or the loss is not the mean cross-entropy of the targets.
    """
    labels = batch.get("labels")
    targets = batch["input_ids"].new_ones(len(batch["input_ids"])) if labels is None else _counts(labels, "same")
    most, least = int(targets.argmax()), int(targets.flip(0).argmin())
    pair = [most, len(targets) - 1 - least]
    if pair[0] == pair[1]:
        pair = [0, 1]
    chosen = torch.tensor(pair, device=batch["input_ids"].device)
    together, outputs = rows(batch, chosen), {}
    parameters = inspect.signature(model.forward).parameters.values()
    open_ended = any(p.kind is p.VAR_KEYWORD or p.name == ITEMS for p in parameters)
    items = {} if labels is None or not open_ended else {ITEMS: torch.tensor(2 * max(1, int(targets[chosen].sum())))}
    for name, fed in (("both", together), ("first", rows(batch, chosen[:1])), ("second", rows(batch, chosen[1:]))):
        begin(fed)
        outputs[name] = finite_output(model, fed | items)
    _check_independence(model, together, *(first_output(output) for output in outputs.values()))
    return _divided(model, batch, together, outputs["both"], items)


def _check_independence(model: PreTrainedModel, batch: Batch, both: Tensor, first: Tensor, second: Tensor) -> None:
    alone = torch.cat([first, second]) if first.shape == second.shape else both.new_zeros(0)
    tolerance = OUTPUT_TOLERANCE.get(both.dtype, HALF)
    if alone.shape == both.shape:
        real = real_targets(batch)
        if real.shape == both.shape[:2]:
            alone, both = alone[real], both[real]
        difference = torch.linalg.vector_norm((both - alone).float())
        if difference <= tolerance * torch.linalg.vector_norm(both.float()):
            return
    raise Indivisible(f"the samples of a minibatch influence each other in {type(model).__name__}")


def _divided(model: PreTrainedModel, batch: Batch, trial: Batch, output: Any, items: dict[str, Tensor]) -> Shares:
    loss, labels = output.get("loss"), trial.get("labels")
    if loss is None or loss.dim():
        fits = projected(output, trial).shape == real_targets(trial).shape
        return Shares(real_targets(batch).sum(1) if fits else torch.ones(len(batch["input_ids"])))
    extra = [name for name, value in output.items() if ("aux" in name or "z_loss" in name) and value is not None]
    logits = first_output(output)
    if isinstance(labels, Tensor) and not extra and not labels.is_floating_point():
        tolerance = LOSS_TOLERANCE.get(loss.dtype, HALF)
        names = ("next", "same") if head_kind(model) == "causal" else ("same", "next")
        for name in names:
            if logits.dim() != labels.dim() + 1 or (name == "next" and labels.dim() != 2):
                continue
            predicted, targets = logits[:, :-1] if name == "next" else logits, TARGETS[name](labels)
            if predicted.shape[:-1] != targets.shape:
                continue
            summed = F.cross_entropy(
                predicted.double().flatten(0, -2), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            number = int((targets != IGNORED).sum())
            if _close(loss, summed / number, tolerance):
                return Shares(_counts(batch["labels"], name))
            if items and _close(loss, summed / int(items[ITEMS]), tolerance):
                return Shares(_counts(batch["labels"], name), divides=True)
    what = f"has an additional term ({extra[0]})" if extra else "is not the mean cross-entropy of its targets"
    raise Indivisible(f"the loss of {type(model).__name__} {what}, so micro-batches would not add up to it")


def _close(loss: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool((loss.double() - expected).abs() <= tolerance * expected.abs())


def _counts(labels: Tensor, name: str) -> Tensor:
    """The number of targets of each sample, [B]."""
    targets = TARGETS[name](labels) if labels.dim() == 2 else labels
    return (targets != IGNORED).reshape(len(labels), -1).sum(1)
