"""Names to models: a zoo name, an architecture of a space, a Hub id, a folder or a config.json becomes a
`PreTrainedModel`."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpzero_hf.errors import LpzError, ModelError, UsageError, did_you_mean, one_line
from lpzero_hf.models.deferred_init import Ledger, NotDeferrable
from lpzero_hf.models.disk_space import check_disk
from lpzero_hf.models.lazy import Checkpoint, Source, make_lazy
from lpzero_hf.plugins import PluginRegistry, load_plugins

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
class ZooModel:
    """A named architecture.

    Args:
        name: what users type.
        summary: one line for people.
        config: makes its configuration.
    """

    name: str
    summary: str
    config: Callable[[], PreTrainedConfig]


@dataclass(frozen=True)
class LoadedModel:
    """A model with the tokenizer that came with it, if any did."""

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
) -> LoadedModel:
    """Build or load a model.

    Args:
        source: a zoo name, an architecture `SPACE:ID`, a local folder, a `config.json`, or a Hub id, looked for in
            this order.
        pretrained: load the checkpoint instead of drawing random weights.
        seed: draws the random weights.
        dtype: precision of the weights.
        device: where the model goes.
        trust_remote_code: allow code from the folder or the Hub to be executed; never by default.
        plugins: where zoo names are looked up.
        lazy: give its weights no memory. `score` makes what its proxies need: nothing for counts, one weight at a
            time for norms of weights, else the whole model. The scores are the same.
        force: download even a checkpoint that the disk seems to have no room for.

    Raises:
        UsageError: the source is unknown, or has no checkpoint to load.
        ModelError: the configuration is unreadable, the model cannot be built, or there is no room on the disk for
            its checkpoint.

    Example:
        >>> from lpzero_hf import load_model
        >>> load_model("gpt2-variant").model.config.n_layer
        6
    """
    plugins = load_plugins() if plugins is None else plugins
    config, path = plugins.zoo_config(source), Path(source).expanduser()
    if config is not None:
        location: str | Path | None = None
    elif path.exists():
        config, location = _local_config(path, trust_remote_code), path if path.is_dir() else None
    else:
        config, location = _hub_config(source, trust_remote_code, plugins), source
    if pretrained and location is None:
        raise UsageError(f"'{source}' has no checkpoint to load; leave out --pretrained for random weights")
    recipe = _Recipe(config, location if pretrained else None, seed, dtype, torch.device(device), trust_remote_code)
    if pretrained and isinstance(location, str) and not force:
        check_disk(location)
    failure = f"cannot {'load' if pretrained else 'build'} '{source}'"
    model = recipe.make(failure, lazy=lazy)
    tokenizer = None if location is None else _tokenizer(location, trust_remote_code)
    return LoadedModel(source, model, tokenizer)


def build_model(
    config: PreTrainedConfig,
    *,
    seed: int = 42,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    lazy: bool = False,
) -> PreTrainedModel:
    """The model of `config` with seeded random weights, in eval mode; with `lazy`, as in `load_model`, without memory.

    Raises:
        ModelError: the configuration cannot be built.
    """
    recipe = _Recipe(copy.deepcopy(config), None, seed, dtype, torch.device(device))
    return recipe.make(f"cannot build a '{config.model_type}'", lazy=lazy)


@dataclass(frozen=True)
class _Recipe:
    """All that decides a model."""

    config: PreTrainedConfig
    checkpoint: str | Path | None
    seed: int
    dtype: torch.dtype
    device: torch.device
    trust_remote_code: bool = False

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
    the language-model head of its family, else the bare model."""
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
    return transformers.AutoModel


def _remote(config: PreTrainedConfig) -> dict[str, str]:
    return getattr(config, "auto_map", None) or {}


def _local_config(path: Path, trust_remote_code: bool) -> PreTrainedConfig:
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"the folder '{path}' has no config.json; give a folder saved with save_pretrained")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"'{file}' is not readable JSON ({one_line(error)}); save the configuration again") from error
    if not isinstance(raw, dict) or not ("model_type" in raw or "auto_map" in raw):
        raise ModelError(f"'{file}' names no 'model_type', so its family is unknown; add the key")
    return _config(str(file if not path.is_dir() else path), str(file), trust_remote_code)


def _hub_config(source: str, trust_remote_code: bool, plugins: PluginRegistry) -> PreTrainedConfig:
    """The configuration from the Hub, or from its local cache where the Hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    unknown = (
        f"unknown model '{source}'{did_you_mean(source, plugins.models)}: no zoo model (`lpz zoo` lists them), "
        "no folder or config.json here"
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
    except Exception as error:  # no network, in the HTTP library's own words
        offline, reason = True, one_line(error)
    try:
        return _config(source, source, trust_remote_code, offline=offline)
    except ModelError as error:
        if offline:
            raise UsageError(f"{unknown}, and the Hub cannot be reached ({reason})") from error
        raise


def _config(source: str, shown: str, trust_remote_code: bool, *, offline: bool = False) -> PreTrainedConfig:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(  # type: ignore[no-any-return]  # Auto classes are untyped
            source, trust_remote_code=trust_remote_code, local_files_only=offline
        )
    except Exception as error:
        own_code = "trust_remote_code" in str(error)
        message = "it needs code of its own, which runs only with --trust-remote-code" if own_code else one_line(error)
        raise ModelError(f"cannot read the configuration of '{shown}': {message}") from error


def _files(location: str | Path) -> set[str]:
    """The names of the files in a folder or Hub repository; of those cached where the Hub cannot be reached."""
    from huggingface_hub import list_repo_files, try_to_load_from_cache

    if isinstance(location, Path):
        return {file.name for file in location.iterdir()}
    try:
        return set(list_repo_files(location))
    except Exception:  # no network, in the HTTP library's own words
        return {name for name in TOKENIZER_FILES if isinstance(try_to_load_from_cache(location, name), str)}


def _tokenizer(location: str | Path, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    """The tokenizer saved beside the model, or None if there is none."""
    from transformers import AutoTokenizer

    if not set(TOKENIZER_FILES) & _files(location):
        return None
    try:
        return AutoTokenizer.from_pretrained(location, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(
            f"the tokenizer of '{location}' cannot be loaded: {one_line(error)}; remove it to use the embedded one"
        ) from error
