"""Builds models from configurations, whole or lazy (without memory for their weights)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpzero_hf.errors import LpzError, ModelError, ModelWarning, one_line
from lpzero_hf.models.checkpoint_check import check_loaded
from lpzero_hf.models.config_repairs import attention_of, repaired, without_kernels
from lpzero_hf.models.default_loss import name_default_loss
from lpzero_hf.models.deferred_init import Ledger, NotDeferrable
from lpzero_hf.models.initial_std import with_initial_std
from lpzero_hf.models.lazy import Checkpoint, NotInCheckpoint, Reader, Source, make_lazy
from lpzero_hf.models.memory import available_bytes
from lpzero_hf.models.module_limit import few_modules
from lpzero_hf.spaces.size_limits import check_sizes, may_be_large

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

GIB = 2**30


def build_model(
    config: PreTrainedConfig,
    *,
    seed: int = 42,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    lazy: bool = False,
    attention: str | None = None,
    init_std: float | None = None,
) -> PreTrainedModel:
    """The model of `config` with seeded random weights, in eval mode; `lazy`, `attention` and `init_std` as in
    `load_model`.
    A `quantization_config` is ignored, with a `ModelWarning`.

    Raises:
        ModelError: the configuration cannot be built.
    """
    config = config if init_std is None else with_initial_std(config, init_std)
    recipe = ModelRecipe(repaired(config, attention), None, seed, dtype, torch.device(device))
    return recipe.make(f"cannot build a '{config.model_type}'", lazy=lazy)


@dataclass(frozen=True)
class ModelRecipe:
    """Everything that determines a model and its weights.

    Args:
        config: as `repaired` returns it.
        checkpoint: a folder or Hub id; None for random weights.
        seed: draws random weights.
        dtype: precision of the weights.
        device: where the model goes.
        trust_remote_code: whether code beside the checkpoint may run.
        force: build even what the memory has no room for.
    """

    config: PreTrainedConfig
    checkpoint: str | Path | None
    seed: int
    dtype: torch.dtype
    device: torch.device
    trust_remote_code: bool = False
    force: bool = False

    def make(self, failure: str, *, lazy: bool) -> PreTrainedModel:
        """The model in eval mode. Raises `ModelError`, beginning with `failure`."""
        try:
            check_sizes(self.config.to_dict(), failure)
            return self._lazy(failure) if lazy else self._whole(failure)
        except LpzError:
            raise
        except Exception as error:
            raise ModelError(f"{failure}: {self._reason(error)}") from error

    def _reason(self, error: Exception) -> str:
        if (attention := attention_of(self.config)) is not None:
            remedy = "use `attention=sdpa` or eager"
            return f"it asks for the attention '{attention}', which does not run here; {remedy} ({one_line(error)})"
        if isinstance(error, KeyError):
            return f"its configuration lacks or mistakes the key {error}"
        return one_line(error)

    def _whole(self, failure: str) -> PreTrainedModel:
        if self.device.type == "meta":
            return self._on_meta(failure)
        if self.device.type == "cpu" and attention_of(self.config) == "flex_attention":
            raise RuntimeError("it has no backward pass on a CPU")
        if not self.force and may_be_large(self.config.to_dict()):
            self._check_memory(failure)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = self._built(self.checkpoint)
        return model.to(self.device).eval()  # type: ignore[arg-type, no-any-return]  # stub gap

    def _check_memory(self, failure: str) -> None:
        free = available_bytes(self.device)
        needed = sum(p.numel() * p.element_size() for p in self._on_meta(failure).parameters())
        if free is not None and needed > free:
            raise ModelError(
                f"{failure}: its weights alone need {needed / GIB:,.1f} GiB, and {free / GIB:,.1f} GiB are free; use "
                "proxies that need nothing but shapes (`proxies=params,flops`), smaller sizes or `dtype=torch.bfloat16`"
            )

    def _built(self, checkpoint: str | Path | None) -> PreTrainedModel:
        config = copy.deepcopy(self.config)  # transformers writes the precision into it
        return _finished(_build(config, checkpoint, self.dtype, self.trust_remote_code))

    def _on_meta(self, failure: str) -> PreTrainedModel:
        with torch.device("meta"), few_modules(failure):
            built = _build(without_kernels(self.config), None, self.dtype, self.trust_remote_code)
        model: PreTrainedModel = _finished(built).eval()
        return model

    def _lazy(self, failure: str) -> PreTrainedModel:
        """The model on the meta device: no value is made or read before one is wanted."""
        model = self._on_meta(failure)
        whole = partial(self.make, failure, lazy=False)
        if self.checkpoint is None:
            names = {id(p): name for name, p in model.named_parameters()}
            return make_lazy(model, Source(whole, partial(self._drawing, names), self.device))
        try:
            read = Checkpoint(self.checkpoint, model, self.device).read
        except NotInCheckpoint:
            whole()  # refuses what is missing, and not only named otherwise
            return make_lazy(model, Source(whole, device=self.device))
        except LookupError:
            return make_lazy(model, Source(whole, device=self.device))
        return make_lazy(model, Source(whole, lambda: read, self.device))

    def _drawing(self, names: Mapping[int, str]) -> Reader | None:
        """Draws single weights of the lazy model whose parameters have these names, by `id`."""
        try:
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                with Ledger() as ledger:
                    recorded = dict(self._built(None).named_parameters(remove_duplicate=False))
        except NotDeferrable:
            return None

        def read(parameter: Tensor) -> Tensor:
            own = recorded[names[id(parameter)]]
            return (ledger.make(own) if ledger.knows(own) else own.detach()).to(self.device)

        return read


def _build(
    config: PreTrainedConfig, checkpoint: str | Path | None, dtype: torch.dtype, trust_remote_code: bool
) -> PreTrainedModel:
    chosen = model_class(config)
    if checkpoint is not None:
        model, found = chosen.from_pretrained(
            checkpoint, config=config, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
        )
        check_loaded(model, found, str(checkpoint))
        return model  # type: ignore[no-any-return]  # Auto classes are untyped
    if hasattr(chosen, "from_config"):
        return chosen.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)  # type: ignore[no-any-return]
    return chosen._from_config(config, dtype=dtype)  # type: ignore[no-any-return]


def _finished(model: PreTrainedModel) -> PreTrainedModel:
    name_default_loss(model)
    return _with_padding(model)


def _with_padding(model: PreTrainedModel) -> PreTrainedModel:
    """`model`; a classifier of sequences reads the last token that is no padding, so it gets a padding token."""
    config = model.config.get_text_config()
    if "SequenceClassification" in type(model).__name__ and config.pad_token_id is None:
        last = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
        config.pad_token_id = model.config.pad_token_id = last if isinstance(last, int) else 0
        warnings.warn(
            f"{type(model).__name__} has no padding token; {config.pad_token_id} is used (set pad_token_id)",
            ModelWarning,
            stacklevel=5,
        )
    return model


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
