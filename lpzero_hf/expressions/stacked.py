"""Stacked tables of many architectures: the scores of all of them under one expression, or under many at once."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from lpzero_hf.expressions.batched import Met, batch_scores
from lpzero_hf.expressions.canonical import canonical_chain
from lpzero_hf.expressions.expression import Branch, Expression
from lpzero_hf.expressions.tables import GROUP, Pair, Table, Wanted, pair_of

Places = slice | Tensor  # of chains
EVERY = slice(None)


class Stack:
    """Tables of n architectures under the same chains.

    Scores are computed in float64. An architecture that lacks a statistic, or whose score overflows, has NaN or an
    infinity: an invalid score. All may lack one: state-space models have no feed-forward layers.

    Args:
        tables: one per architecture, all made for `wanted`.
        wanted: their chains.
        device: where to compute.
    """

    def __init__(self, tables: Sequence[Table], wanted: Wanted, device: torch.device | str = "cpu") -> None:
        self.wanted, self.device, self.n = wanted, torch.device(device), len(tables)
        blocks = max(next(iter(table.counts.values())).shape[1] for table in tables)
        self.index = {name: {chain: i for i, chain in enumerate(all_)} for name, all_ in wanted.chains.items()}
        self.counts = {
            group: self._padded([table.counts.get(group) for table in tables], 3, blocks)
            for group in {GROUP[name] for name in wanted.chains}
        }
        self.totals = {
            name: self._padded([table.totals.get(name) for table in tables], 2, blocks, len(all_))
            for name, all_ in wanted.chains.items()
        }
        self.products = {
            (x, y): self._stacked([table.products.get((x, y)) for table in tables], wanted.chains[x], wanted.chains[y])
            for x, y in wanted.pairs
        }
        self.matmuls = {
            (x, y): self._stacked(
                [table.matmuls.get((x, y)) for table in tables], wanted.matrices[x], wanted.matrices[y]
            )
            for x, y in wanted.pairs
        }
        self.scalar = {
            name: torch.tensor([wanted.scalar(chain) for chain in all_], device=self.device)
            for name, all_ in wanted.chains.items()
        }
        self._flags = {name: flags.tolist() for name, flags in self.scalar.items()}
        self._ranks = {name: (torch.cumsum(~flags, 0) - 1).tolist() for name, flags in self.scalar.items()}
        self._places: dict[Branch, int] = {}
        self._rows: dict[str, Tensor] = {}

    def _padded(self, parts: Sequence[Tensor | None], k: int, *size: int) -> Tensor:
        """[k, n, *size], where the first of `size` is a number of blocks, with zeros for missing values."""
        whole = torch.zeros(k, self.n, *size, dtype=torch.float64, device=self.device)
        for i, part in enumerate(parts):
            if part is not None:
                whole[:, i, : part.shape[1]] = part
        return whole

    def _stacked(self, parts: Sequence[Tensor | None], left: Sequence[object], right: Sequence[object]) -> Tensor:
        """[2, n, left, right] with NaN for missing values."""
        missing = torch.full((2, len(left), len(right)), torch.nan, dtype=torch.float64)
        return torch.stack([missing if part is None else part for part in parts], 1).to(self.device)

    def part(self, architectures: Sequence[int]) -> Stack:
        """The tables of some architectures."""
        chosen = torch.as_tensor(list(architectures), device=self.device)
        some = copy.copy(self)
        some.n = len(chosen)
        for name in ("counts", "totals", "products", "matmuls"):
            setattr(some, name, {key: tensor[:, chosen] for key, tensor in getattr(self, name).items()})
        some._rows = {}
        return some

    @property
    def whole(self) -> bool:
        """Whether every block has all statistics, so that two statistics meet in every block that has one."""
        there = [counts[0] > 0 for counts in self.counts.values()]
        return all(bool((one == there[0]).all()) for one in there)

    @property
    def tables(self) -> Stack:
        """These tables: see `lpzero_hf.searching.score_source.ScoreSource`."""
        return self

    def prepare(self, expressions: Sequence[Expression]) -> None:
        """Nothing to prepare: every expression is arithmetic on the tables."""

    # Scores --------------------------------------------------------------------------------------------------

    def score(self, expression: Expression) -> Tensor:
        """[n], the scores of all architectures under one expression."""
        kept = [b for b in expression.branches if not b.dropped]
        places = [self._place(branch) for branch in kept]
        if not kept:
            return torch.full((self.n,), torch.nan, dtype=torch.float64, device=self.device)
        if len(kept) == 1:
            name = kept[0].statistic
            return self.alone(name, expression.reduce, expression.aggregate, places[0])[:, 0]
        left, right = kept[0].statistic, kept[1].statistic
        grid = self.grid(left, right, expression.op, expression.reduce, expression.aggregate, *places)
        return grid[:, 0, 0]

    @property
    def checks(self) -> bool:
        """False: sums do not show what rounding did to their terms."""
        return False

    def scores(self, expressions: Sequence[Expression], *, check: bool = True) -> Tensor:
        """[m, n], the scores of all architectures under each expression; `score` of each, but for rounding."""
        return batch_scores(self, expressions)

    def _index(self, branch: Branch) -> int:
        if branch not in self._places:
            chain = canonical_chain(branch.statistic, branch.chain, self.wanted.operations)
            self._places[branch] = self.index[branch.statistic][chain]
        return self._places[branch]

    def _place(self, branch: Branch) -> slice:
        i = self._index(branch)
        return slice(i, i + 1)

    def is_scalar(self, branch: Branch) -> bool:
        """Whether the branch leaves one number per site."""
        return bool(self._flags[branch.statistic][self._index(branch)])

    def block_totals(self, branches: Sequence[Branch]) -> Tensor:
        """[2, k, n, B], see `lpzero_hf.expressions.batched.BranchSums`."""
        found: Tensor | None = None
        for name in dict.fromkeys(branch.statistic for branch in branches):
            if name not in self._rows:  # one row in memory for each chain
                self._rows[name] = self.totals[name].permute(0, 3, 1, 2).contiguous()
            places = [place for place, branch in enumerate(branches) if branch.statistic == name]
            chains = torch.tensor([self._index(branches[place]) for place in places], device=self.device)
            some = self._rows[name].index_select(1, chains)
            if found is None:
                found = some.new_empty(2, len(branches), *some.shape[2:])
            found[:, torch.tensor(places, device=self.device)] = some
        assert found is not None, "an expression has a branch"
        return found

    def met_totals(self, met: Sequence[Met]) -> Tensor:
        """[2, m, n], see `lpzero_hf.expressions.batched.BranchSums`."""
        found = torch.empty(2, len(met), self.n, dtype=torch.float64, device=self.device)
        kinds: dict[tuple[str, str, bool], list[int]] = {}
        for place, (left, right, matmul) in enumerate(met):
            kinds.setdefault((left.statistic, right.statistic, matmul), []).append(place)
        for (one, other, as_matrices), places in kinds.items():
            held = self._pair(self.matmuls if as_matrices else self.products, one, other)
            at = [[self._index(met[p][0]) for p in places], [self._index(met[p][1]) for p in places]]
            if as_matrices:
                at = [[self._ranks[name][i] for i in some] for name, some in zip((one, other), at, strict=True)]
            i, j = (torch.tensor(some, device=self.device) for some in at)
            found[:, torch.tensor(places, device=self.device)] = held[:, :, i, j].transpose(1, 2)
        return found

    def signature(self, branch: Branch, partner: str | None = None) -> bytes:
        """A digest of the tables' values for one branch; equal for branches that give equal scores.

        Args:
            branch: any that is not dropped.
            partner: the statistic whose matrices it is multiplied with, if any.
        """
        place = self._place(branch)
        group = GROUP[branch.statistic]
        held = [self.totals[branch.statistic][..., place], self.counts[group]]
        if partner is not None:
            products = self._pair(self.products, branch.statistic, partner)[:, :, place]
            held.append(products)
            if not bool(self.scalar[branch.statistic][place]):
                rank = int((~self.scalar[branch.statistic][: place.start]).sum())
                held.append(self._pair(self.matmuls, branch.statistic, partner)[:, :, rank])
        made = hashlib.blake2b(bytes(self.scalar[branch.statistic][place].tolist()), digest_size=16)
        for tensor in held:
            made.update((tensor + 0.0).contiguous().cpu().numpy().tobytes())  # every bit; -0 is 0
        return made.digest()

    def alone(self, name: str, reduce: str, aggregate: str, chains: Places = EVERY) -> Tensor:
        """[n, K], the scores under one branch of a statistic for each of its chains."""
        values, there = self._reduced(name, reduce, chains)
        return _aggregated(values.sum(1), there.sum(1), aggregate)

    def grid(
        self, left: str, right: str, op: str, reduce: str, aggregate: str,
        rows: Places = EVERY, columns: Places = EVERY,
    ) -> Tensor:  # fmt: skip
        """[n, K, L], the scores for each chain of the left statistic and each of the right."""
        if GROUP[left] == GROUP[right]:
            return self._together(left, right, op, reduce, aggregate, rows, columns)
        x, one = self._reduced(left, reduce, rows)
        y, other = self._reduced(right, reduce, columns)
        there = one * other
        if op in ("product", "matmul"):
            values = torch.einsum("nbk,nbl->nkl", x, y)
        else:
            sign = 1 if op == "sum" else -1
            shown = there[:, :, None]
            values = (x * shown).sum(1)[:, :, None] + sign * (y * shown).sum(1)[:, None, :]
        return _aggregated(values, there.sum(1), aggregate)

    def _reduced(self, name: str, reduce: str, chains: Places) -> tuple[Tensor, Tensor]:
        """[n, B, K], each block's reduced value, and [n, B], whether the block has the statistic."""
        sites, elements, _ = self.counts[GROUP[name]]
        there = (sites > 0).double()
        totals = self.totals[name][0][:, :, chains]
        if reduce == "mean":
            totals = totals / torch.where(self.scalar[name][chains], sites[:, :, None], elements[:, :, None]).clamp(
                min=1
            )
        return totals, there

    def _together(
        self, left: str, right: str, op: str, reduce: str, aggregate: str, rows: Places, columns: Places
    ) -> Tensor:
        sites, elements, _ = self.counts[GROUP[left]]
        there = (sites > 0).double().sum(1)
        x_scalar, y_scalar = self.scalar[left][rows], self.scalar[right][columns]
        both = x_scalar[:, None] & y_scalar
        if op in ("sum", "difference"):
            sign = 1 if op == "sum" else -1
            over = (None, None) if reduce == "sum" else (sites, elements)
            plain, broadcast = (
                self._folded(left, kind, divide)[:, rows, None]
                + sign * self._folded(right, kind, divide)[:, None, columns]
                for kind, divide in enumerate(over)
            )
            return _aggregated(torch.where(both, plain, broadcast), there, aggregate)
        fold = 0 if reduce == "sum" else 1
        values = self._pair(self.products, left, right)[fold][:, rows][:, :, columns]
        if op == "matmul":
            values = values.clone()
            held = self._pair(self.matmuls, left, right)[fold]
            i, j = ((~s).nonzero()[:, 0] for s in (x_scalar, y_scalar))
            ranks = [torch.cumsum(~self.scalar[name], 0) - 1 for name in (left, right)]
            a, b = ranks[0][rows][i], ranks[1][columns][j]
            values[:, i[:, None], j] = held[:, a[:, None], b]
        return _aggregated(values, there, aggregate)

    def _folded(self, name: str, kind: int, over: Tensor | None) -> Tensor:
        """[n, K], totals summed over blocks, each divided by `over` [n, B]."""
        totals = self.totals[name][kind]
        return totals.sum(1) if over is None else (totals / over.clamp(min=1)[:, :, None]).sum(1)

    def _pair(self, held: dict[Pair, Tensor], left: str, right: str) -> Tensor:
        pair = pair_of(left, right)
        return held[pair] if pair == (left, right) else held[pair].transpose(-1, -2)


def _aggregated(total: Tensor, blocks: Tensor, aggregate: str) -> Tensor:
    """`total` [n, ...] aggregated over `blocks` [n], invalid where there are none."""
    blocks = blocks.view(-1, *[1] * (total.dim() - 1))
    value = total / blocks if aggregate == "mean" else total
    return torch.where(blocks > 0, value, torch.nan)
