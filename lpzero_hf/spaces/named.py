"""Architectures and spaces by name: the zoo models and spaces that plugins offer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import UsageError, unknown
from lpzero_hf.plugins import Claim, PluginRegistry, instance_of, load_plugins
from lpzero_hf.spaces.base import SearchSpace
from lpzero_hf.spaces.misplaced import refuse_misplaced

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

SUFFIXES = (".yaml", ".yml", ".json")  # of files that describe a space
IN_FILE = re.compile(r"(.+?\.(?:yaml|yml|json)):(.+)", flags=re.IGNORECASE | re.DOTALL)


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


def installed_models(plugins: PluginRegistry) -> dict[str, Claim[ZooModel]]:
    """Every offered zoo model by name. Raises `PluginError` if two distributions claim one name."""
    return plugins.offers("lpz_models", "zoo model", instance_of(ZooModel))


def installed_spaces(plugins: PluginRegistry) -> dict[str, Claim[SearchSpace]]:
    """Every offered space by name. Raises `PluginError` if two distributions claim one name."""
    return plugins.offers("lpz_spaces", "space", instance_of(SearchSpace))  # type: ignore[type-abstract]  # a check by isinstance


def load_space(
    name: str | Path | Mapping[str, Any] | SearchSpace, plugins: PluginRegistry | None = None
) -> SearchSpace:
    """The space called `name`, or in the file of that name.

    Args:
        name: as `lpz zoo` lists it; the path of a YAML or JSON file that describes one; or a definition as
            `SearchSpace.definition` gives it. A space itself is returned as it is.
        plugins: where it is looked up; by default everything installed.

    Raises:
        UsageError: there is none; the message suggests the nearest name, or names the line of the file.
        LpzError: the file cannot be read.

    Example:
        >>> from lpzero_hf import load_space
        >>> load_space("flexibert").size()
        10621440
    """
    if isinstance(name, SearchSpace):
        return name
    plugins = load_plugins() if plugins is None else plugins
    if isinstance(name, Mapping):
        from lpzero_hf.spaces.places import Places
        from lpzero_hf.spaces.space_file import space_from

        return space_from(name, Places("the definition of a space"), plugins=plugins)
    spaces = installed_spaces(plugins)
    if isinstance(name, str) and name in spaces:
        return spaces[name].item
    if isinstance(name, Path) or _is_file(name):
        from lpzero_hf.spaces.space_file import space_from_file

        refuse_misplaced(name, "space", plugins)
        return space_from_file(Path(name).expanduser(), plugins)
    refuse_misplaced(name, "space", plugins)
    raise UsageError(unknown("space", name, spaces, " (`lpz zoo` lists them all, or give a file)"))


def _is_file(name: str) -> bool:
    """Whether a name means a file: by its ending, or because it is there."""
    if name.lower().endswith(SUFFIXES):
        return True
    try:
        return ("/" in name or "." in name) and Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # no possible path
        return False


def named_config(source: str, plugins: PluginRegistry | None = None) -> PreTrainedConfig | None:
    """The configuration of the zoo model called `source`, or of the architecture that `SPACE:ID` names, where `SPACE`
    is the name of a space or its file; None if no zoo model and no space has that name.

    Raises:
        UsageError: the space has no architecture with that id.
    """
    plugins = load_plugins() if plugins is None else plugins
    models = installed_models(plugins)
    if source in models:
        return models[source].item.config()
    in_file = IN_FILE.match(source)
    name, text = in_file.groups() if in_file is not None else source.partition(":")[::2]
    if not text or not (in_file is not None or name in installed_spaces(plugins)):
        return None
    space = load_space(name, plugins)
    return space.config(space.parse(text))
