"""Exact enumeration: every distinct expression of the space, by grids over the chains of two statistics."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor

from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.expression import DISCONNECT, Branch, Expression
from lpzero_hf.expressions.tables import GROUP
from lpzero_hf.searching.archive import Candidate
from lpzero_hf.searching.config import LONGEST_TABLED
from lpzero_hf.searching.strategies.base import Iteration, Strategy


class Exhaustive(Strategy):
    """Evaluates one grid (two statistics, an operation and the folds) in each iteration.

    Expressions with the same canonical form, or with branches of the same table values, are evaluated once, which
    reduces a space of 11,668,860 to a quarter. If the branches differ in length, both have up to the greater length.

    Args:
        common: arguments of every strategy.

    Raises:
        UsageError: branches of more than two operations; there are too many expressions.
    """

    name = "exhaustive"

    def __init__(self, *common: Any, **others: Any) -> None:
        super().__init__(*common, **others)
        if max(self.space.unary) > LONGEST_TABLED:
            raise UsageError(
                f"a space of {self.space.size:.3g} expressions is too large to enumerate; "
                f"use at most `unary={LONGEST_TABLED}`, or `strategy=evolution`"
            )
        self.grids = self._all_grids()
        self._chosen: dict[tuple[str, str | None], Tensor] = {}

    def _all_grids(self) -> list[tuple[str, str, str, str, str]]:
        folds = list(product(self.space.reduces, self.space.aggregates))
        statistics = list(self.space.wanted.chains)
        alone = [(name, "", "alone", reduce, aggregate) for name in statistics for reduce, aggregate in folds]
        pairs = [
            (left, right, op, reduce, aggregate)
            for left, right in combinations(statistics, 2)
            for op in ("sum", "difference", "product", "matmul")
            if op != "matmul" or GROUP[left] == GROUP[right]  # of two numbers, it is the product
            for reduce, aggregate in folds
        ]
        return alone + pairs

    @property
    def total(self) -> int:
        """One for each grid."""
        return len(self.grids)

    def iterate(self) -> Iteration:
        """Evaluate one grid."""
        left, right, op, reduce, aggregate = self.grids[self.done]
        device = self.fitness.tables[0].device
        rows, columns = (chosen.to(device) for chosen in self._places())
        correlations = self.fitness.grid(left, right, op, reduce, aggregate, rows, columns)
        fitness, orientation = (part.cpu() for part in self.fitness.combined(correlations))
        self._count(fitness)
        best = torch.nan_to_num(fitness, nan=-1.0)
        self.archive.add(
            Candidate(self._expression(i, j), float(best[i, j]), int(orientation[i, j])) for i, j in self._top(best)
        )
        highest = float(best.max())
        what = f"{aggregate}({reduce}({op}({left}{', ' + right if right else ''})))"
        iteration = Iteration(self.done, what, highest if highest >= 0 else None, self.archive.best, fitness.numel())
        self.done += 1
        return iteration

    def _places(self) -> tuple[Tensor, Tensor]:
        """The chains of the two statistics that differ in their table values, on the CPU."""
        left, right, op, *_ = self.grids[self.done]
        met = op in ("product", "matmul") and GROUP[left] == GROUP[right]
        one = self._differing(left, right if met else None)
        return one, one[:1] if op == "alone" else self._differing(right, left if met else None)

    def _differing(self, name: str, partner: str | None) -> Tensor:
        """The first chain of each set whose table values are equal."""
        if (name, partner) not in self._chosen:
            stacks = self.fitness.tables
            first: dict[tuple[bytes, ...], int] = {}
            for i, chain in enumerate(self.space.wanted.chains[name]):
                branch = Branch(name, chain)
                first.setdefault(tuple(stack.signature(branch, partner) for stack in stacks), i)
            self._chosen[name, partner] = torch.tensor(list(first.values()))
        return self._chosen[name, partner]

    def _expression(self, i: int, j: int) -> Expression:
        left, right, op, reduce, aggregate = self.grids[self.done]
        rows, columns = self._places()
        chains = self.space.wanted.chains
        one = Branch(left, chains[left][int(rows[i])])
        if op == "alone":
            return Expression(one, "sum", Branch("G" if left == "W" else "W", DISCONNECT), reduce, aggregate)
        return Expression(one, op, Branch(right, chains[right][int(columns[j])]), reduce, aggregate)

    def _top(self, fitness: Tensor) -> list[tuple[int, int]]:
        """The positions of the fittest, and of the fittest for each number of operations."""
        flat = fitness.reshape(-1)
        count = min(self.archive.capacity, int((flat >= 0).sum()))
        threshold = max(self.archive.floor, float(flat.topk(count).values[-1])) if count else 2.0
        chosen = (fitness >= threshold) & (fitness >= 0)
        left, right, op, *_ = self.grids[self.done]
        rows, columns = self._places()
        together = self._lengths(left)[rows][:, None]
        if op != "alone":
            together = together + self._lengths(right)[columns]
        for length in together.unique():
            some = torch.where(together == length, fitness, -1.0)
            if float(some.max()) >= 0:
                chosen |= some == some.max()
        return [(int(i), int(j)) for i, j in chosen.nonzero().tolist()]

    def _lengths(self, name: str) -> Tensor:
        chains = self.space.wanted.chains[name]
        return torch.tensor([sum(op != "no_op" for op in chain) for chain in chains])

    def _count(self, fitness: Tensor) -> None:
        self.evaluated += fitness.numel()
        invalid = int(torch.isnan(fitness).sum())
        if invalid:
            self.rejections["invalid or constant"] = self.rejections.get("invalid or constant", 0) + invalid
