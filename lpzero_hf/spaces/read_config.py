"""Reads configurations from files and the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpzero_hf.errors import LpzError, ModelError, UsageError, one_line, unknown
from lpzero_hf.files import read_json
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.spaces.config_keys import warn_of_unknown_keys
from lpzero_hf.spaces.hub_id import possible_hub_id
from lpzero_hf.spaces.misplaced import refuse_misplaced
from lpzero_hf.spaces.model_types import model_types
from lpzero_hf.spaces.named import SUFFIXES, installed_models
from lpzero_hf.spaces.size_limits import check_sizes

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

OF_HUB = ("gpt2",)  # the name of a space too


def local_config(path: Path, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The configuration in a `config.json`, or in a folder that holds one.

    Raises:
        ModelError: it cannot be read, is no configuration, or asks for what no machine can build.
    """
    file = path / "config.json" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        raise ModelError(f"the folder '{path}' has no config.json; give a folder saved with save_pretrained")
    if file.suffix.lower() in SUFFIXES[:2]:
        raise ModelError(f"'{file}' is the file of a space by its name; name one architecture of it, as {file}:ID")
    try:
        raw = read_json(file, "save the configuration again", strict=False)  # some published ones hold Infinity
    except LpzError as error:
        raise ModelError(str(error)) from error
    if not isinstance(raw, dict) or not ("model_type" in raw or "auto_map" in raw):
        raise ModelError(f"'{file}' names no 'model_type', so its family is unknown; add the key")
    return _config(str(file if not path.is_dir() else path), str(file), trust_remote_code)


def hub_config(source: str, trust_remote_code: bool, plugins: PluginRegistry) -> PreTrainedConfig:
    """The configuration from the Hub, or from its local cache if the Hub cannot be reached.

    Raises:
        UsageError: there is none, or the Hub cannot be reached and the cache does not hold it.
        ModelError: the Hub refuses it, or it cannot be read.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    known, nowhere = installed_models(plugins), ": no zoo model (`lpz zoo` lists them), no folder or config.json here"

    def refusal(hub: str) -> UsageError:
        refuse_misplaced(source, "model", plugins)
        told = f"{nowhere}, and {hub}" if looks_like_hub_id(source) else nowhere
        if "/" in source:  # of the Hub, whatever it resembles
            return UsageError(f"unknown model '{source}'{told}")
        return UsageError(unknown("model", source, known, told))

    if source not in OF_HUB:
        refuse_misplaced(source, "model", plugins)
    if not possible_hub_id(source):
        raise refusal("no possible Hub id")
    offline, reason = False, ""
    try:
        HfApi().model_info(source, timeout=10)
    except GatedRepoError as error:
        raise ModelError(f"'{source}' is gated; ask for access on its Hub page and log in") from error
    except RepositoryNotFoundError as error:
        raise refusal("not on the Hub (if it is private, log in with `hf auth login`)") from error
    except HfHubHTTPError as error:
        raise ModelError(f"the Hub refused '{source}': {one_line(error)}") from error
    except Exception as error:  # no network: the HTTP library has many errors for it
        offline, reason = True, one_line(error)
    try:
        return _config(source, source, trust_remote_code, offline=offline)
    except ModelError as error:
        if offline:
            raise refusal(f"the Hub cannot be reached ({reason})") from error
        raise


def looks_like_hub_id(name: str) -> bool:
    """Whether a name may be meant for the Hub: `user/model`, or one of its early names, which begin with a family.

    Example:
        >>> looks_like_hub_id("me/mine"), looks_like_hub_id("bert-base-uncased"), looks_like_hub_id("lama-mini")
        (True, True, False)
    """
    return possible_hub_id(name) and ("/" in name or name.partition("-")[0] in model_types())


def _config(source: str, shown: str, trust_remote_code: bool, *, offline: bool = False) -> PreTrainedConfig:
    from transformers import AutoConfig, PreTrainedConfig

    model_types()
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
        message = (
            "it needs code of its own, which runs only with `trust_remote_code=True`" if own_code else one_line(error)
        )
        raise ModelError(f"cannot read the configuration of '{shown}': {message}") from error
