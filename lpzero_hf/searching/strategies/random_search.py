"""Random search: the baseline of all strategies."""

from __future__ import annotations

from typing import Any

from lpzero_hf.searching.strategies.base import Iteration, Strategy


class RandomSearch(Strategy):
    """Draws expressions uniformly.

    Args:
        iterations: expressions to evaluate.
        common: arguments of every strategy.
    """

    name = "random"

    def __init__(self, *common: Any, iterations: int = 1000, **others: Any) -> None:
        super().__init__(*common, **others)
        self.iterations = iterations

    @property
    def total(self) -> int:
        """One for each expression."""
        return self.iterations

    def iterate(self) -> Iteration:
        """Evaluate one expression."""
        expression, pruned = self._next(lambda: self.space.draw(self.rng), self.total - self.done)
        if expression is None:
            return self._idle(pruned)
        return self._evaluate(expression, pruned, self.archive.best)[1]
