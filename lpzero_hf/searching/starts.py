"""Where a search begins that goes on from an earlier one, with more operations in a branch for example."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import replace

from lpzero_hf.benchmarks.held_out import unseen
from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.expression import Branch, Expression
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.result import SearchResult

NOTHING = "no_op"


def started(config: SearchConfig, run: SearchResult) -> SearchConfig:
    """A configuration whose splits begin with the fittest expressions of an earlier search's, each with its own.

    Args:
        config: of the search that begins.
        run: the earlier search.

    Raises:
        UsageError: the earlier search has fewer splits, or its result does not say what it saw.
    """
    if len(run.splits) < config.splits:
        raise UsageError(
            f"the search to start from has {len(run.splits)} split(s), this one {config.splits}, and each starts from "
            "its own"
        )
    if not run.marks:
        raise UsageError("the search to start from does not say which architectures it saw; search again")
    splits = run.splits[: config.splits]
    return replace(
        config,
        starts=tuple(tuple(str(candidate.expression) for candidate in split.fittest) for split in splits),
        saw=tuple(tuple(run.seen(split)) for split in splits),
    )


def check_unseen(
    saw: Collection[str], split: int, marks: Sequence[Sequence[Set[str]]], parts: Sequence[Sequence[int]]
) -> None:
    """Check that an earlier search saw none of the architectures that a split holds out.

    Args:
        saw: the marks of the architectures that it saw.
        split: the number of the split.
        marks: of every architecture, by benchmark.
        parts: the places of the architectures that the split is searched on, by benchmark.

    Raises:
        UsageError: it saw one.
    """
    now = {mark for some, part in zip(marks, parts, strict=True) for place in part for mark in some[place]}
    lost = sum(len(unseen(some, now)) - len(unseen(some, now | set(saw))) for some in marks)
    if lost:
        raise UsageError(
            f"the search to start from saw {lost} of the architectures that split {split} holds out; "
            "take the same benchmark, number of architectures and seed for both"
        )


def widened(expression: Expression, space: ExpressionSpace) -> Expression:
    """The member of a space that computes the same as an expression with at most as many operations in a branch.

    Raises:
        UsageError: the space has no such member.

    Example:
        >>> from lpzero_hf.expressions.expression import parse
        >>> str(widened(parse("sum(sum(product(sqrt(A), abs(J))))"), ExpressionSpace((2, 2))))
        'sum(sum(product(no_op(sqrt(A)), no_op(abs(J)))))'
    """
    folds_fit = expression.reduce in space.reduces and expression.aggregate in space.aggregates
    known = {*expression.left.chain, *expression.right.chain, NOTHING} <= set(space.operations)
    for one, other in ((expression.left, expression.right), (expression.right, expression.left)):
        if folds_fit and known and _fits(one, other, space):
            left, right = _padded(one, space.unary[0]), _padded(other, space.unary[1])
            return replace(expression, left=left, right=right)
    raise UsageError(f"'{expression}' has no place in the space searched; start from a search of a smaller one")


def _fits(left: Branch, right: Branch, space: ExpressionSpace) -> bool:
    short = len(left.chain) <= space.unary[0] and len(right.chain) <= space.unary[1]
    return short and (left.statistic, right.statistic) in space.pairs


def _padded(branch: Branch, length: int) -> Branch:
    return Branch(branch.statistic, (*branch.chain, *[NOTHING] * (length - len(branch.chain))))
