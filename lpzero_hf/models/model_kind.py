"""What kind of language model a model is, since what is known of a proxy is known for one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from transformers.models.auto import modeling_auto as auto

from lpzero_hf.models.objective import head_kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Kind = Literal["encoder", "decoder", "encoder-decoder", "other"]
OF_HEAD: dict[str, Kind] = {"causal": "decoder", "masked": "encoder", "seq2seq": "encoder-decoder"}


def model_kind(model: PreTrainedModel) -> Kind:
    """Whether a model predicts hidden tokens (an encoder), the next ones (a decoder), or one text from another (both).

    It is told by the head or, where there is none for language (a bare model, a classifier), by what heads
    transformers has for the family; "other" if it has none.

    Args:
        model: built, or lazy: no value of a weight is read.

    Example:
        >>> from lpzero_hf import load_model
        >>> model_kind(load_model("bert-mini").model)
        'encoder'
    """
    if (kind := OF_HEAD.get(head_kind(model))) is not None:
        return kind
    config = model.config
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    if config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        return "encoder"
    return "decoder" if config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "other"
