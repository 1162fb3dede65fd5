"""The scalar that gradients are taken of: the model's own loss, or a random projection of its output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from lpzero_hf.errors import CaptureError

Batch = dict[str, Any]
IGNORED = -100  # the label that transformers leaves out of every loss
MASKED_FRACTION = 0.15


def head_kind(model: PreTrainedModel) -> str:
    """What `model` is trained to do: "causal", "masked", "seq2seq" or, for any other head or none, "other"."""
    name = type(model).__name__
    if name in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values():
        return "seq2seq"
    if name in _values(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES) or name.endswith("ForMaskedLM"):
        return "masked"
    if name in _values(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) or name.endswith(("ForCausalLM", "LMHeadModel")):
        return "causal"
    return "other"


def with_labels(model: PreTrainedModel, batch: Batch, seed: int) -> Batch:
    """`batch` with the labels that the model's own loss needs, on the model's device.

    A caller's `labels` are kept. Causal and sequence-to-sequence models predict (and reconstruct) the
    input; padding is ignored. A masked language model predicts a seeded 15% of the real tokens; these
    are hidden in the input only where the minibatch was made for the model by `minibatch`.

    Args:
        batch: `input_ids` [B, T], optionally `attention_mask` [B, T] and `labels`.
        seed: chooses the masked positions.
    """
    batch = {k: v.to(model.device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    kind = head_kind(model)
    ids = batch["input_ids"]
    if "labels" not in batch and kind != "other":
        labels = ids.masked_fill(~real_tokens(batch), IGNORED)
        if kind == "masked":
            labels = labels.masked_fill(~masked_positions(batch, seed), IGNORED)
        batch["labels"] = labels
    if kind == "seq2seq" and "decoder_input_ids" not in batch:
        start = next(
            (t for k in ("decoder_start_token_id", "bos_token_id", "pad_token_id")
             if isinstance(t := getattr(model.config, k, None), int)),
            0,
        )  # fmt: skip
        shifted = ids.roll(1, dims=1)
        shifted[:, 0] = start
        batch["decoder_input_ids"] = shifted
    return batch


def real_tokens(batch: Batch) -> Tensor:
    """Which positions hold real tokens rather than padding: bool [B, T]."""
    mask = batch.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        return torch.ones_like(batch["input_ids"], dtype=torch.bool)
    return mask.bool()


def masked_positions(batch: Batch, seed: int) -> Tensor:
    """A seeded 15% of each sample's real tokens, at least one: bool [B, T]."""
    real = real_tokens(batch)
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(seed)).to(real.device)
    rank = noise.masked_fill(~real, 2.0).argsort(1).argsort(1)
    count = (MASKED_FRACTION * real.sum(1, keepdim=True)).long().clamp(min=1)
    return (rank < count) & real


def objective(model: PreTrainedModel, batch: Batch, seed: int) -> Tensor:
    """The scalar l whose gradients are statistics.

    The model's own loss if it has a language-model head or the batch brings `labels`. Otherwise the mean
    over tokens of a seeded random projection of the output, because the plain sum of a LayerNorm's
    output has no gradient.

    Args:
        batch: as `with_labels` returns it.
        seed: draws the projection.

    Raises:
        CaptureError: the model returned neither a loss nor a floating-point output.
    """
    arguments = {"use_cache": False} if getattr(model.config, "use_cache", None) else {}
    output = model(**batch, **arguments, return_dict=True)
    loss: Tensor | None = output.get("loss")
    if loss is not None and loss.dim() == 0:
        return loss
    hidden = first_output(output)
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(hidden.shape[-1], generator=generator).to(hidden)
    return (hidden @ direction).mean()


def first_output(output: Any) -> Tensor:
    """The first floating-point tensor of a model output that is no loss (logits or hidden states)."""
    for name, value in output.items():
        if name != "loss" and isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1:
            return value
    raise CaptureError("the model returned neither a loss nor a floating-point output to take gradients of")


def _values(mapping: Any) -> set[str]:
    names: set[str] = set()
    for value in mapping.values():
        names.update([value] if isinstance(value, str) else value)
    return names
