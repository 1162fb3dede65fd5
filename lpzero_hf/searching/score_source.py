"""Where the scores of a search come from: branch tables, or passes over the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from lpzero_hf.expressions.expression import Expression
from lpzero_hf.expressions.stacked import Stack


class ScoreSource(Protocol):
    """The scores of n architectures under any expression of a space."""

    @property
    def n(self) -> int:
        """The number of architectures."""

    @property
    def device(self) -> torch.device:
        """Where the scores are."""

    @property
    def tables(self) -> Stack | None:
        """The branch tables that the scores come from, for whoever enumerates or compares branches; None where an
        expression costs a pass over every model."""

    def part(self, architectures: Sequence[int]) -> Self:
        """The scores of some of the architectures."""

    def prepare(self, expressions: Sequence[Expression]) -> None:
        """Say which expressions will be asked for, so that those that need passes share them."""

    def score(self, expression: Expression) -> Tensor:
        """[n], the scores of all architectures; NaN or infinite where there is none.

        Raises:
            LpzError: an architecture cannot be scored.
        """
