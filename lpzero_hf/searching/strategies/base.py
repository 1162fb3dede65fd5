"""The interface of search strategies."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from lpzero_hf.expressions.expression import Expression, parse
from lpzero_hf.searching.archive import Archive, Candidate
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import Evaluation, FitnessEvaluator
from lpzero_hf.searching.pruning import Pruner, current_reasons

TRIES, FRESH = (
    150,
    40,
)  # candidates drawn for one evaluation: by the strategy, then uniformly, before all are enumerated
NOTHING_NEW = "nothing new"


@dataclass(frozen=True)
class Iteration:
    """One line of a search's history.

    Args:
        number: from 0.
        what: the expression that was evaluated, or the part of the space that was enumerated; "" if nothing was left.
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
        self.proposed: list[tuple[Expression | None, dict[str, int]]] = []  # with rejected draws by reason
        self.enumerated = 0  # members of the space that were looked at one by one, because draws found nothing new
        self._members: Iterator[Expression] | None = None
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

    def _idle(self, pruned: Mapping[str, int]) -> Iteration:
        """An iteration that evaluates nothing, because every expression of the space is known or redundant."""
        iteration = Iteration(self.done, "", None, self.archive.best, 0, NOTHING_NEW, pruned)
        self.done += 1
        return iteration

    def _next(self, draw: Callable[[], Expression], most: int) -> tuple[Expression | None, dict[str, int]]:
        """The next candidate, None if the space has no new one; if none is left, at most `most` are proposed."""
        if not self.proposed:
            self.proposed = [self._unpruned(draw) for _ in range(min(self.batch, most))]
            self._prepare()
        return self.proposed.pop(0)

    def _prepare(self) -> None:
        self.fitness.prepare([expression for expression, _ in self.proposed if expression is not None])

    def _unpruned(self, draw: Callable[[], Expression]) -> tuple[Expression | None, dict[str, int]]:
        """The first draw that the pruner does not reject, and the number of rejected ones by reason.

        If no draw of the strategy is new, members of the space are drawn uniformly, then looked at one by one.
        """
        pruned: dict[str, int] = {}
        if self.pruner is None:
            return draw(), pruned
        for source, tries in ((draw, TRIES), (partial(self.space.draw, self.rng), FRESH)):
            for _ in range(tries if self.enumerated < self.space.size else 0):
                expression = source()
                reason = self.pruner.reject(expression)
                if not reason:
                    return expression, pruned
                pruned[reason] = pruned.get(reason, 0) + 1
        return self._enumerate(self.pruner), pruned

    def _enumerate(self, pruner: Pruner) -> Expression | None:
        """The next member of the whole space that is neither known nor redundant; None after the last."""
        if self._members is None:
            self._members = islice(iter(self.space), self.enumerated, None)
        for expression in self._members:
            self.enumerated += 1
            if not pruner.reject(expression, count=False):
                return expression
        self.enumerated = self.space.size
        return None

    # Checkpoints -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that later iterations depend on, as plain data."""
        version, words, gauss = self.rng.getstate()
        return {
            "done": self.done,
            "rng": [version, list(words), gauss],
            "waiting": [[expression and str(expression), pruned] for expression, pruned in self.proposed],
            "enumerated": self.enumerated,
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
        self.proposed = [(text and parse(text, self.space.operations), pruned) for text, pruned in state["waiting"]]
        self._prepare()
        self.enumerated, self._members = int(state.get("enumerated", 0)), None  # version 0.1.0 enumerated none
        self.archive.restore(state["archive"], self.space.operations)
        self.evaluated = int(state["evaluated"])
        self.rejections = current_reasons(state["rejections"])
        if self.pruner is not None:
            for text in state["seen"]:
                self.pruner.remember(parse(text, self.space.operations))
            self.pruner.counts.clear()
            self.pruner.counts.update(state["pruned"])
