"""The space of expressions of a search: its members, its size, and mutation and crossover within it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, permutations, product

from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.canonical import canonical_chain
from lpzero_hf.expressions.expression import (
    BUILT_IN,
    DISCONNECT,
    EVERY_STATISTIC,
    FOLDS,
    LONGEST,
    STATISTIC_NAMES,
    Branch,
    Chain,
    Expression,
    Operations,
)
from lpzero_hf.expressions.operations import BINARY
from lpzero_hf.expressions.tables import Wanted, pairs_among

Folds = Sequence[str]


@dataclass(frozen=True)
class ExpressionSpace:
    """All expressions of two distinct statistics with given numbers of unary operations in the branches.

    Args:
        unary: operations in the two branches, each 1 to 4.
        reduces: folds over elements to choose from.
        aggregates: folds over blocks to choose from.
        statistics: to choose from; by default the six, without those by role.
        operations: unary operations by name.

    Raises:
        UsageError: too many or too few operations, no fold or statistics to choose from, or an unknown one.

    Example:
        >>> ExpressionSpace((1, 1), ("sum",), ("sum",)).size, ExpressionSpace((2, 2), ("sum",), ("sum",)).size
        (26460, 11668860)
    """

    unary: tuple[int, int] = (1, 1)
    reduces: Folds = FOLDS
    aggregates: Folds = FOLDS
    statistics: Sequence[str] = STATISTIC_NAMES
    operations: Operations = field(default_factory=lambda: BUILT_IN)

    def __post_init__(self) -> None:
        if len(self.unary) != 2 or not all(1 <= length <= LONGEST for length in self.unary):
            raise UsageError(f"a branch has 1 to {LONGEST} unary operations, not {self.unary}")
        if not self.reduces or not self.aggregates or len(self.statistics) < 2:
            raise UsageError("a space of expressions needs two statistics and at least one fold of each kind")
        for name in self.statistics:
            Branch(name)  # raises if there is no such statistic

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of distinct statistics: unordered, but ordered where the branches differ in length."""
        pairs = combinations if self.unary[0] == self.unary[1] else permutations
        return list(pairs(self.statistics, 2))

    @property
    def size(self) -> int:
        """The number of members, by formula."""
        left, right = self.unary
        chains: int = len(self.operations) ** (left + right)
        return len(self.pairs) * chains * len(BINARY) * len(self.reduces) * len(self.aggregates)

    def __iter__(self) -> Iterator[Expression]:
        """Every member, one after another."""
        names = tuple(self.operations)
        left, right = (list(product(names, repeat=length)) for length in self.unary)
        for (x, y), op, reduce, aggregate in product(self.pairs, BINARY, self.reduces, self.aggregates):
            for f in left:
                one = Branch(x, f)
                for g in right:
                    yield Expression(one, op, Branch(y, g), reduce, aggregate)

    # Steps ---------------------------------------------------------------------------------------------------

    def draw(self, rng: random.Random) -> Expression:
        """A member, uniformly at random."""
        x, y = rng.choice(self.pairs)
        left, right = self._chain(rng, self.unary[0]), self._chain(rng, self.unary[1])
        op, reduce, aggregate = rng.choice(list(BINARY)), rng.choice(self.reduces), rng.choice(self.aggregates)
        return Expression(Branch(x, left), op, Branch(y, right), reduce, aggregate)

    def mutate(self, parent: Expression, rng: random.Random) -> Expression:
        """A member that differs from `parent` in one choice: a statistic, an operation or a fold."""
        choices = ["left", "right", "op", "chain", "chain"]
        choices += ["reduce"] * (len(self.reduces) > 1) + ["aggregate"] * (len(self.aggregates) > 1)
        what = rng.choice(choices)
        if what == "op":
            return replace(parent, op=_another(BINARY, parent.op, rng))
        if what == "reduce":
            return replace(parent, reduce=_another(self.reduces, parent.reduce, rng))
        if what == "aggregate":
            return replace(parent, aggregate=_another(self.aggregates, parent.aggregate, rng))
        if what == "chain":
            side = rng.choice(("left", "right"))
            branch = parent.left if side == "left" else parent.right
            chain = list(branch.chain)
            place = rng.randrange(len(chain))
            chain[place] = _another(self.operations, chain[place], rng)
            return self._with(parent, side, Branch(branch.statistic, tuple(chain)))
        branch = parent.left if what == "left" else parent.right
        other = parent.right if what == "left" else parent.left
        free = [name for name in self.statistics if name not in (branch.statistic, other.statistic)]
        return self._with(parent, what, Branch(rng.choice(free or [branch.statistic]), branch.chain))

    def neighbours(self, parent: Expression) -> list[Expression]:
        """Every member that differs from `parent` in one choice, see `mutate`."""
        found = [replace(parent, op=op) for op in BINARY]
        found += [replace(parent, reduce=fold) for fold in self.reduces]
        found += [replace(parent, aggregate=fold) for fold in self.aggregates]
        for side, branch, other in (("left", parent.left, parent.right), ("right", parent.right, parent.left)):
            free = [name for name in self.statistics if name != other.statistic]
            found += [self._with(parent, side, Branch(name, branch.chain)) for name in free]
            for place, name in product(range(len(branch.chain)), self.operations):
                chain = (*branch.chain[:place], name, *branch.chain[place + 1 :])
                found.append(self._with(parent, side, Branch(branch.statistic, chain)))
        return [member for member in dict.fromkeys(found) if member != parent]

    def cross(self, one: Expression, other: Expression, rng: random.Random) -> Expression:
        """A member with one branch of each parent, and the rest from either."""
        left, right = (one.left, other.right) if rng.random() < 0.5 else (other.left, one.right)
        pick = [one, other]
        child = Expression(
            left, rng.choice(pick).op, right, rng.choice(pick).reduce, rng.choice(pick).aggregate
        )  # fmt: skip
        if left.statistic == right.statistic:
            free = [name for name in self.statistics if name != left.statistic]
            child = replace(child, right=Branch(rng.choice(free), right.chain))
        return self._ordered(child)

    def _with(self, parent: Expression, side: str, branch: Branch) -> Expression:
        child = replace(parent, left=branch) if side == "left" else replace(parent, right=branch)
        return self._ordered(child)

    def _ordered(self, child: Expression) -> Expression:
        """`child` with its branches in the order of `pairs`."""
        if (child.left.statistic, child.right.statistic) in self.pairs:
            return child
        return replace(child, left=child.right, right=child.left)

    def _chain(self, rng: random.Random, length: int) -> Chain:
        return tuple(rng.choice(list(self.operations)) for _ in range(length))

    # Tables --------------------------------------------------------------------------------------------------

    def chains(self, statistic: str) -> tuple[Chain, ...]:
        """The distinct canonical chains that a branch on `statistic` can have, except the dropped one."""
        found = {
            canonical_chain(statistic, chain, self.operations)
            for length in set(self.unary)
            for chain in product(self.operations, repeat=length)
        }
        return tuple(sorted(found - {DISCONNECT}, key=lambda chain: (len(chain), chain)))

    @cached_property
    def wanted(self) -> Wanted:
        """The required content of tables for scoring every member."""
        chains = {name: self.chains(name) for name in EVERY_STATISTIC if name in self.statistics}
        return Wanted(chains, pairs_among(chains), self.operations)


def _another(all_: Iterable[str], not_this: str, rng: random.Random) -> str:
    names = [name for name in all_ if name != not_this]
    return rng.choice(names or [not_this])
