"""Counts and draws the assignments of a few variables that satisfy relations between them, exactly.

Variables are eliminated one after the other (Dechter, "Bucket elimination: a unifying framework for reasoning", 1999):
the number of ways to complete every assignment of the variables that are left is kept in a table. So an assignment is
drawn uniformly, or in order with only values that can be completed, by reading the tables backwards. Numbers are
integers.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LARGEST = 2**21  # entries of one table
REMEMBERED = 10_000  # completions


class TooLarge(Exception):
    """The tables of an elimination would be too large."""


@dataclass(frozen=True)
class Factor:
    """A relation between variables, or a weight of them.

    Args:
        scope: the variables, ascending.
        table: truth values or integers >= 0, with a dimension for each variable.
    """

    scope: tuple[int, ...]
    table: Array


class FactorGraph:
    """Variables, by number, with the factors that weigh their assignments: by the product of all.

    Args:
        sizes: the number of values of each variable.
        factors: relations and weights.

    Raises:
        TooLarge: no order of elimination that was tried has small tables.

    Example:
        >>> import numpy as np
        >>> graph = FactorGraph([3, 3], [Factor((0, 1), np.triu(np.ones((3, 3), bool)))])
        >>> graph.count(), graph.completions([2]).tolist()
        (6, [0, 0, 1])
    """

    def __init__(self, sizes: Sequence[int], factors: Sequence[Factor]) -> None:
        self.sizes, self.factors = tuple(sizes), tuple(factors)
        scopes = [factor.scope for factor in factors]
        order = list(reversed(range(len(sizes))))
        self.in_order = cost(self.sizes, scopes, order) <= LARGEST
        if not self.in_order:
            order = greedy_order(self.sizes, scopes)
            if cost(self.sizes, scopes, order) > LARGEST:
                raise TooLarge
        self._order = order
        self._group = _groups(len(sizes), scopes)
        self._tables, self._total = self._eliminated(order, self.factors)
        self._conditioned: dict[Any, Array] = {}

    def count(self) -> int:
        """The sum of the weights of all assignments."""
        return self._total

    def draw(self, rng: random.Random) -> tuple[int, ...]:
        """An assignment, with a probability in proportion to its weight. There must be one."""
        drawn: dict[int, int] = {}
        for variable in reversed(self._order):
            drawn[variable] = _drawn(self._row(self._tables[variable], variable, drawn), rng)
        return tuple(drawn[variable] for variable in range(len(self.sizes)))

    def completions(self, before: Sequence[int]) -> Array:
        """For each value of the next variable, a number that is positive if an assignment begins like that.

        Args:
            before: the values of the first variables, which can be completed.
        """
        variable = len(before)
        if self.in_order:
            return self._row(self._tables[variable], variable, dict(enumerate(before)))
        related = tuple(
            (other, value) for other, value in enumerate(before) if self._group[other] == self._group[variable]
        )
        if (variable, related) not in self._conditioned:
            if len(self._conditioned) >= REMEMBERED:
                self._conditioned.clear()
            self._conditioned[variable, related] = self._completions_given(variable, related)
        return self._conditioned[variable, related]

    def assignments(self) -> Iterator[tuple[int, ...]]:
        """Every assignment whose weight is positive, in order."""

        def after(before: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
            if len(before) == len(self.sizes):
                yield before
                return
            for value in np.flatnonzero(self.completions(before)):
                yield from after((*before, int(value)))

        if self._total:
            yield from after(())

    def _row(self, factor: Factor, variable: int, known: Mapping[int, int]) -> Array:
        return factor.table[tuple(slice(None) if of == variable else known[of] for of in factor.scope)]

    def _completions_given(self, variable: int, known: tuple[tuple[int, int], ...]) -> Array:
        given = dict(known)
        factors = [
            _given(factor, given)
            for factor in self.factors
            if any(self._group[of] == self._group[variable] for of in factor.scope)
        ]
        scopes = [factor.scope for factor in factors]
        left = [v for v in range(len(self.sizes)) if self._group[v] == self._group[variable] and v not in given]
        order = greedy_order(self.sizes, scopes, [v for v in left if v != variable])
        tables, _ = self._eliminated([*order, variable], factors)
        return tables[variable].table

    def _eliminated(self, order: Sequence[int], factors: Sequence[Factor]) -> tuple[dict[int, Factor], int]:
        """For each variable, the product of all that contains it when it is eliminated; and the total."""
        left, tables, total = list(factors), {}, 1
        for variable in order:
            touching = [factor for factor in left if variable in factor.scope]
            left = [factor for factor in left if variable not in factor.scope]
            scope = tuple(sorted({variable, *(of for factor in touching for of in factor.scope)}))
            product = _product(scope, [self.sizes[of] for of in scope], touching)
            tables[variable] = Factor(scope, product)
            place = scope.index(variable)
            rest = scope[:place] + scope[place + 1 :]
            summed = _narrow(product.sum(axis=place))
            if rest:
                left.append(Factor(rest, summed))
            else:
                total *= int(summed)
        for factor in left:
            total *= int(factor.table)
        return tables, total


def cost(sizes: Sequence[int], scopes: Sequence[tuple[int, ...]], order: Sequence[int]) -> int:
    """The entries of the largest table that eliminating variables in an order makes."""
    left, largest = [set(scope) for scope in scopes], 1
    for variable in order:
        joint = set().union(*(scope for scope in left if variable in scope)) | {variable}
        largest = max(largest, math.prod(sizes[of] for of in joint))
        left = [scope for scope in left if variable not in scope]
        left.append(joint - {variable})
    return largest


def greedy_order(
    sizes: Sequence[int], scopes: Sequence[tuple[int, ...]], variables: Sequence[int] | None = None
) -> list[int]:
    """An order of elimination that makes the smallest table at each step."""
    left, order = [set(scope) for scope in scopes], []
    remaining = set(range(len(sizes)) if variables is None else variables)
    while remaining:
        joint = {v: set().union(*(scope for scope in left if v in scope)) | {v} for v in remaining}
        best = min(sorted(remaining), key=lambda v: math.prod(sizes[of] for of in joint[v]))
        left = [scope for scope in left if best not in scope]
        left.append(joint[best] - {best})
        order.append(best)
        remaining.remove(best)
    return order


def _groups(number: int, scopes: Sequence[tuple[int, ...]]) -> list[int]:
    """For each variable, the number of the group of variables that hang together."""
    group = list(range(number))
    for scope in scopes:
        for other in scope[1:]:
            old, new = group[other], group[scope[0]]
            group = [new if of == old else of for of in group]
    return group


def _product(scope: tuple[int, ...], shape: Sequence[int], factors: Sequence[Factor]) -> Array:
    bound = math.prod(max(1, int(factor.table.max(initial=0))) for factor in factors) * math.prod(shape)
    dtype: Any = np.int64 if bound < 2**62 else object
    product = np.ones(shape, dtype) if dtype is not object else np.full(shape, 1, dtype=object)
    for factor in factors:
        around = [size if of in factor.scope else 1 for of, size in zip(scope, shape, strict=True)]
        product = product * factor.table.astype(dtype).reshape(around)
    return product


def _narrow(values: Any) -> Array:
    """Python's integers as int64 where they fit, so that later steps are fast."""
    array = np.asarray(values)
    if array.dtype == object and int(array.max(initial=0)) < 2**31:
        return array.astype(np.int64)
    return array


def _given(factor: Factor, known: Mapping[int, int]) -> Factor:
    index = tuple(known.get(of, slice(None)) for of in factor.scope)
    return Factor(tuple(of for of in factor.scope if of not in known), np.asarray(factor.table[index]))


def _drawn(weights: Array, rng: random.Random) -> int:
    sums = list(accumulate(int(weight) for weight in weights)) if weights.dtype == object else np.cumsum(weights)
    number = rng.randrange(int(sums[-1]))
    return bisect_right(sums, number) if isinstance(sums, list) else int(np.searchsorted(sums, number, side="right"))
