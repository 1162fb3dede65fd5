"""Architectures and spaces by name: the zoo models and spaces that plugins offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpzero_hf.errors import UsageError, did_you_mean
from lpzero_hf.plugins import Claim, PluginRegistry, instance_of, load_plugins
from lpzero_hf.spaces.base import SearchSpace

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


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


def load_space(name: str, plugins: PluginRegistry | None = None) -> SearchSpace:
    """The space called `name`.

    Args:
        name: as `lpz zoo` lists it.
        plugins: where it is looked up; by default everything installed.

    Raises:
        UsageError: there is none; the message suggests the nearest name.

    Example:
        >>> from lpzero_hf import load_space
        >>> load_space("flexibert").size()
        10621440
    """
    spaces = installed_spaces(load_plugins() if plugins is None else plugins)
    if name not in spaces:
        raise UsageError(f"unknown space '{name}'{did_you_mean(name, spaces)} (`lpz zoo` lists them all)")
    return spaces[name].item


def named_config(source: str, plugins: PluginRegistry | None = None) -> PreTrainedConfig | None:
    """The configuration of the zoo model called `source`, or of the architecture that `SPACE:ID` names; None
    if no zoo model and no space has that name.

    Raises:
        UsageError: the space has no architecture with that id.
    """
    plugins = load_plugins() if plugins is None else plugins
    models = installed_models(plugins)
    if source in models:
        return models[source].item.config()
    name, _, text = source.partition(":")
    if not text or name not in installed_spaces(plugins):
        return None
    space = load_space(name, plugins)
    return space.config(space.parse(text))
