"""The candidates that a search keeps: the fittest, and the Pareto front of fitness against complexity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lpzero_hf.expressions.expression import BUILT_IN, Expression, Operations, parse

CAPACITY = 2000


@dataclass(frozen=True)
class Candidate:
    """An evaluated expression.

    Args:
        expression: the expression.
        fitness: of it, in [0, 1].
        orientation: 1 if higher is better, -1 if lower is better.
    """

    expression: Expression
    fitness: float
    orientation: int

    @property
    def order(self) -> tuple[float, int, str]:
        """Fittest first, then simplest, then by text, so that the order does not depend on when it was found."""
        return -self.fitness, self.expression.complexity, str(self.expression)

    def to_json(self) -> list[Any]:
        """As plain data."""
        return [str(self.expression), self.fitness, self.orientation]


def candidate_from(data: Sequence[Any], operations: Operations = BUILT_IN) -> Candidate:
    """The candidate from the result of `Candidate.to_json`. Raises `ValueError` if it has none."""
    text, fitness, orientation = data
    if orientation not in (1, -1):
        raise ValueError("an orientation is 1 or -1")
    return Candidate(parse(text, operations), float(fitness), int(orientation))


@dataclass
class Archive:
    """The fittest candidates, at most `capacity`, and for each complexity the fittest of all.

    Args:
        capacity: maximum number of candidates.
        floor: fitness below which a candidate will not be kept.
    """

    capacity: int = CAPACITY
    floor: float = 0.0
    _kept: dict[Expression, Candidate] = field(default_factory=dict)
    _by_complexity: dict[int, Candidate] = field(default_factory=dict)

    def add(self, found: Iterable[Candidate]) -> None:
        """Add candidates, and drop the least fit if there are too many."""
        for candidate in found:
            self._kept[candidate.expression] = candidate
            size = candidate.expression.complexity
            rival = self._by_complexity.get(size)
            if rival is None or candidate.order < rival.order:
                self._by_complexity[size] = candidate
        if len(self._kept) > 2 * self.capacity:
            self._shrink()

    def _shrink(self) -> None:
        kept = self.fittest()
        self._kept = {candidate.expression: candidate for candidate in kept}
        self.floor = kept[-1].fitness

    def fittest(self) -> list[Candidate]:
        """At most `capacity` candidates, the fittest first."""
        return sorted(self._kept.values(), key=lambda candidate: candidate.order)[: self.capacity]

    @property
    def best(self) -> float:
        """The highest fitness so far, 0 before any."""
        return max((candidate.fitness for candidate in self._by_complexity.values()), default=0.0)

    def pareto(self) -> list[Candidate]:
        """Candidates than which no simpler one is as fit: the simplest first, each fitter than the one before."""
        front: list[Candidate] = []
        for _, candidate in sorted(self._by_complexity.items()):
            if not front or candidate.fitness > front[-1].fitness:
                front.append(candidate)
        return front

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "kept": [candidate.to_json() for candidate in self.fittest()],
            "by_complexity": [candidate.to_json() for _, candidate in sorted(self._by_complexity.items())],
        }

    def restore(self, data: Mapping[str, Any], operations: Operations = BUILT_IN) -> None:
        """Continue from the result of `to_json`."""
        self._kept, self._by_complexity = {}, {}
        for entry in data["kept"]:
            candidate = candidate_from(entry, operations)
            self._kept[candidate.expression] = candidate
        for entry in data["by_complexity"]:
            candidate = candidate_from(entry, operations)
            self._by_complexity[candidate.expression.complexity] = candidate
