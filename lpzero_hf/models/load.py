"""Loads a model by name: from a zoo name, an architecture of a space, a Hub id, a folder or a config.json to a
`PreTrainedModel`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import torch

from lpzero_hf.errors import LpzError, ModelError, UsageError, one_line
from lpzero_hf.models.build import ModelRecipe
from lpzero_hf.models.config_repairs import repaired
from lpzero_hf.models.disk_space import check_disk
from lpzero_hf.models.initial_std import with_initial_std
from lpzero_hf.models.panics import reported
from lpzero_hf.models.torch_names import device_of, precision
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.spaces.misplaced import refuse_misplaced
from lpzero_hf.spaces.named import named_config
from lpzero_hf.spaces.read_config import hub_config, local_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ModelLike = Union[str, Path, "PreTrainedConfig"]
Models = Mapping[str, ModelLike] | Iterable[ModelLike]
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
)


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, or None if it has none."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None


def load_model(
    source: str | Path | PreTrainedConfig,
    *,
    pretrained: bool = False,
    seed: int = 42,
    dtype: str | torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
    plugins: PluginRegistry | None = None,
    lazy: bool = False,
    force: bool = False,
    attention: str | None = None,
    init_std: float | None = None,
) -> LoadedModel:
    """Build or load a model.

    Args:
        source: a zoo name, an architecture `SPACE:ID`, a local folder, a `config.json`, or a Hub id, tried in this
            order; or a configuration.
        pretrained: load the checkpoint instead of drawing random weights. Random weights are never quantized: a
            `quantization_config` is ignored, with a `ModelWarning`.
        seed: draws the random weights.
        dtype: precision of the weights, by its name or as torch has it.
        device: where the model goes.
        trust_remote_code: allow code from the folder or the Hub to be executed; never by default.
        plugins: where zoo names are looked up.
        lazy: give its weights no memory. `score` makes what its proxies need: nothing for counts, one weight at a
            time for norms of weights, else the whole model. The scores are the same.
        force: download even a checkpoint that seems too large for the disk, build even what seems too large for the
            memory.
        attention: its implementation, "eager" or "sdpa"; None for the configuration's.
        init_std: the standard deviation of random weights; None for the configuration's.

    Raises:
        UsageError: the source is unknown, has no checkpoint to load, or is not drawn by one deviation.
        ModelError: the configuration is unreadable, the model cannot be built, or its checkpoint lacks weights or does
            not fit on the disk.

    Example:
        >>> from lpzero_hf import load_model
        >>> load_model("gpt2-variant").model.config.n_layer
        6
    """
    config, location = load_config(source, trust_remote_code=trust_remote_code, plugins=plugins)
    source = str(source) if isinstance(source, str | Path) else source.model_type or "model"
    if pretrained and location is None:
        raise UsageError(f"'{source}' has no checkpoint to load; leave out `pretrained=True` for random weights")
    if init_std is not None:
        if pretrained:
            raise UsageError("a checkpoint has no random weights to draw; leave out `init_std=` or `pretrained=True`")
        config = with_initial_std(config, init_std)
    checkpoint = location if pretrained else None
    if checkpoint is not None and (stored := getattr(config, "quantization_config", None)) is not None:
        method = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
        raise ModelError(
            f"the checkpoint of '{source}' is quantised ({method or 'unknown method'}), and only plain weights are "
            "scored; save it dequantised, or leave out `pretrained=True` for random weights"
        )
    recipe = ModelRecipe(
        repaired(config, attention), checkpoint, seed, precision(dtype), device_of(device), trust_remote_code, force
    )
    if pretrained and isinstance(location, str) and not force:
        check_disk(location)
    failure = f"cannot {'load' if pretrained else 'build'} '{source}'"
    model = recipe.make(failure, lazy=lazy)
    tokenizer = None if location is None else _tokenizer(location, trust_remote_code)
    return LoadedModel(source, model, tokenizer)


def named_models(models: Models) -> dict[str, ModelLike]:
    """Models by names that tell them apart, equal ones too.

    Args:
        models: by name; or one or several, of which configurations are called by family and place: "gpt2 1", "llama 2".

    Raises:
        UsageError: one is neither a name nor a configuration, or a name is there twice.
    """
    from transformers import PreTrainedConfig

    named: dict[str, ModelLike] = {}
    if not isinstance(models, Mapping):
        single = isinstance(models, str | Path | PreTrainedConfig) or not isinstance(models, Iterable)
        several: tuple[Any, ...] = (models,) if single else tuple(models)
        for place, model in enumerate(several, 1):
            name = str(model) if isinstance(model, str | Path) else f"{_checked(model).model_type or 'model'} {place}"
            if name in named:
                raise UsageError(f"'{name}' is named twice; name each model once")
            named[name] = model
        models = named
    for name, model in models.items():
        if not isinstance(model, str | Path):
            _checked(model, f"model '{name}': ")
    return dict(models)


def _checked(given: Any, who: str = "") -> PreTrainedConfig:
    """What is no name as a configuration. Raises `UsageError`, on one line, if it is none."""
    from transformers import PreTrainedConfig, PreTrainedModel

    if isinstance(given, PreTrainedConfig):
        return given
    held = any(isinstance(one, PreTrainedModel) for one in (given, getattr(given, "model", None)))
    more = "; that of a model, with weights drawn anew, is `model.config`" if held else ""
    raise UsageError(f"{who}{type(given).__name__} is no architecture; give a name or a configuration{more}")


def load_config(
    source: str | Path | PreTrainedConfig, *, trust_remote_code: bool = False, plugins: PluginRegistry | None = None
) -> tuple[PreTrainedConfig, str | Path | None]:
    """The configuration of a model, and where its files are: a folder or a Hub id; None if it is a configuration alone.

    The arguments and errors are those of `load_model`.
    """
    plugins = load_plugins() if plugins is None else plugins
    if not isinstance(source, str | Path):
        return _checked(source), None
    source = str(source)
    config, path = named_config(source, plugins), Path(source).expanduser()
    if config is not None:
        return config, None
    if path.exists():
        refuse_misplaced(source, "model", plugins)
        return local_config(path, trust_remote_code), path if path.is_dir() else None
    return hub_config(source, trust_remote_code, plugins), source


def _files(location: str | Path) -> set[str]:
    """The names of the files in a folder or Hub repository; only the cached ones if the Hub cannot be reached."""
    from huggingface_hub import list_repo_files, try_to_load_from_cache

    if isinstance(location, Path):
        return {file.name for file in location.iterdir()}
    try:
        return set(list_repo_files(location))
    except Exception:  # no network: the HTTP library has many errors for it
        return {name for name in TOKENIZER_FILES if isinstance(try_to_load_from_cache(location, name), str)}


def _tokenizer(location: str | Path, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    """The tokenizer saved beside the model, or None if there is none."""
    from transformers import AutoTokenizer

    if not set(TOKENIZER_FILES) & _files(location):
        return None
    failure, remedy = f"the tokenizer of '{location}' cannot be loaded", "remove it to use the embedded one"
    try:
        with reported(failure, remedy, ModelError):
            return AutoTokenizer.from_pretrained(location, trust_remote_code=trust_remote_code)
    except LpzError:
        raise
    except Exception as error:  # the files may hold anything
        raise ModelError(f"{failure}: {one_line(error)}; {remedy}") from error
