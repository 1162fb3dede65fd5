"""Loads a model by name: from a zoo name, an architecture of a space, a Hub id, a folder or a config.json to a
`PreTrainedModel`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lpzero_hf.errors import LpzError, ModelError, UsageError, did_you_mean, one_line
from lpzero_hf.files import read_json
from lpzero_hf.models.build import ModelRecipe
from lpzero_hf.models.config_keys import warn_of_unknown_keys
from lpzero_hf.models.config_repairs import repaired
from lpzero_hf.models.disk_space import check_disk
from lpzero_hf.models.panics import reported
from lpzero_hf.models.size_limits import check_sizes
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.spaces.named import installed_models, named_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
)
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, or None if it has none."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None


def load_model(
    source: str,
    *,
    pretrained: bool = False,
    seed: int = 42,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
    plugins: PluginRegistry | None = None,
    lazy: bool = False,
    force: bool = False,
    attention: str | None = None,
) -> LoadedModel:
    """Build or load a model.

    Args:
        source: a zoo name, an architecture `SPACE:ID`, a local folder, a `config.json`, or a Hub id, tried in this
            order.
        pretrained: load the checkpoint instead of drawing random weights. Random weights are never quantized: a
            `quantization_config` is ignored, with a `ModelWarning`.
        seed: draws the random weights.
        dtype: precision of the weights.
        device: where the model goes.
        trust_remote_code: allow code from the folder or the Hub to be executed; never by default.
        plugins: where zoo names are looked up.
        lazy: give its weights no memory. `score` makes what its proxies need: nothing for counts, one weight at a
            time for norms of weights, else the whole model. The scores are the same.
        force: download even a checkpoint that seems too large for the disk, build even what seems too large for the
            memory.
        attention: its implementation, "eager" or "sdpa"; None for the configuration's.

    Raises:
        UsageError: the source is unknown, or has no checkpoint to load.
        ModelError: the configuration is unreadable, the model cannot be built, or its checkpoint lacks weights or does
            not fit on the disk.

    Example:
        >>> from lpzero_hf import load_model
        >>> load_model("gpt2-variant").model.config.n_layer
        6
    """
    config, location = load_config(source, trust_remote_code=trust_remote_code, plugins=plugins)
    if pretrained and location is None:
        raise UsageError(f"'{source}' has no checkpoint to load; leave out --pretrained for random weights")
    checkpoint = location if pretrained else None
    if checkpoint is not None and (stored := getattr(config, "quantization_config", None)) is not None:
        method = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
        raise ModelError(
            f"the checkpoint of '{source}' is quantised ({method or 'unknown method'}), and only plain weights are "
            "scored; save it dequantised, or leave out --pretrained for random weights"
        )
    recipe = ModelRecipe(
        repaired(config, attention), checkpoint, seed, dtype, torch.device(device), trust_remote_code, force
    )
    if pretrained and isinstance(location, str) and not force:
        check_disk(location)
    failure = f"cannot {'load' if pretrained else 'build'} '{source}'"
    model = recipe.make(failure, lazy=lazy)
    tokenizer = None if location is None else _tokenizer(location, trust_remote_code)
    return LoadedModel(source, model, tokenizer)


def load_config(
    source: str, *, trust_remote_code: bool = False, plugins: PluginRegistry | None = None
) -> tuple[PreTrainedConfig, str | Path | None]:
    """The configuration of a model, and where its files are: a folder or a Hub id; None if it is a configuration alone.

    The arguments and errors are those of `load_model`.
    """
    plugins = load_plugins() if plugins is None else plugins
    config, path = named_config(source, plugins), Path(source).expanduser()
    if config is not None:
        return config, None
    if path.exists():
        return _local_config(path, trust_remote_code), path if path.is_dir() else None
    return _hub_config(source, trust_remote_code, plugins), source


def _local_config(path: Path, trust_remote_code: bool) -> PreTrainedConfig:
    file = path / "config.json" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise ModelError(f"the folder '{path}' has no config.json; give a folder saved with save_pretrained")
    try:
        raw = read_json(file, "save the configuration again", strict=False)  # some published ones hold Infinity
    except LpzError as error:
        raise ModelError(str(error)) from error
    if not isinstance(raw, dict) or not ("model_type" in raw or "auto_map" in raw):
        raise ModelError(f"'{file}' names no 'model_type', so its family is unknown; add the key")
    return _config(str(file if not path.is_dir() else path), str(file), trust_remote_code)


def _hub_config(source: str, trust_remote_code: bool, plugins: PluginRegistry) -> PreTrainedConfig:
    """The configuration from the Hub, or from its local cache if the Hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    unknown = (
        f"unknown model '{source}'{did_you_mean(source, installed_models(plugins))}: no zoo model (`lpz zoo` lists "
        "them), no folder or config.json here"
    )
    if not HUB_ID.fullmatch(source):
        raise UsageError(f"{unknown}, and no possible Hub id")
    offline, reason = False, ""
    try:
        HfApi().model_info(source, timeout=10)
    except GatedRepoError as error:
        raise ModelError(f"'{source}' is gated; ask for access on its Hub page and log in") from error
    except RepositoryNotFoundError as error:
        raise UsageError(f"{unknown}, and not on the Hub (if it is private, log in with `hf auth login`)") from error
    except HfHubHTTPError as error:
        raise ModelError(f"the Hub refused '{source}': {one_line(error)}") from error
    except Exception as error:  # no network: the HTTP library has many errors for it
        offline, reason = True, one_line(error)
    try:
        return _config(source, source, trust_remote_code, offline=offline)
    except ModelError as error:
        if offline:
            raise UsageError(f"{unknown}, and the Hub cannot be reached ({reason})") from error
        raise


def _config(source: str, shown: str, trust_remote_code: bool, *, offline: bool = False) -> PreTrainedConfig:
    from transformers import AutoConfig, PreTrainedConfig

    try:
        raw, _ = PreTrainedConfig.get_config_dict(source, local_files_only=offline)
        check_sizes(raw, f"cannot build '{shown}'")
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            source, trust_remote_code=trust_remote_code, local_files_only=offline
        )
        warn_of_unknown_keys(raw, config, shown)
        return config
    except LpzError:
        raise
    except Exception as error:
        own_code = "trust_remote_code" in str(error)
        message = "it needs code of its own, which runs only with --trust-remote-code" if own_code else one_line(error)
        raise ModelError(f"cannot read the configuration of '{shown}': {message}") from error


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
