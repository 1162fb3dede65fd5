"""The scores of many expressions at once: a fixed number of tensor operations, however many expressions there are.

What a branch adds up to in each block is looked up for all branches together; the operations between branches and the
folds are then masks over all expressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lpzero_hf.expressions.expression import Branch, Expression
from lpzero_hf.expressions.tables import GROUP

Met = tuple[Branch, Branch, bool]  # two branches of one shape that are multiplied, and whether as x @ y^T


class BranchSums(Protocol):
    """What the branches of n architectures with at most B blocks add up to.

    Attributes:
        n: the number of architectures.
        device: of all tensors.
    """

    n: int
    device: torch.device

    @property
    def counts(self) -> Mapping[str, Tensor]:
        """By group of statistics, [3, n, B]: see `lpzero_hf.expressions.tables.Table`."""

    def is_scalar(self, branch: Branch) -> bool:
        """Whether the branch leaves one number per site."""

    def block_totals(self, branches: Sequence[Branch]) -> Tensor:
        """[2, k, n, B], the sums over the sites of each block; and with scalars counted once for every element."""

    def met_totals(self, met: Sequence[Met]) -> Tensor:
        """[2, m, n], the sums of products over all sites; and over blocks of their means over the elements."""


def batch_scores(source: BranchSums, expressions: Sequence[Expression]) -> Tensor:
    """[m, n] in float64, the scores of n architectures under m expressions.

    An architecture that lacks a statistic, or whose score overflows, has NaN or an infinity: an invalid score.
    """
    scores = torch.full((len(expressions), source.n), torch.nan, dtype=torch.float64, device=source.device)
    kinds: dict[str, list[int]] = {}
    for place, expression in enumerate(expressions):
        kinds.setdefault(_kind(expression), []).append(place)
    kinds.pop("dropped", None)
    for kind, places in kinds.items():
        some = [expressions[place] for place in places]
        made = {"apart": _apart, "linear": _linear, "met": _met}[kind](source, some)
        scores[torch.tensor(places, device=source.device)] = made
    return scores


def _kind(expression: Expression) -> str:
    dropped = [branch.dropped for branch in expression.branches]
    if any(dropped) or not expression.together:
        return "dropped" if all(dropped) else "apart"
    return "linear" if expression.op in ("sum", "difference") else "met"


class _Branches:
    """The distinct branches of some expressions, and their place among them."""

    def __init__(self, source: BranchSums, pairs: Sequence[tuple[Branch, Branch]]) -> None:
        self.source = source
        index: dict[Branch, int] = {}
        self.left, self.right = (
            torch.tensor([index.setdefault(pair[side], len(index)) for pair in pairs], device=source.device)
            for side in (0, 1)
        )
        self.all = list(index)
        self.totals = source.block_totals(self.all)
        self.scalar = torch.tensor([source.is_scalar(branch) for branch in self.all], device=source.device)

    def counts(self, kind: int) -> Tensor:
        """[k, n, B], one of the counts of each branch's group."""
        groups = {group: place for place, group in enumerate(self.source.counts)}
        stacked = torch.stack([counts[kind] for counts in self.source.counts.values()])
        return stacked[torch.tensor([groups[GROUP[branch.statistic]] for branch in self.all], device=stacked.device)]


def _mask(source: BranchSums, values: Sequence[bool]) -> Tensor:
    """[m, 1, 1]."""
    return torch.tensor(values, device=source.device)[:, None, None]


def _apart(source: BranchSums, expressions: Sequence[Expression]) -> Tensor:
    """Each branch is reduced within its block; a dropped branch adds nothing, wherever it would be read."""
    pairs = []
    for expression in expressions:
        one, other = expression.branches
        one, other = (other, one) if one.dropped else (one, other)
        pairs.append((one, one if other.dropped else other))
    held = _Branches(source, pairs)
    alone = _mask(source, [any(branch.dropped for branch in expression.branches) for expression in expressions])
    sites = held.counts(0)
    elements = torch.where(held.scalar[:, None, None], sites, held.counts(1))
    means = held.totals[0] / elements.clamp(min=1)
    mean = _mask(source, [expression.reduce == "mean" for expression in expressions])
    x, y = (torch.where(mean, means[side], held.totals[0][side]) for side in (held.left, held.right))
    there = (sites[held.left] > 0) & (sites[held.right] > 0)
    shown = there.double()
    product = _mask(source, [expression.op in ("product", "matmul") for expression in expressions])
    sign = torch.where(_mask(source, [expression.op == "difference" for expression in expressions]), -1.0, 1.0)
    # a block without sites has 0; added up one branch after the other, as the tables of one expression do
    total = torch.where(product, x * y, 0.0).sum(-1)
    linear = (x * shown).sum(-1) + sign[..., 0] * (y * shown).sum(-1)
    total = torch.where(product[..., 0], total, linear)
    return _aggregated(torch.where(alone[..., 0], x.sum(-1), total), there, expressions)


def _linear(source: BranchSums, expressions: Sequence[Expression]) -> Tensor:
    """Sums and differences of matrices at one site: those of the totals, with a scalar once for every element."""
    held = _Branches(source, [expression.branches for expression in expressions])
    sites, elements = held.counts(0), held.counts(1)
    folds = torch.stack(
        [
            torch.stack([held.totals[0].sum(-1), held.totals[1].sum(-1)]),
            torch.stack(
                [(held.totals[kind] / over.clamp(min=1)).sum(-1) for kind, over in enumerate((sites, elements))]
            ),
        ]
    )  # [reduce, kind, k, n]
    reduce = torch.tensor([int(e.reduce == "mean") for e in expressions], device=source.device)
    kind = (~(held.scalar[held.left] & held.scalar[held.right])).long()
    sign = torch.where(_mask(source, [e.op == "difference" for e in expressions]), -1.0, 1.0)[..., 0]
    total = folds[reduce, kind, held.left] + sign * folds[reduce, kind, held.right]
    return _aggregated(total, sites[held.left] > 0, expressions)


def _met(source: BranchSums, expressions: Sequence[Expression]) -> Tensor:
    """Products of matrices at one site."""
    totals = source.met_totals(
        [
            (e.left, e.right, e.op == "matmul" and not (source.is_scalar(e.left) or source.is_scalar(e.right)))
            for e in expressions
        ]
    )
    mean = _mask(source, [e.reduce == "mean" for e in expressions])[..., 0]
    groups = {group: counts[0] > 0 for group, counts in source.counts.items()}
    there = torch.stack([groups[GROUP[expression.left.statistic]] for expression in expressions])
    return _aggregated(torch.where(mean, totals[1], totals[0]), there, expressions)


def _aggregated(total: Tensor, there: Tensor, expressions: Sequence[Expression]) -> Tensor:
    """`total` [m, n] aggregated over the blocks that are `there` [m, n, B], invalid where there are none."""
    blocks = there.sum(-1).double()
    mean = torch.tensor([e.aggregate == "mean" for e in expressions], device=total.device)[:, None]
    return torch.where(blocks > 0, torch.where(mean, total / blocks, total), torch.nan)
