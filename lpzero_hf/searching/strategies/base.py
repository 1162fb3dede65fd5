"""The interface of search strategies."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lpzero_hf.expressions.expression import Expression, parse
from lpzero_hf.searching.archive import Archive, Candidate
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import Evaluation, FitnessEvaluator
from lpzero_hf.searching.pruning import Pruner, current_reasons

TRIES = 200  # candidates drawn for one evaluation; if all are rejected, the last one is evaluated


@dataclass(frozen=True)
class Iteration:
    """One line of a search's history.

    Args:
        number: from 0.
        what: the expression that was evaluated, or the part of the space that was enumerated.
        fitness: of it; None if it was rejected.
        best: the highest fitness so far.
        evaluated: number of expressions that this iteration evaluated.
        rejected: why the evaluated expression has no fitness.
        pruned: number of candidates rejected before this one, by reason.
    """

    number: int
    what: str
    fitness: float | None
    best: float
    evaluated: int = 1
    rejected: str = ""
    pruned: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data, without empty entries."""
        line: dict[str, Any] = {"iteration": self.number, "what": self.what, "fitness": self.fitness, "best": self.best}
        if self.evaluated != 1:
            line["evaluated"] = self.evaluated
        if self.rejected:
            line["rejected"] = self.rejected
        if self.pruned:
            line["pruned"] = dict(self.pruned)
        return line


class Strategy(ABC):
    """Searches a space of expressions, one iteration after another.

    Two searches with one seed make the same iterations; `state` and `restore` continue one in another process.

    Args:
        space: to search.
        fitness: evaluates an expression.
        seed: of every random choice.
        pruner: rejects candidates beforehand; None evaluates all.
        batch: number of candidates that are proposed before the first of them is evaluated.

    Attributes:
        done: the number of iterations made.
        archive: the fittest so far.
        evaluated: number of expressions evaluated.
        rejections: number of those without fitness, by reason.
    """

    name = ""

    def __init__(
        self,
        space: ExpressionSpace,
        fitness: FitnessEvaluator,
        seed: int = 42,
        pruner: Pruner | None = None,
        *,
        batch: int = 1,
    ) -> None:
        self.space, self.fitness, self.pruner, self.batch = space, fitness, pruner, batch
        self.proposed: list[tuple[Expression, dict[str, int]]] = []  # with the number of rejected draws, by reason
        self.rng = random.Random(seed)
        self.done = 0
        self.archive = Archive()
        self.evaluated = 0
        self.rejections: dict[str, int] = {}

    @property
    @abstractmethod
    def total(self) -> int:
        """The number of iterations of a whole search."""

    @abstractmethod
    def iterate(self) -> Iteration:
        """Make one iteration."""

    # For strategies that evaluate one expression at a time -------------------------------------------------

    def _evaluate(
        self, expression: Expression, pruned: Mapping[str, int], threshold: float = 0.0
    ) -> tuple[Evaluation, Iteration]:
        evaluation = self.fitness(expression, threshold)
        self.evaluated += 1
        if evaluation.fitness is not None:
            self.archive.add([Candidate(expression, evaluation.fitness, evaluation.orientation)])
        else:
            self.rejections[evaluation.rejected] = self.rejections.get(evaluation.rejected, 0) + 1
        text, best = str(expression), self.archive.best
        iteration = Iteration(self.done, text, evaluation.fitness, best, 1, evaluation.rejected, pruned)
        self.done += 1
        return evaluation, iteration

    def _next(self, draw: Callable[[], Expression], most: int) -> tuple[Expression, dict[str, int]]:
        """The next candidate; if none is left, a batch of at most `most` is proposed."""
        if not self.proposed:
            self.proposed = [self._unpruned(draw) for _ in range(min(self.batch, most))]
            self.fitness.prepare([expression for expression, _ in self.proposed])
        return self.proposed.pop(0)

    def _unpruned(self, draw: Callable[[], Expression]) -> tuple[Expression, dict[str, int]]:
        """The first draw that the pruner does not reject, and the number of rejected ones by reason."""
        pruned: dict[str, int] = {}
        for _ in range(TRIES):
            expression = draw()
            reason = "" if self.pruner is None else self.pruner.reject(expression)
            if not reason:
                break
            pruned[reason] = pruned.get(reason, 0) + 1
        return expression, pruned

    # Checkpoints -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that later iterations depend on, as plain data."""
        version, words, gauss = self.rng.getstate()
        return {
            "done": self.done,
            "rng": [version, list(words), gauss],
            "waiting": [[str(expression), pruned] for expression, pruned in self.proposed],
            "archive": self.archive.to_json(),
            "evaluated": self.evaluated,
            "rejections": self.rejections,
            "pruned": dict(self.pruner.counts) if self.pruner else {},
            "seen": self.pruner.seen() if self.pruner else [],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`."""
        version, words, gauss = state["rng"]
        self.rng.setstate((version, tuple(words), gauss))
        self.done = int(state["done"])
        self.proposed = [(parse(text, self.space.operations), pruned) for text, pruned in state["waiting"]]
        self.fitness.prepare([expression for expression, _ in self.proposed])
        self.archive.restore(state["archive"], self.space.operations)
        self.evaluated = int(state["evaluated"])
        self.rejections = current_reasons(state["rejections"])
        if self.pruner is not None:
            for text in state["seen"]:
                self.pruner.remember(parse(text, self.space.operations))
            self.pruner.counts.clear()
            self.pruner.counts.update(state["pruned"])
