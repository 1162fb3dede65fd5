"""Finds the configuration that a space begins with: an object, its fields, a file, a zoo model or a Hub id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpzero_hf.errors import LpzError
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.spaces.base_config import BaseConfig, base_from, base_of
from lpzero_hf.spaces.named import named_config
from lpzero_hf.spaces.places import SpaceProblem
from lpzero_hf.spaces.read_config import hub_config, local_config


def find_base(source: Any, folder: Path | None = None, plugins: PluginRegistry | None = None) -> BaseConfig:
    """The base that a user means.

    Args:
        source: a configuration; a mapping with `model_type`, all of whose fields are set; a path, a name of the zoo or
            a Hub id, of whose configuration only what its class would not compute is set.
        folder: that paths are relative to.
        plugins: where names are looked up.

    Raises:
        SpaceProblem: it is none of these, or cannot be read.
    """
    from transformers import PreTrainedConfig

    if isinstance(source, Mapping):
        return base_from(source)
    if not isinstance(source, str | Path | PreTrainedConfig) or not source:
        raise SpaceProblem((), "give the fields with a model_type, or the path or Hub id of a configuration")
    try:
        return base_of(source if isinstance(source, PreTrainedConfig) else _named(source, folder, plugins))
    except LpzError as error:
        raise SpaceProblem((), str(error)) from error


def _named(source: str | Path, folder: Path | None, plugins: PluginRegistry | None) -> Any:
    plugins = load_plugins() if plugins is None else plugins
    path = (folder or Path()) / Path(source).expanduser()
    text = str(source)
    if (config := named_config(text, plugins)) is not None:
        return config
    looks_like_a_path = isinstance(source, Path) or text.startswith((".", "/", "~")) or text.endswith(".json")
    if looks_like_a_path or (len(text) < 4096 and "\0" not in text and path.exists()):
        if not path.exists():
            raise SpaceProblem((), f"there is no '{path}'; a path is relative to the file of the space")
        return local_config(path)
    return hub_config(text, False, plugins)
