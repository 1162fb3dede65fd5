"""Well-known schemes of evolution, to be compared: what each proposes next, and what it keeps."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lpzero_hf.expressions.expression import Expression
from lpzero_hf.searching.archive import Candidate, candidate_from
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.strategies.generations import Scheme
from lpzero_hf.searching.strategies.local_search import LocalSearch

MakeScheme = Callable[[ExpressionSpace, random.Random], Scheme]


class Tournament(Scheme):
    """Parents win a tournament among a few of the population; children replace the least fit (a steady state).

    Args:
        size: of the population.
        among: members of a tournament.
    """

    def __init__(self, space: ExpressionSpace, rng: random.Random, size: int = 200, among: int = 4) -> None:
        super().__init__(space, rng)
        self.size, self.among = size, among
        self.population: list[Candidate] = []

    def propose(self) -> Expression:
        """A member drawn while the population is filled, then a child."""
        if len(self.population) < self.size:
            return self.space.draw(self.rng)
        one = self._parent()
        if self.rng.random() < 0.5:
            return self.space.mutate(one, self.rng)
        child = self.space.cross(one, self._parent(), self.rng)
        return self.space.mutate(child, self.rng) if self.rng.random() < 0.5 else child

    def _parent(self) -> Expression:
        drawn = [self.rng.choice(self.population) for _ in range(self.among)]
        return min(drawn, key=lambda member: member.order).expression

    def learn(self, generation: Sequence[Candidate]) -> None:
        """Take a generation in."""
        self.population = sorted([*self.population, *generation], key=lambda member: member.order)[: self.size]

    def state(self) -> dict[str, Any]:
        """As plain data."""
        return {"population": [member.to_json() for member in self.population]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`."""
        self.population = [candidate_from(entry, self.space.operations) for entry in state["population"]]


class Ageing(Tournament):
    """Regularised evolution (Real et al., AAAI 2019, arXiv:1802.01548): children replace the oldest."""

    def __init__(self, space: ExpressionSpace, rng: random.Random, size: int = 400, among: int = 20) -> None:
        super().__init__(space, rng, size, among)

    def propose(self) -> Expression:
        """A member drawn while the population is filled, then a child."""
        if len(self.population) < self.size:
            return self.space.draw(self.rng)
        return self.space.mutate(self._parent(), self.rng)

    def learn(self, generation: Sequence[Candidate]) -> None:
        """Take a generation in."""
        self.population = [*self.population, *generation][-self.size :]


class Islands(Scheme):
    """Tournaments apart from each other; now and then the fittest of each moves to the next one."""

    def __init__(
        self, space: ExpressionSpace, rng: random.Random, islands: int = 8, size: int = 60, every: int = 10
    ) -> None:
        super().__init__(space, rng)
        self.islands = [Tournament(space, rng, size) for _ in range(islands)]
        self.every, self.turn, self.generations = every, 0, 0
        self.asked: dict[Expression, int] = {}

    def propose(self) -> Expression:
        """A member drawn while the population is filled, then a child."""
        self.turn = (self.turn + 1) % len(self.islands)
        expression = self.islands[self.turn].propose()
        self.asked[expression] = self.turn
        return expression

    def learn(self, generation: Sequence[Candidate]) -> None:
        """Take a generation in."""
        of: list[list[Candidate]] = [[] for _ in self.islands]
        for candidate in generation:
            of[self.asked.get(candidate.expression, 0)].append(candidate)
        self.asked = {}
        for island, some in zip(self.islands, of, strict=True):
            island.learn(some)
        self.generations += 1
        if self.generations % self.every == 0:
            best = [island.population[:1] for island in self.islands]
            for island, some in zip(self.islands, [best[-1], *best[:-1]], strict=True):
                known = {member.expression for member in island.population}
                island.learn([candidate for candidate in some if candidate.expression not in known])

    def state(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "turn": self.turn,
            "generations": self.generations,
            "islands": [island.state() for island in self.islands],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`."""
        self.turn, self.generations = state["turn"], state["generations"]
        for island, of in zip(self.islands, state["islands"], strict=True):
            island.restore(of)


class Restarts(Tournament):
    """A tournament that begins anew where its fittest has not changed for some generations."""

    def __init__(
        self, space: ExpressionSpace, rng: random.Random, size: int = 100, among: int = 4, patience: int = 15
    ) -> None:
        super().__init__(space, rng, size, among)
        self.patience, self.stale, self.best = patience, 0, 0.0

    def learn(self, generation: Sequence[Candidate]) -> None:
        """Take a generation in."""
        super().learn(generation)
        best = self.population[0].fitness if self.population else 0.0
        self.stale, self.best = (0, best) if best > self.best else (self.stale + 1, self.best)
        if self.stale >= self.patience:
            self.population, self.stale, self.best = [], 0, 0.0

    def state(self) -> dict[str, Any]:
        """As plain data."""
        return super().state() | {"stale": self.stale, "best": self.best}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`."""
        super().restore(state)
        self.stale, self.best = state["stale"], state["best"]


SCHEMES: dict[str, MakeScheme] = {
    "tournament": Tournament,
    "ageing": Ageing,
    "islands": Islands,
    "restarts": Restarts,
    "local search": LocalSearch,
}
