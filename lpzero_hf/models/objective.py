"""The scalar that gradients are taken of: the model's own loss, or a random projection of its output."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto as auto

from lpzero_hf.errors import CaptureError, ModelWarning, NotFinite
from lpzero_hf.models.embeddings import token_embedding
from lpzero_hf.models.padding import IGNORED, without_padding

Batch = dict[str, Any]
MASKED_FRACTION = 0.15


def head_kind(model: PreTrainedModel) -> str:
    """What `model` is trained to do: "causal", "masked", "seq2seq" or, for any other head or none, "other".

    A class that transformers lists as a language model of text, or derives from one, is of that kind if its forward
    takes labels. Any other is a language model if its forward takes labels and it has output embeddings, which give a
    logit to every token: models of images or speech and text, and those with further heads.
    """
    taken = inspect.signature(model.forward).parameters
    if "labels" not in taken and not _open_ended(taken):
        return "other"
    for name in (ancestor.__name__ for ancestor in type(model).__mro__):
        if name in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values():  # some that hear have no decoder apart
            apart = getattr(model.config, "is_encoder_decoder", False) or "decoder_input_ids" in taken
            return "seq2seq" if apart else "causal"
        if name in _values(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES) or name.endswith("ForMaskedLM"):
            return "masked"
        if name in _values(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) or name.endswith(("ForCausalLM", "LMHeadModel")):
            return "causal"
    if "labels" not in taken or model.get_output_embeddings() is None:
        return "other"
    if getattr(model.config, "is_encoder_decoder", False) and "decoder_input_ids" in taken:
        return "seq2seq"
    encoder = model.config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = type(model).__name__ in {*_values(auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)}
    return "masked" if encoder and not causal and not getattr(model.config, "is_decoder", False) else "causal"


def has_own_loss(model: PreTrainedModel, batch: Mapping[str, Any]) -> bool:
    """Whether the objective of `model` on `batch` is its own loss: it is a language model, or `batch` has targets."""
    taken = inspect.signature(model.forward).parameters
    given = {name for name in batch if name in taken or _open_ended(taken)}
    return head_kind(model) != "other" or "labels" in given or {"start_positions", "end_positions"} <= given


def projection_warning(model: PreTrainedModel) -> str:
    """The warning that the objective of `model` is a projection."""
    return (
        f"{type(model).__name__} has no loss of its own on this minibatch: gradients are those of a seeded random "
        "projection of its output; give 'labels' in the minibatch, or score a model with a language-model head"
    )


def with_labels(model: PreTrainedModel, batch: Batch, seed: int) -> Batch:
    """A copy of `batch` with the labels and decoder inputs that the model's own loss needs, on the model's device.

    A caller's `labels` are kept. Causal and sequence-to-sequence models predict (and reconstruct) the
    input; padding is ignored. A masked language model predicts a seeded 15% of the real tokens; these
    are hidden in the input only where the minibatch was made for the model by `minibatch`. A decoder
    behind an encoder is fed the labels, or without labels the input, shifted by one. A model that is also trained to
    tell whether sentences follow each other (`next_sentence_label`, `sentence_order_label`) is told that they do.
    Padding is brought to one form (see `lpzero_hf.models.padding`).

    Args:
        batch: `input_ids` [B, T], optionally `attention_mask` [B, T] and `labels`.
        seed: chooses the masked positions.
    """
    kind = head_kind(model)
    batch = without_padding(batch, padding_token(model), apart=kind == "seq2seq")
    batch = {k: v.to(model.device, copy=True) if isinstance(v, Tensor) else v for k, v in batch.items()}
    ids = batch["input_ids"].long()
    if "labels" not in batch and kind != "other":
        labels = ids.masked_fill(~real_tokens(batch), IGNORED)
        if kind == "masked":
            labels = labels.masked_fill(~masked_positions(batch, seed), IGNORED)
        batch["labels"] = labels
    taken = inspect.signature(model.forward).parameters
    for name in ("next_sentence_label", "sentence_order_label"):
        if kind != "other" and name in taken:
            batch.setdefault(name, ids.new_zeros(len(ids)))
    if "decoder_input_ids" in taken and not {"decoder_input_ids", "decoder_inputs_embeds"} & batch.keys():
        batch["decoder_input_ids"] = _shifted(model, batch["labels"].long() if kind == "seq2seq" else ids)
        if kind != "seq2seq" and "attention_mask" in batch:  # the decoder is fed the input: its padding is the same
            batch.setdefault("decoder_attention_mask", real_tokens(batch).long())
    return batch


def padding_token(model: PreTrainedModel) -> int:
    """The id that the model takes for padding; 0 if it has none."""
    token = getattr(model.config.get_text_config(), "pad_token_id", None)
    size = getattr(token_embedding(model), "num_embeddings", None) or 0
    return token if isinstance(token, int) and 0 <= token < size else 0


def _shifted(model: PreTrainedModel, targets: Tensor) -> Tensor:
    """Decoder inputs for `targets` [B, T]: by the model's own rule if its configuration allows that."""
    names = ("decoder_start_token_id", "pad_token_id", "bos_token_id")
    start, padding, first = (getattr(model.config, name, None) for name in names)
    own = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if own is not None and start is not None and padding is not None:
        return own(targets)  # type: ignore[no-any-return]  # transformers leaves it untyped
    shifted = targets.masked_fill(targets == IGNORED, padding or 0).roll(1, dims=1)
    shifted[:, 0] = next((token for token in (start, first, padding) if isinstance(token, int)), 0)
    return shifted


def real_tokens(batch: Batch) -> Tensor:
    """Which positions hold real tokens rather than padding: bool [B, T]."""
    mask = batch.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        return torch.ones_like(batch["input_ids"], dtype=torch.bool)
    return mask.bool()


def real_targets(batch: Batch) -> Tensor:
    """Which positions of the decoder behind an encoder are real: bool [B, T']; without one, `real_tokens`."""
    if "decoder_input_ids" not in batch:
        return real_tokens(batch)
    mask, labels = batch.get("decoder_attention_mask"), batch.get("labels")
    if isinstance(mask, Tensor):
        return mask.bool()
    if isinstance(labels, Tensor) and labels.shape == batch["decoder_input_ids"].shape:
        return labels != IGNORED
    return torch.ones_like(batch["decoder_input_ids"], dtype=torch.bool)


def masked_positions(batch: Batch, seed: int) -> Tensor:
    """A seeded 15% of each sample's real tokens, at least one: bool [B, T]."""
    real = real_tokens(batch)
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(seed)).to(real.device)
    rank = noise.masked_fill(~real, 2.0).argsort(1).argsort(1)
    count = (MASKED_FRACTION * real.sum(1, keepdim=True)).long().clamp(min=1)
    return (rank < count) & real


def objective(model: PreTrainedModel, batch: Batch, seed: int) -> Tensor:
    """The scalar l whose gradients are statistics.

    The model's own loss if it has a language-model head or the batch has its targets. Otherwise the mean
    over real tokens of a seeded random projection of the output, because the plain sum of a LayerNorm's
    output has no gradient; `has_own_loss` tells which, and a language model that returns no loss after all is
    warned of (`ModelWarning`).

    Args:
        batch: as `with_labels` returns it.
        seed: draws the projection.

    Raises:
        CaptureError: the model returned neither a loss nor a floating-point output.
        NotFinite: its output is not finite at a real token.
    """
    return _scalar(model, batch, finite_output(model, batch), seed)


def unchecked_objective(model: PreTrainedModel, batch: Batch, seed: int) -> Tensor:
    """As `objective`, of an output that need not be finite, or have values."""
    return _scalar(model, batch, run_model(model, batch), seed)


def _scalar(model: PreTrainedModel, batch: Batch, output: Any, seed: int) -> Tensor:
    loss: Tensor | None = output.get("loss")
    if loss is not None and loss.dim() == 0:
        return loss
    if has_own_loss(model, batch):
        warnings.warn(projection_warning(model), ModelWarning, stacklevel=2)
    return project(first_output(output), projected(output, batch), seed)


def projected(output: Any, batch: Batch) -> Tensor:
    """Which positions of the output of a model without a loss its objective is a mean over: bool [B, T'].

    Those that hold real tokens; all of an output that has other positions than the batch.
    """
    hidden, real = first_output(output), real_targets(batch)
    if hidden.dim() == 3 and hidden.shape[:2] == real.shape:
        return real
    return torch.ones(hidden.shape[:-1], dtype=torch.bool, device=hidden.device)


def project(hidden: Tensor, real: Tensor, seed: int) -> Tensor:
    """The mean over `real` [B, T] of a seeded random projection of `hidden` [B, T, d]."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(hidden.shape[-1], generator=generator).to(hidden)
    return (hidden @ direction)[real].mean()


def run_model(model: nn.Module, batch: Batch) -> Any:
    """The output of `model` on those entries of `batch` that it accepts, without a key-value cache."""
    accepted = inspect.signature(model.forward).parameters
    taken = {name: value for name, value in batch.items() if name in accepted or _open_ended(accepted)}
    if "use_cache" in accepted:
        taken["use_cache"] = False
    return model(**taken, return_dict=True)


def finite_output(model: PreTrainedModel, batch: Batch) -> Any:
    """As `run_model`. Raises `NotFinite` if the output at a real token is not finite."""
    output = run_model(model, batch)
    value = next(_outputs(output), None)
    if value is None or _sums(value.detach()).isfinite().all():
        return output
    real = real_targets(batch)
    if (value[real] if value.shape[:2] == real.shape else value).isfinite().all():
        return output
    raise NotFinite(
        f"the output of {type(model).__name__} in {str(value.dtype).removeprefix('torch.')} is not finite, so neither "
        "are its statistics; score it in a wider precision (`dtype=torch.float32`), or check its weights"
    )


def _sums(value: Tensor) -> Tensor:
    """The sum of each sample in double precision, as it may be large; the samples one by one, for torch makes a copy in
    that precision, which of all logits would be twice their memory."""
    return torch.stack([sample.sum(dtype=torch.float64) for sample in value])


def first_output(output: Any) -> Tensor:
    """The first floating-point tensor of a model output that is not the loss (logits or hidden states)."""
    for value in _outputs(output):
        return value
    raise CaptureError(
        "the model returned neither a loss nor a floating-point output to take gradients of; score a model that does"
    )


def _outputs(output: Any) -> Iterator[Tensor]:
    for name, value in output.items():
        if name != "loss" and isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1:
            yield value


def _open_ended(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _values(mapping: Any) -> set[str]:
    names: set[str] = set()
    for value in mapping.values():
        names.update([value] if isinstance(value, str) else value)
    return names
