"""The source of the scores in a search: branch tables, stored statistics, or passes over the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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
        """The device of the scores."""

    @property
    def tables(self) -> Stack | None:
        """The branch tables of the scores, for enumeration and the comparison of branches; None where an
        expression costs a pass over every model."""

    @property
    def checks(self) -> bool:
        """Whether a score that rounding decides is seen, and is NaN; see `lpzero_hf.expressions.rounding`."""

    def part(self, architectures: Sequence[int]) -> ScoreSource:
        """The scores of some of the architectures, from a source that is fit for many expressions."""

    def prepare(self, expressions: Sequence[Expression]) -> None:
        """Announce expressions that will be scored, so that those that need passes share them."""

    def score(self, expression: Expression) -> Tensor:
        """[n], the scores of all architectures; NaN or infinite where there is none.

        Raises:
            LpzError: an architecture cannot be scored.
        """

    def scores(self, expressions: Sequence[Expression], *, check: bool = True) -> Tensor:
        """[m, n], the scores of all architectures under each of m expressions, computed together.

        Args:
            expressions: m of the space.
            check: whether to look for what rounding decides, which can cost as much as the scores.

        Raises:
            LpzError: an architecture cannot be scored.
        """
