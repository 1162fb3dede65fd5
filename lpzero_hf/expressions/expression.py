"""Expressions: two branches of statistics, a binary operation, and how they become one score.

    score = aggregate over blocks ( reduce over elements ( f(x) op g(y) ) )

An expression is plain data. Its text, `sum(sum(product(abs(W), abs(G))))`, names from the outside in: aggregate,
reduce, op, and each branch's chain of unary operations around its statistic. The space and the operations are those
of LPZero (Dong et al. 2024, arXiv:2410.04808, section 3).

A statistic is one matrix at each site: W and G [out, in] and A and J [real tokens, out] of a linear layer;
H [real tokens x heads, d_head] and S [real tokens x heads, T] of a mixer. By role, W_ffn, G_ffn, A_ffn and J_ffn are
those of the linear layers outside the mixers alone, W_mixer, G_mixer, A_mixer and J_mixer of those inside. Where both
branches read the same layers and matrices of the same shape, `op` acts on the matrices; else each branch is reduced
within its block, and `op` acts on the two numbers. `disconnect` anywhere in a chain drops the branch, so that only the
other one is left.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from lpzero_hf.errors import UsageError, did_you_mean
from lpzero_hf.expressions.operations import BINARY, REAL, UNARY, Interval, Unary

Chain = tuple[str, ...]  # names of unary operations in the order they are applied
Operations = Mapping[str, Unary]

STATISTIC_NAMES = ("W", "G", "A", "J", "H", "S")
ROLES = ("ffn", "mixer")  # of linear layers: outside the mixers and inside, as in `lpzero_hf.capture.spec`
OF_LAYERS = ("W", "G", "A", "J")
BY_ROLE = tuple(f"{name}_{role}" for role in ROLES for name in OF_LAYERS)
EVERY_STATISTIC = (*STATISTIC_NAMES, *BY_ROLE)
RANGES = dict.fromkeys(EVERY_STATISTIC, REAL) | {"S": Interval(0.0, 1.0)}
SHAPES = {"W": "weight", "G": "weight", "A": "output", "J": "output", "H": "head", "S": "softmax"}
SHAPES |= {f"{name}_{role}": f"{SHAPES[name]}_{role}" for role in ROLES for name in OF_LAYERS}
FOLDS = ("sum", "mean")
LONGEST = 4
VERSION = "1"  # of the definition of expressions and tables; a change makes cached scores and tables invalid
DISCONNECT: Chain = ("disconnect",)
BUILT_IN: Operations = MappingProxyType({operation.name: operation for operation in UNARY})
NAMED = f"{', '.join(STATISTIC_NAMES)}, or by role such as J_ffn"


def letter(statistic: str) -> str:
    """Its letter, W for W, W_ffn and W_mixer: the kind of tensor, wherever it is read."""
    return statistic.partition("_")[0]


def role(statistic: str) -> str:
    """The role of the linear layers that it is read at, ffn or mixer; "" for a statistic of the six."""
    return statistic.partition("_")[2]


@dataclass(frozen=True, order=True)
class Branch:
    """A statistic followed by a chain of unary operations.

    Args:
        statistic: one of W, G, A, J, H, S, or by role, such as W_ffn or J_mixer.
        chain: 1 to 4 names of unary operations in the order they are applied; none is the same as `no_op`.

    Raises:
        UsageError: another statistic, or a longer chain.
    """

    statistic: str
    chain: Chain = ("no_op",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "chain", tuple(self.chain) or ("no_op",))
        if self.statistic not in EVERY_STATISTIC:
            raise UsageError(f"unknown statistic '{self.statistic}'; the statistics are {', '.join(EVERY_STATISTIC)}")
        if len(self.chain) > LONGEST:
            raise UsageError(f"a branch has 1 to {LONGEST} unary operations, this one {len(self.chain)}")

    def __str__(self) -> str:
        return "".join(f"{name}(" for name in reversed(self.chain)) + self.statistic + ")" * len(self.chain)

    @property
    def dropped(self) -> bool:
        """Whether the branch is disconnected."""
        return "disconnect" in self.chain


@dataclass(frozen=True, order=True)
class Expression:
    """Two branches, an operation between them, and the folds over elements and blocks.

    Args:
        left: the first branch.
        op: sum, difference, product or matmul.
        right: the second branch.
        reduce: over the elements of a block, sum or mean.
        aggregate: over blocks, sum or mean.

    Raises:
        UsageError: an unknown operation or fold.

    Example:
        >>> snip = parse("sum(sum(product(abs(W), abs(G))))")
        >>> snip.left, snip.complexity, parse(str(snip)) == snip
        (Branch(statistic='W', chain=('abs',)), 5, True)
    """

    left: Branch
    op: str
    right: Branch
    reduce: str = "sum"
    aggregate: str = "sum"

    def __post_init__(self) -> None:
        if self.op not in BINARY:
            raise UsageError(f"unknown operation '{self.op}' between branches; there are {', '.join(BINARY)}")
        for fold in (self.reduce, self.aggregate):
            if fold not in FOLDS:
                raise UsageError(f"unknown fold '{fold}'; reduce and aggregate are each {' or '.join(FOLDS)}")

    def __str__(self) -> str:
        return f"{self.aggregate}({self.reduce}({self.op}({self.left}, {self.right})))"

    @property
    def branches(self) -> tuple[Branch, Branch]:
        """Left and right."""
        return self.left, self.right

    @property
    def together(self) -> bool:
        """Whether the operation acts on matrices of one shape at the same sites, not on two numbers of a block."""
        return SHAPES[self.left.statistic] == SHAPES[self.right.statistic]

    @cached_property
    def complexity(self) -> int:
        """The number of nodes: statistics, unary operations except no_op, and the binary operation."""
        kept = [branch for branch in self.branches if not branch.dropped]
        nodes = sum(1 + sum(name != "no_op" for name in branch.chain) for branch in kept)
        return nodes + (len(kept) == 2)

    @cached_property
    def digest(self) -> str:
        """A stable name: 16 hexadecimal digits of the SHA-256 of the text."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:16]


# Text ------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z_0-9]*)|(?P<mark>[(),])|(?P<other>\S)|(?P<end>$))")
TEXT_LIMIT = 1000


class _Reader:
    """Tokens of one text with their columns."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.token, self.kind, self.start, self.end = "", "", 1, 0
        self.take()

    def take(self) -> str:
        """Return the current token and go on to the next."""
        taken = self.token
        match = TOKEN.match(self.text, self.end)
        assert match is not None  # the pattern takes any character, and the end
        self.kind = match.lastgroup or "end"
        self.token, self.start, self.end = match[self.kind], match.start(self.kind) + 1, match.end()
        return taken

    def fail(self, wanted: str, column: int | None = None, hint: str = "") -> UsageError:
        column = column or self.start
        found = "the end" if self.kind == "end" and column == self.start else f"'{self.text[column - 1 :][:20]}'"
        return UsageError(f"column {column} of the expression: expected {wanted}, found {found}{hint}")

    def expect(self, mark: str, after: str) -> None:
        if self.token != mark or self.kind != "mark":
            raise self.fail(f"'{mark}' {after}")
        self.take()

    def name(self, wanted: str, among: tuple[str, ...], hinted: tuple[str, ...] = ()) -> str:
        """The current token, one of `among`; `hinted` are further names that could have been meant."""
        if self.kind != "name":
            raise self.fail(wanted)
        if self.token not in among:
            raise self.fail(wanted, hint=did_you_mean(self.token, (*among, *hinted)))
        return self.take()


def parse(text: str, operations: Operations = BUILT_IN) -> Expression:
    """The expression with the text `text`; `parse(str(e)) == e`.

    Args:
        text: for example `sum(sum(product(abs(W), abs(G))))`; a bare `W` is `no_op(W)`.
        operations: the unary operations by name.

    Raises:
        UsageError: the text is no expression; the message names the column.

    Example:
        >>> str(parse("mean( sum(difference(W, log(S)) ))"))
        'mean(sum(difference(no_op(W), log(S))))'
    """
    if len(text) > TEXT_LIMIT:
        raise UsageError(f"an expression is at most {TEXT_LIMIT} characters long, this one has {len(text)}")
    reader = _Reader(text)
    aggregate = reader.name("sum or mean (over blocks)", FOLDS)
    reader.expect("(", f"after {aggregate}")
    reduce = reader.name("sum or mean (over elements)", FOLDS)
    reader.expect("(", f"after {reduce}")
    op = reader.name(f"one of {', '.join(BINARY)}", tuple(BINARY))
    reader.expect("(", f"after {op}")
    left = _branch(reader, operations)
    reader.expect(",", "between the branches")
    right = _branch(reader, operations)
    for opened in (op, reduce, aggregate):
        reader.expect(")", f"to close {opened}")
    if reader.kind != "end":
        raise reader.fail("the end")
    return Expression(left, op, right, reduce, aggregate)


def _branch(reader: _Reader, operations: Operations) -> Branch:
    names: list[str] = []
    start = reader.start
    while True:
        if reader.kind == "name" and reader.token in EVERY_STATISTIC:
            statistic = reader.take()
            break
        name = reader.name(f"a statistic ({NAMED}) or a unary operation", tuple(operations), BY_ROLE)
        names.append(name)
        if len(names) > LONGEST:
            raise reader.fail(f"at most {LONGEST} unary operations in a branch", start)
        reader.expect("(", f"after {name}")
    for name in names:
        reader.expect(")", f"to close {name}")
    return Branch(statistic, tuple(reversed(names)))
