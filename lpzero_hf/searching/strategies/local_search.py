"""Iterated local search, the scheme of the default preset."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from lpzero_hf.expressions.expression import Expression, parse
from lpzero_hf.searching.archive import Candidate, candidate_from
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.strategies.generations import Scheme


class LocalSearch(Scheme):
    """Several walkers climb by single mutations to fixed points, and start again from one of the fittest of these.

    A walker looks at the single mutations of where it stands in random order, and moves to the fittest of a generation
    if that is fitter. Where none is, it has reached a fixed point; it starts again at a fixed point among the fittest,
    mutated a few times, or at a member drawn uniformly (Lourenço, Martin and Stützle, Iterated local search, in
    Handbook of Metaheuristics, 2003).

    Args:
        walkers: that take turns in a generation.
        kicks: mutations of a fixed point to start again from.
        fresh: the probability of a start drawn uniformly.
        kept: the fittest fixed points to start again from.
        starts: the first to start from.
        common: arguments of every scheme.
    """

    def __init__(
        self, space: ExpressionSpace, rng: random.Random, *, walkers: int = 8, kicks: int = 3, fresh: float = 0.2,
        kept: int = 10, starts: Sequence[Expression] = (),
    ) -> None:  # fmt: skip
        super().__init__(space, rng)
        self.kicks, self.fresh, self.kept = kicks, fresh, kept
        self.at: list[Candidate | None] = [None] * walkers
        self.left: list[list[Expression]] = [[] for _ in range(walkers)]  # mutations not yet looked at
        self.fixed: list[Candidate] = []  # the fittest first
        self.starts = list(starts)
        self.turn = 0
        self.asked: dict[Expression, int] = {}  # the walker of each proposal of this generation

    @property
    def bar(self) -> float:
        """The least fitness that a walker stands on."""
        return min(0.0 if at is None else at.fitness for at in self.at)

    def propose(self) -> Expression:
        """The next expression of the walker whose turn it is."""
        self.turn = (self.turn + 1) % len(self.at)
        expression = self._next(self.turn)
        self.asked[expression] = self.turn
        return expression

    def _next(self, walker: int) -> Expression:
        if self.left[walker]:
            return self.left[walker].pop()
        at = self.at[walker]
        if at is not None and walker not in self.asked.values():  # all mutations of it are known
            self.at[walker] = None
            others = [member for member in self.fixed if member.expression != at.expression]
            self.fixed = sorted([*others, at], key=lambda member: member.order)[: self.kept]
        if self.starts:
            return self.starts.pop(0)
        if not self.fixed or self.rng.random() < self.fresh:
            return self.space.draw(self.rng)
        expression = self.rng.choice(self.fixed).expression
        for _ in range(self.kicks):
            expression = self.space.mutate(expression, self.rng)
        return expression

    def learn(self, generation: Sequence[Candidate]) -> None:
        """Move each walker to the fittest of its candidates, if that is fitter than where it stands."""
        for candidate in generation:
            walker = self.asked.get(candidate.expression)
            if walker is None:  # drawn uniformly, because no proposal was new
                continue
            at = self.at[walker]
            if at is None or candidate.fitness > at.fitness:
                self.at[walker] = candidate
                self.left[walker] = self.space.neighbours(candidate.expression)
                self.rng.shuffle(self.left[walker])
        self.asked.clear()

    def state(self) -> dict[str, Any]:
        """Where the walkers stand, what they have not looked at, the fixed points, and where to start first."""
        return {
            "at": [at and at.to_json() for at in self.at],
            "left": [[str(expression) for expression in left] for left in self.left],
            "fixed": [member.to_json() for member in self.fixed],
            "starts": [str(expression) for expression in self.starts],
            "turn": self.turn,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of `state`."""
        operations = self.space.operations
        self.at = [entry and candidate_from(entry, operations) for entry in state["at"]]
        self.left = [[parse(text, operations) for text in left] for left in state["left"]]
        self.fixed = [candidate_from(entry, operations) for entry in state["fixed"]]
        self.starts = [parse(text, operations) for text in state.get("starts", ())]
        self.turn = int(state["turn"])
        self.asked.clear()
