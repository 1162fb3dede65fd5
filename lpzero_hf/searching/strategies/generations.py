"""Evolution in generations: many candidates are proposed, pruned and scored together."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lpzero_hf.expressions.expression import Expression
from lpzero_hf.searching.archive import Candidate
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.strategies.base import Iteration, Strategy


class Scheme(ABC):
    """Which expressions are proposed next, and what is kept of those that were scored.

    Args:
        space: to search.
        rng: of every random choice; the strategy keeps its state.
    """

    def __init__(self, space: ExpressionSpace, rng: random.Random) -> None:
        self.space, self.rng = space, rng

    @abstractmethod
    def propose(self) -> Expression:
        """A member of the space; it may be known, and is then asked for again."""

    @abstractmethod
    def learn(self, generation: Sequence[Candidate]) -> None:
        """Take the candidates of one generation that have a fitness, in the order they were proposed."""

    @property
    def bar(self) -> float:
        """The fitness below which a candidate changes nothing; what is below is not checked for rounding."""
        return 0.0

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that later proposals depend on, except the random numbers, as plain data."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`."""


class Generations(Strategy):
    """Proposes `batch` expressions by a scheme, drops known and redundant ones, and scores the others together.

    Each iteration is one generation; its line in the history is that of its fittest expression. No candidate is bounded
    out after some architectures: all are scored at once.

    Args:
        scheme: makes one from the space and the random numbers.
        evaluations: expressions to evaluate in all.
        common: arguments of every strategy; `batch` is the number of each generation.
    """

    name = "evolution"

    def __init__(
        self,
        *common: Any,
        scheme: Callable[[ExpressionSpace, random.Random], Scheme],
        evaluations: int,
        **others: Any,
    ) -> None:
        super().__init__(*common, **others)
        self.evaluations = evaluations
        self.scheme = scheme(self.space, self.rng)

    @property
    def total(self) -> int:
        """The number of generations."""
        return -(-self.evaluations // self.batch)

    def iterate(self) -> Iteration:
        """Evaluate one generation."""
        expressions, pruned = self._proposed()
        if not expressions:
            return self._idle(pruned)
        found, refused = [], Counter[str]()
        for expression, made in zip(expressions, self.fitness.many(expressions, self.scheme.bar), strict=True):
            if made.fitness is None:
                refused[made.rejected] += 1
            else:
                found.append(Candidate(expression, made.fitness, made.orientation))
        self.archive.add(found)
        self.scheme.learn(found)
        self.evaluated += len(expressions)
        for reason, count in refused.items():
            self.rejections[reason] = self.rejections.get(reason, 0) + count
        best = min(found, key=lambda candidate: candidate.order, default=None)
        iteration = Iteration(
            self.done, str(expressions[0] if best is None else best.expression), None if best is None else best.fitness,
            self.archive.best, len(expressions), ", ".join(sorted(refused)) if best is None else "", pruned,
        )  # fmt: skip
        self.done += 1
        return iteration

    def _proposed(self) -> tuple[list[Expression], dict[str, int]]:
        """The new expressions of a generation, and the number of rejected proposals by reason."""
        expressions: list[Expression] = []
        pruned: Counter[str] = Counter()
        for _ in range(min(self.batch, self.evaluations - self.done * self.batch)):
            expression, reasons = self._unpruned(self.scheme.propose)
            pruned.update(reasons)
            if expression is None:
                break
            expressions.append(expression)
        return expressions, dict(pruned)

    def state(self) -> dict[str, Any]:
        """With that of the scheme."""
        return super().state() | {"scheme": self.scheme.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """With that of the scheme."""
        super().restore(state)
        self.scheme.restore(state["scheme"])
