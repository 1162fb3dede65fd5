"""Builds members of a space without memory for their weights, to find those that cannot be built."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lpzero_hf.errors import LpzError
from lpzero_hf.models.build import build_model
from lpzero_hf.spaces.base import Architecture, SearchSpace


def refused(space: SearchSpace, architectures: Iterable[Architecture]) -> dict[str, str]:
    """The reasons why architectures cannot be built, by text id; of those that can there is none.

    Example:
        >>> from lpzero_hf import load_space
        >>> space = load_space("tiny-gpt2")
        >>> refused(space, space.samples(2))
        {}
    """
    reasons = {}
    for architecture in architectures:
        try:
            with torch.device("meta"):
                build_model(space.config(architecture), device="meta")
        except LpzError as error:
            reasons[space.text(architecture)] = str(error)
    return reasons
