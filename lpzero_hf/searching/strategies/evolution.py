"""Evolution as in LPZero (Dong et al. 2024, section 3.2, algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from lpzero_hf.expressions.expression import Expression
from lpzero_hf.searching.archive import Candidate, candidate_from
from lpzero_hf.searching.strategies.base import Iteration, Strategy


class Evolution(Strategy):
    """A population in which a child of the fittest replaces the least fit.

    The first iterations fill the population with expressions drawn uniformly; those without fitness are not added.
    In each later iteration, parents are drawn from the fittest tenth, and crossed or mutated into one child.

    Args:
        iterations: children.
        population: expressions kept.
        elite: the fraction of the population that parents are drawn from.
        crossover: the probability that a child has two parents.
        mutation: the probability that a child of two parents is mutated as well; one of a single parent always is.
        common: arguments of every strategy.
    """

    name = "evolution"

    def __init__(
        self,
        *common: Any,
        iterations: int = 1000,
        population: int = 80,
        elite: float = 0.1,
        crossover: float = 0.5,
        mutation: float = 0.5,
        **others: Any,
    ) -> None:
        super().__init__(*common, **others)
        self.iterations, self.size = iterations, population
        self.elite, self.crossover, self.mutation = elite, crossover, mutation
        self.population: list[Candidate] = []  # the fittest first

    @property
    def total(self) -> int:
        """The initial population and one for each child."""
        return self.size + self.iterations

    def iterate(self) -> Iteration:
        """Add one member to the population: drawn while it is being filled, then a child."""
        filling = self.done < self.size
        draw = partial(self.space.draw, self.rng) if filling else self._child
        expression, pruned = self._next(draw, (self.size if filling else self.total) - self.done)
        if expression is None:
            return self._idle(pruned)
        full = len(self.population) >= self.size
        threshold = self.population[-1].fitness if full else 0.0
        evaluation, iteration = self._evaluate(expression, pruned, threshold)
        if evaluation.fitness is not None:
            members = {member.expression for member in self.population}
            if expression not in members:
                self.population.append(Candidate(expression, evaluation.fitness, evaluation.orientation))
                self.population.sort(key=lambda member: member.order)
                del self.population[self.size :]
        return iteration

    def _child(self) -> Expression:
        if not self.population:
            return self.space.draw(self.rng)
        one, other = self._parent(), self._parent()
        if self.rng.random() < self.crossover:
            child = self.space.cross(one, other, self.rng)
            return self.space.mutate(child, self.rng) if self.rng.random() < self.mutation else child
        return self.space.mutate(one, self.rng)

    def _parent(self) -> Expression:
        """One of the fittest tenth, uniformly at random."""
        best = self.population[: max(2, round(self.elite * self.size))]
        return self.rng.choice(best).expression

    def state(self) -> dict[str, Any]:
        """With the population."""
        return super().state() | {"population": [member.to_json() for member in self.population]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """With the population."""
        super().restore(state)
        self.population = [candidate_from(entry, self.space.operations) for entry in state["population"]]
