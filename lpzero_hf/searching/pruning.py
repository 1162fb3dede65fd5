"""Predictive pruning: rejects an expression before it is evaluated if it is provably redundant.

A rejected expression is equal, up to a factor, the sign or rounding, to a simpler member of the same space, or gives
every architecture the same score. This is derived from the known properties of each operation (domain, range and
algebra), which hold bit for bit but for a sum of centred entries, and from the range of the statistic. Dong et al.
(2024, section 3.3) call this predictive pruning and give a list of pairs instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lpzero_hf.expressions.canonical import Facts, RememberedOperations, canonical, canonical_chain, facts, step
from lpzero_hf.expressions.expression import BUILT_IN, Branch, Chain, Expression, Operations
from lpzero_hf.expressions.stacked import Stack

REASONS = {
    "dropped": "both branches are dropped",
    "inverse": "an operation undoes the one before it, so a shorter chain is equal",
    "conflict": "an operation acts on nothing in the range of its argument, so the branch adds nothing",
    "constant": "a branch is known to be constant, and the expression equal to one without it, or constant itself",
    "equivalent": "the same canonical form as one that has been seen",
    "equal tables": "the same table values as one that has been seen",
    "invalid": "a score is not finite (after evaluation of some architectures)",
    "all equal": "all scores are equal (after evaluation)",
    "nothing new": "no expression was left that is neither known nor redundant",
    "bounded out": "could not reach the population, however it ranked the rest (after evaluation of some)",
}

RENAMED = {"hopeless": "bounded out"}  # reasons in the files of version 0.1.0


def current_reasons(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by reason, of a file that version 0.1.0 may have written."""
    return {RENAMED.get(reason, reason): count for reason, count in counts.items()}


class Pruner:
    """Rejects candidates, and counts why.

    Args:
        operations: by name.
        stacks: tables whose values are compared; without any, only the canonical forms are compared.

    Attributes:
        counts: rejections by reason.
    """

    def __init__(self, operations: Operations = BUILT_IN, stacks: Sequence[Stack] = ()) -> None:
        self.operations, self.stacks = RememberedOperations(operations), list(stacks)
        self.counts: Counter[str] = Counter()
        self._seen: set[Expression] = set()
        self._values: set[tuple[object, ...]] = set()
        self._signatures: dict[tuple[Branch, str | None], tuple[bytes, ...]] = {}
        self._new: list[Expression] = []
        self._whole = bool(self.stacks) and all(stack.whole for stack in self.stacks)

    def reject(self, expression: Expression, *, count: bool = True) -> str:
        """Why `expression` need not be evaluated, or "" if it must be; in that case it is marked as seen.

        Args:
            expression: any of the space.
            count: whether the rejection counts.
        """
        reason = useless(expression, self.operations, whole=self._whole) or self._known(expression)
        if reason and count:
            self.counts[reason] += 1
        return reason

    def remember(self, expression: Expression) -> None:
        """Mark an expression as seen, without a decision about it."""
        self._known(expression)

    def seen(self) -> list[str]:
        """The text of every expression of a new canonical form, in order; what `remember` needs to go on exactly."""
        return [str(expression) for expression in self._new]

    def _known(self, expression: Expression) -> str:
        form = canonical(expression, self.operations)
        if form in self._seen:
            return "equivalent"
        self._seen.add(form)
        self._new.append(expression)
        if self.stacks:
            values = self._signature(form)
            if values in self._values:
                return "equal tables"
            self._values.add(values)
        return ""

    def _signature(self, form: Expression) -> tuple[object, ...]:
        """What distinguishes the scores of two canonical forms: their folds, operation and branches' table values."""
        kept = [branch for branch in form.branches if not branch.dropped]
        met = form.together and form.op in ("product", "matmul") and len(kept) == 2
        branches = [
            (
                "" if not met else branch.statistic + other.statistic,
                self._signature_of(branch, other.statistic if met else None),
            )
            for branch, other in zip(kept, reversed(kept), strict=True)
        ]
        shared = form.together and len(kept) == 2  # a scalar counts once for every element there
        return form.op if len(kept) == 2 else "", form.reduce, form.aggregate, shared, tuple(sorted(branches))

    def _signature_of(self, branch: Branch, partner: str | None) -> tuple[bytes, ...]:
        if (branch, partner) not in self._signatures:
            self._signatures[branch, partner] = tuple(stack.signature(branch, partner) for stack in self.stacks)
        return self._signatures[branch, partner]


def useless(expression: Expression, operations: Operations = BUILT_IN, *, whole: bool = True) -> str:
    """Why an expression is no better than a simpler one, or ""; decided from the expression alone.

    Args:
        expression: any.
        operations: by name.
        whole: whether every block of every model has all statistics. If not, a branch that is 0 still restricts the
            other to the blocks that have both.
    """
    kept = [branch for branch in expression.branches if not branch.dropped]
    if not kept:
        return "dropped"
    for branch in kept:
        if _undone(branch, operations):
            return "inverse"
    if len(kept) == 1:
        return _alone(kept[0], operations)
    for branch, other in (kept, kept[::-1]):
        known = facts(branch.statistic, branch.chain, operations)
        if _adds_nothing(expression, known, facts(other.statistic, other.chain, operations), whole):
            return "conflict" if _conflict(branch, operations) else "constant"
    return ""


def _undone(branch: Branch, operations: Operations) -> bool:
    """Whether an operation in the chain is undone by the next: a rewrite to nothing shortens it by two or more."""
    done: Chain = ()
    for name in branch.chain:
        if name == "no_op":
            continue
        rewrite = operations[name].after.get(done[-1]) if done else None
        if rewrite is not None and rewrite.exact and not rewrite.chain:
            before = facts(branch.statistic, done[:-1], operations)
            if before.interval.within(rewrite.given):
                return True
        done = canonical_chain(branch.statistic, (*done, name), operations)
        done = () if done == ("no_op",) else done
    return False


def _conflict(branch: Branch, operations: Operations) -> bool:
    """Whether the interval of an operation's argument lies outside the interval that the operation acts on."""
    known = facts(branch.statistic, (), operations)
    for name in branch.chain:
        acts = operations[name].acts_on
        if known.ideal.high <= acts.low or known.ideal.low >= acts.high:
            return True
        known = step(known, operations[name])
    return False


def _alone(branch: Branch, operations: Operations) -> str:
    """Why a single branch is useless: its total is 0 on every model; "" if it is not."""
    known = facts(branch.statistic, branch.chain, operations)
    if known.constant == 0:
        return "conflict" if _conflict(branch, operations) else "constant"
    return "constant" if known.centred else ""


def _adds_nothing(expression: Expression, known: Facts, other: Facts, whole: bool) -> bool:
    """Whether a branch with these known properties leaves the ranking by the other branch alone, or no ranking."""
    value = known.constant
    if value != 0 and not whole and not expression.together:
        return False
    if expression.op in ("sum", "difference"):
        if not whole and not expression.together:
            return False
        counts = expression.together and other.scalar and not known.scalar  # its elements, each with the scalar once
        return (value == 0 or known.centred) and not counts
    if value == 0:
        return True
    if not expression.together:
        # the branch gives one number per block: 0, or if averaged over elements the same for all blocks
        return known.centred or (value is not None and expression.reduce == "mean")
    if known.scalar:
        return value is not None
    return value is not None and expression.op == "product" and not other.scalar
