"""The space of expressions: its size, draws, steps within it, and the tables that hold it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, product

import pytest
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.canonical import canonical_chain
from lpzero_hf.expressions.expression import BUILT_IN, DISCONNECT, EVERY_STATISTIC, STATISTIC_NAMES, Expression
from lpzero_hf.expressions.operations import BINARY
from lpzero_hf.expressions.tables import PAIRS
from lpzero_hf.searching.expression_space import ExpressionSpace

FIVE = {name: BUILT_IN[name] for name in ("abs", "l1_norm", "to_mean_scalar", "no_op", "disconnect")}
LENGTHS = [(1, 1), (2, 2), (2, 1), (1, 2), (3, 4)]


def small(unary: tuple[int, int], statistics: str = "WGA") -> ExpressionSpace:
    """Few enough members to count."""
    three = {name: BUILT_IN[name] for name in ("abs", "no_op", "disconnect")}
    return ExpressionSpace(unary, ("sum", "mean"), ("sum",), tuple(statistics), three)


def is_member(expression: Expression, space: ExpressionSpace) -> bool:
    """What it takes to belong to a space, from the definition."""
    x, y = (branch.statistic for branch in expression.branches)
    ordered = space.statistics.index(x) < space.statistics.index(y) or space.unary[0] != space.unary[1]
    return (
        x != y
        and ordered
        and tuple(len(branch.chain) for branch in expression.branches) == space.unary
        and all(name in space.operations for branch in expression.branches for name in branch.chain)
        and (expression.op in BINARY and expression.reduce in space.reduces)
        and expression.aggregate in space.aggregates
    )


def choices(expression: Expression, swapped: bool = False) -> list[str]:
    """Everything that was chosen: the folds, the operation, the statistics and the operations of the chains."""
    branches = expression.branches[::-1] if swapped else expression.branches
    return [
        expression.reduce, expression.aggregate, expression.op,
        *(name for branch in branches for name in (branch.statistic, *branch.chain)),
    ]  # fmt: skip


def differences(one: Expression, other: Expression, space: ExpressionSpace) -> int:
    """How many choices differ; branches of one length have no order."""
    orders = [False, True] if space.unary[0] == space.unary[1] else [False]
    return min(
        sum(a != b for a, b in zip(choices(one), choices(other, swapped), strict=True)) for swapped in orders
    )  # fmt: skip


# Size ------------------------------------------------------------------------------------------------------


def test_the_space_of_one_unary_operation_has_26460_members() -> None:
    space = ExpressionSpace((1, 1), ("sum",), ("sum",))
    members = list(space)
    assert space.size == len(members) == len(set(members)) == len({str(member) for member in members}) == 26_460
    assert all(is_member(member, space) for member in members)
    assert ExpressionSpace((1, 1)).size == 4 * 26_460


def test_the_space_of_two_unary_operations_has_11668860_members_by_formula() -> None:
    assert ExpressionSpace((2, 2), ("sum",), ("sum",)).size == 15 * 21**4 * 4 == 11_668_860
    assert ExpressionSpace((2, 1), ("sum",), ("mean",)).size == 30 * 21**3 * 4


@pytest.mark.parametrize(("unary", "size"), [((2, 2), 37_500), ((2, 1), 15_000), ((1, 2), 15_000), ((1, 1), 1500)])
def test_a_space_of_five_operations_has_as_many_members_as_its_formula_says(unary: tuple[int, int], size: int) -> None:
    space = ExpressionSpace(unary, ("sum",), ("mean",), operations=FIVE)
    members = set(space)
    assert space.size == len(members) == sum(1 for _ in space) == size
    assert all(is_member(member, space) for member in members)


@pytest.mark.slow  # a minute: pytest -m slow tests/searching/test_expression_space.py
def test_the_space_of_two_unary_operations_has_11668860_members_by_enumeration() -> None:
    def kind(member: Expression) -> tuple[str, str, str]:
        return member.left.statistic, member.op, member.right.statistic

    kinds: Counter[tuple[str, str, str]] = Counter()
    for key, members in groupby(ExpressionSpace((2, 2), ("sum",), ("sum",)), kind):
        assert key not in kinds  # so members of two groups differ
        kinds[key] = len({(member.left.chain, member.right.chain) for member in members})
    assert len(kinds) == 15 * 4
    assert kinds.total() == 11_668_860


@pytest.mark.parametrize(
    "wrong",
    [
        {"unary": (0, 1)}, {"unary": (1, 5)}, {"unary": (1,)}, {"unary": (1, 1, 1)}, {"reduces": ()},
        {"aggregates": ()}, {"statistics": ("W",)}, {"statistics": ("W", "H_ffn")},
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_is_refused(wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError):
        ExpressionSpace(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_the_six_are_searched_unless_the_roles_are_asked_for() -> None:
    assert ExpressionSpace().statistics == STATISTIC_NAMES == tuple("WGAJHS")
    space = ExpressionSpace((1, 1), ("sum",), ("sum",), EVERY_STATISTIC)
    assert space.size == 14 * 13 // 2 * 21**2 * 4  # pairs, chains, operations
    assert list(space.wanted.chains) == list(EVERY_STATISTIC)
    assert set(PAIRS) < set(space.wanted.pairs)
    assert ("W_ffn", "G_ffn") in space.wanted.pairs
    assert len(space.wanted.pairs) == 6
    assert len({reduction.function for reduction in space.wanted.reductions.values()}) == 4


# Draws and steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unary", [(1, 1), (2, 1)])
def test_every_member_is_drawn_equally_often(unary: tuple[int, int]) -> None:
    space, rng = small(unary), random.Random(0)
    drawn = Counter(space.draw(rng) for _ in range(30 * space.size))
    assert set(drawn) <= set(space)
    assert stats.chisquare([drawn[member] for member in space]).pvalue > 1e-3


def step(space: ExpressionSpace, rng: random.Random) -> Iterator[Callable[[Expression], Expression]]:
    """Mutations and crossings with a stranger, in turn."""
    while True:
        yield lambda member: space.mutate(member, rng)
        yield lambda member: space.cross(member, space.draw(rng), rng)
        yield lambda member: space.cross(space.draw(rng), member, rng)


@pytest.mark.parametrize("unary", LENGTHS)
@pytest.mark.parametrize("statistics", ["WGAJHS", "WG", "SJW", EVERY_STATISTIC])
def test_a_walk_never_leaves_the_space(unary: tuple[int, int], statistics: Sequence[str]) -> None:
    space, rng = ExpressionSpace(unary, ("sum",), statistics=tuple(statistics)), random.Random(1)
    member = space.draw(rng)
    for take, _ in zip(step(space, rng), range(1500), strict=False):
        member = take(member)
        assert is_member(member, space), member
        assert is_member(space.draw(rng), space)


@pytest.mark.parametrize("unary", LENGTHS)
def test_a_mutation_changes_exactly_one_choice(unary: tuple[int, int]) -> None:
    space, rng = ExpressionSpace(unary), random.Random(2)
    for _ in range(1000):
        parent = space.draw(rng)
        assert differences(parent, space.mutate(parent, rng), space) == 1


@pytest.mark.parametrize("unary", [(1, 1), (2, 2), (2, 1)])
def test_mutations_reach_every_neighbour_and_nothing_else(unary: tuple[int, int]) -> None:
    space, rng = small(unary, "WGAJ"), random.Random(3)
    parent = space.draw(rng)
    neighbours = {member for member in space if differences(parent, member, space) == 1}
    assert {space.mutate(parent, rng) for _ in range(3000)} == neighbours


def test_a_space_with_one_fold_and_two_statistics_mutates_what_is_left() -> None:
    space, rng = ExpressionSpace((1, 1), ("mean",), ("sum",), ("W", "S")), random.Random(4)
    parent = space.draw(rng)
    children = {space.mutate(parent, rng) for _ in range(500)}
    assert {(c.left.statistic, c.right.statistic, c.reduce, c.aggregate) for c in children} == {
        ("W", "S", "mean", "sum")
    }
    assert len(children - {parent}) == 3 + 2 * 20


@pytest.mark.parametrize("unary", [(1, 1), (2, 2), (2, 1)])
def test_a_child_has_a_branch_of_each_parent_and_the_rest_of_either(unary: tuple[int, int]) -> None:
    space, rng = ExpressionSpace(unary), random.Random(5)
    sides, rest = set(), set()
    for _ in range(1500):
        one, other = space.draw(rng), space.draw(rng)
        child = space.cross(one, other, rng)
        for name in ("op", "reduce", "aggregate"):
            assert getattr(child, name) in (getattr(one, name), getattr(other, name))
            if getattr(one, name) != getattr(other, name):
                rest.add((name, getattr(child, name) == getattr(one, name)))
        found = False
        for side, (left, right) in enumerate(((one.left, other.right), (other.left, one.right))):
            for first, second in (child.branches, child.branches[::-1]):
                clash = left.statistic == right.statistic
                same = second.chain == right.chain and second.statistic != left.statistic if clash else second == right
                if first == left and same:
                    found = True
                    sides.add((side, clash))
        assert found, (one, other, child)
    assert len(sides) == 4  # a left branch of each parent, with another statistic or the same
    assert len(rest) == 6


# Tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unary", [(1, 1), (2, 2), (2, 1)])
def test_tables_are_wanted_of_the_canonical_chain_of_every_member_and_no_other(unary: tuple[int, int]) -> None:
    space = ExpressionSpace(unary, ("sum",), ("sum",), ("W", "S", "G"), FIVE)
    used: dict[str, set[tuple[str, ...]]] = {"W": set(), "G": set(), "S": set()}
    for member in space:
        for branch in member.branches:
            if not branch.dropped:
                used[branch.statistic].add(canonical_chain(branch.statistic, branch.chain, FIVE))
    assert {name: set(chains) for name, chains in space.wanted.chains.items()} == used
    assert [*space.wanted.chains] == ["W", "G", "S"]  # as tables want them, however the space names them
    assert all(len(chains) == len(set(chains)) for chains in space.wanted.chains.values())
    assert space.wanted.pairs == (("W", "G"),)


def test_tables_of_the_whole_space_hold_every_chain_but_the_dropped_one() -> None:
    space = ExpressionSpace((1, 2))
    assert space.wanted.pairs == PAIRS
    for statistic, length in product(space.statistics, (1, 2)):
        held = set(space.wanted.chains[statistic])
        chains = {canonical_chain(statistic, chain) for chain in product(BUILT_IN, repeat=length)}
        assert chains - {DISCONNECT} <= held
        assert DISCONNECT not in held
    # one element is never negative, so abs does nothing and abslog is log
    assert {("abs",), ("relu",), ("abslog",)}.isdisjoint(space.wanted.chains["S"])
    assert {("abs",), ("relu",), ("abslog",)} <= set(space.wanted.chains["W"])
