"""Known properties of an expression before it is computed, and the canonical form that equal expressions share."""

from __future__ import annotations

from dataclasses import dataclass

from lpzero_hf.expressions.expression import (
    BUILT_IN,
    DISCONNECT,
    EVERY_STATISTIC,
    RANGES,
    Branch,
    Chain,
    Expression,
    Operations,
)
from lpzero_hf.expressions.operations import Interval, Unary


@dataclass(frozen=True)
class Facts:
    """Known properties of a branch's result before it is computed.

    Args:
        interval: in which its entries lie, as they are computed.
        ideal: in which they would lie if the sum of centred entries were 0, and not rounding.
        scalar: whether it is one number per site.
        centred: whether its entries sum to 0, but for rounding.
    """

    interval: Interval
    ideal: Interval
    scalar: bool = False
    centred: bool = False

    @property
    def constant(self) -> float | None:
        """The one value that all entries have, but for rounding, or None."""
        low, high = self.ideal
        return low if low == high else None


class RememberedOperations(dict[str, Unary]):
    """Operations by name, with what has been derived of their chains: it is derived once.

    Args:
        operations: by name; later changes of them are not seen.
    """

    def __init__(self, operations: Operations) -> None:
        super().__init__(operations)
        self.facts: dict[tuple[str, Chain], Facts] = {}
        self.chains: dict[tuple[str, Chain], Chain] = {}


def facts(statistic: str, chain: Chain, operations: Operations = BUILT_IN) -> Facts:
    """Known properties of the result of `chain` on `statistic`."""
    if not isinstance(operations, RememberedOperations):
        return _facts(statistic, chain, operations)
    if (known := operations.facts.get((statistic, chain))) is None:
        known = operations.facts[statistic, chain] = _facts(statistic, chain, operations)
    return known


def _facts(statistic: str, chain: Chain, operations: Operations) -> Facts:
    known = Facts(RANGES[statistic], RANGES[statistic])
    for name in chain:
        known = step(known, operations[name])
    return known


def step(known: Facts, operation: Unary) -> Facts:
    """Known properties after one more operation."""
    if operation.name == "no_op":
        return known
    if known.scalar and isinstance(operation.on_scalar, float):
        value = operation.on_scalar
        return Facts(Interval(value, value), Interval(value, value), scalar=True, centred=value == 0)
    interval, ideal = operation.range(known.interval), operation.range(known.ideal)
    if operation.name in ("to_mean_scalar", "normalized_sum") and known.centred:
        return Facts(interval, Interval(0.0, 0.0), scalar=True, centred=True)
    return Facts(interval, ideal, known.scalar or operation.scalar, operation.centred)


def canonical_chain(statistic: str, chain: Chain, operations: Operations = BUILT_IN) -> Chain:
    """The shortest known chain that is equal to `chain` on `statistic`.

    Args:
        statistic: decides the range of the argument.
        chain: names of operations.
        operations: by name.

    Returns:
        `("disconnect",)` if the branch is dropped, `("no_op",)` if nothing is done.
    """
    if "disconnect" in chain:
        return DISCONNECT
    if not isinstance(operations, RememberedOperations):
        return _canonical(statistic, chain, operations)
    if (shortest := operations.chains.get((statistic, chain))) is None:
        shortest = operations.chains[statistic, chain] = _canonical(statistic, chain, operations)
    return shortest


def _canonical(statistic: str, chain: Chain, operations: Operations) -> Chain:
    done: list[str] = []
    remaining = list(reversed(chain))
    while remaining:
        operation = operations[remaining.pop()]
        instead = _rewritten(statistic, done, operation, operations)
        if instead is None:
            done.append(operation.name)
        else:
            remaining.extend(reversed(instead))
    return tuple(done) or ("no_op",)


def _rewritten(statistic: str, done: list[str], operation: Unary, operations: Operations) -> Chain | None:
    """What to apply instead of `operation`; removes the last of `done` if that is part of the rewrite."""
    if operation.name == "no_op":
        return ()
    known = facts(statistic, tuple(done), operations)
    if known.scalar and isinstance(operation.on_scalar, tuple):
        return operation.on_scalar
    for name, interval in operation.same_on.items():
        if known.interval.within(interval):
            return (name,)
    if not done:
        return None
    last = operations[done[-1]]
    if (
        (operation.even and last.name == "revert")
        or (operation.absolute and last.name == "abs")
        or (operation.ignores_scale and last.rescales)
        or (operation.ignores_shift and last.shifts)
    ):
        done.pop()
        return (operation.name,)
    rewrite = operation.after.get(last.name)
    if rewrite is None or not rewrite.exact:
        return None
    if not facts(statistic, tuple(done[:-1]), operations).interval.within(rewrite.given):
        return None
    done.pop()
    return rewrite.chain


def canonical(expression: Expression, operations: Operations = BUILT_IN) -> Expression:
    """The form that equal expressions share: they give the same score on every model, up to the sign.

    Chains become the shortest equal ones, branches that commute are ordered, an expression with one branch
    dropped is written as a sum, and a matrix product of two numbers as a product.

    Args:
        expression: any.
        operations: by name.
    """
    left, right = (Branch(b.statistic, canonical_chain(b.statistic, b.chain, operations)) for b in expression.branches)
    op = expression.op
    scalar = [not b.dropped and facts(b.statistic, b.chain, operations).scalar for b in (left, right)]
    if left.dropped or right.dropped:
        op = "sum"
        if left.dropped and not right.dropped:
            left, right = right, left
        right = Branch(left.statistic if left.dropped else _partner(left.statistic), DISCONNECT)
    elif op == "matmul" and (not expression.together or any(scalar)):
        op = "product"
    if right != left and not right.dropped and _order(right) < _order(left):
        left, right = right, left  # a difference changes its sign, which the orientation compensates
    return Expression(left, op, right, expression.reduce, expression.aggregate)


def _partner(statistic: str) -> str:
    """The statistic that a dropped branch is written with."""
    return "G" if statistic == "W" else "W"


def _order(branch: Branch) -> tuple[int, int, Chain]:
    return EVERY_STATISTIC.index(branch.statistic), len(branch.chain), branch.chain
