"""Builds models from configurations, whole or lazy (without memory for their weights)."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpzero_hf.errors import LpzError, ModelError, ModelWarning, one_line
from lpzero_hf.models.deferred_init import Ledger, NotDeferrable
from lpzero_hf.models.lazy import Checkpoint, Source, make_lazy
from lpzero_hf.models.readable import quantization_ignored, quantization_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def build_model(
    config: PreTrainedConfig,
    *,
    seed: int = 42,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    lazy: bool = False,
) -> PreTrainedModel:
    """The model of `config` with seeded random weights, in eval mode; with `lazy`, as in `load_model`, without memory.
    A `quantization_config` is ignored, with a `ModelWarning`.

    Raises:
        ModelError: the configuration cannot be built.
    """
    recipe = ModelRecipe(copy.deepcopy(config), None, seed, dtype, torch.device(device))
    recipe.warn_of_quantization(f"this {config.model_type}")
    return recipe.make(f"cannot build a '{config.model_type}'", lazy=lazy)


@dataclass(frozen=True)
class ModelRecipe:
    """Everything that determines a model and its weights."""

    config: PreTrainedConfig
    checkpoint: str | Path | None
    seed: int
    dtype: torch.dtype
    device: torch.device
    trust_remote_code: bool = False

    def warn_of_quantization(self, what: str) -> None:
        """Warn (`ModelWarning`) if the configuration of `what` asks for quantization, which is ignored."""
        if self.checkpoint is None and quantization_of(self.config) is not None:
            warnings.warn(quantization_ignored(what, self.dtype), ModelWarning, stacklevel=3)

    def make(self, failure: str, *, lazy: bool) -> PreTrainedModel:
        """The model in eval mode. Raises `ModelError`, beginning with `failure`."""
        try:
            return self._lazy(failure) if lazy else self._whole()
        except LpzError:
            raise
        except Exception as error:
            raise ModelError(f"{failure}: {one_line(error)}") from error

    def _whole(self) -> PreTrainedModel:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = self._built(self.checkpoint)
        return model.to(self.device).eval()  # type: ignore[arg-type, no-any-return]  # stub gap

    def _built(self, checkpoint: str | Path | None) -> PreTrainedModel:
        config = copy.deepcopy(self.config)  # transformers writes the precision into it
        if checkpoint is None and quantization_of(config) is not None:
            del config.quantization_config
        return _build(config, checkpoint, self.dtype, self.trust_remote_code)

    def _lazy(self, failure: str) -> PreTrainedModel:
        whole = partial(self.make, failure, lazy=False)
        if self.checkpoint is None:
            try:
                with torch.random.fork_rng():
                    torch.manual_seed(self.seed)
                    with Ledger() as ledger:
                        model = self._built(None)
                return make_lazy(model.eval(), Source(whole, partial(self._drawn, ledger)))
            except NotDeferrable:
                pass
        with torch.device("meta"):
            model = self._built(None).eval()
        if self.checkpoint is None:
            return make_lazy(model, Source(whole))
        try:
            return make_lazy(model, Source(whole, Checkpoint(self.checkpoint, model, self.device).read))
        except LookupError:
            return make_lazy(model, Source(whole))

    def _drawn(self, ledger: Ledger, parameter: Tensor) -> Tensor:
        return (ledger.make(parameter) if ledger.knows(parameter) else parameter.detach()).to(self.device)


def _build(
    config: PreTrainedConfig, checkpoint: str | Path | None, dtype: torch.dtype, trust_remote_code: bool
) -> PreTrainedModel:
    chosen = model_class(config)
    if checkpoint is not None:
        return chosen.from_pretrained(  # type: ignore[no-any-return]  # Auto classes are untyped
            checkpoint, config=config, dtype=dtype, trust_remote_code=trust_remote_code
        )
    if hasattr(chosen, "from_config"):
        return chosen.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)  # type: ignore[no-any-return]
    return chosen._from_config(config, dtype=dtype)  # type: ignore[no-any-return]


def model_class(config: PreTrainedConfig) -> Any:
    """The class that `config` is built with: the first of its `architectures` that transformers has, else
    the language-model head of its family (for text, else for images and text), else the bare model."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    for name in config.architectures or []:
        if hasattr(transformers, name):
            return getattr(transformers, name)
    family = config.model_type
    if getattr(config, "is_encoder_decoder", False) and family in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForSeq2SeqLM
    if not getattr(config, "is_decoder", False) and type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING:
        return transformers.AutoModelForMaskedLM
    if type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in _remote(config):
        return transformers.AutoModelForCausalLM
    if type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModel


def _remote(config: PreTrainedConfig) -> dict[str, str]:
    return getattr(config, "auto_map", None) or {}
