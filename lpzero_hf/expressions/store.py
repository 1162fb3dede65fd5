"""The raw statistics of many architectures, kept, so that any expression is scored without a pass over a model.

Sites of one shape are worked on together, a piece at a time. The chains of all new branches of a batch are walked as a
tree over each piece, so that chains with one beginning share it, and only what a branch adds up to at each site is kept
for later batches. The folds over sites and blocks are one segmented sum over all architectures.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from lpzero_hf.capture.spec import Reduced, Reduction, Statistic
from lpzero_hf.expressions.batched import Met, batch_scores
from lpzero_hf.expressions.canonical import RememberedOperations, canonical_chain
from lpzero_hf.expressions.expression import (
    BUILT_IN,
    EVERY_STATISTIC,
    STATISTIC_NAMES,
    Branch,
    Chain,
    Expression,
    Operations,
    letter,
)
from lpzero_hf.expressions.operations import applied
from lpzero_hf.expressions.rounding import decided, disturbed, steady
from lpzero_hf.expressions.tables import COLUMNS, GROUP, GROUPS, View, read_as, results

MEMORY = 2**28  # bytes of results that are remembered
PIECE = {"cpu": 2**24, "cuda": 2**32}  # bytes of the tensors that are worked on together
SMALLEST = 2**18  # bytes of a piece of one statistic, where many results are needed at once

Root = tuple[str, bool]  # a statistic, and whether it is disturbed as by rounding
Key = tuple[Root, Chain]
Pair = tuple[Key, Key, bool]  # two results that are multiplied, and whether as x @ y^T
Load = Callable[[], Tensor]  # the matrices of one site, [statistics, rows, columns]


def raw_reductions(
    dtype: torch.dtype | None = None, statistics: Collection[str] = STATISTIC_NAMES
) -> dict[str, Reduction]:
    """What to capture, by group of statistics of one shape: copies of the matrices, [statistics, rows, columns].

    Args:
        dtype: they are kept in; None keeps that of the pass.
        statistics: that expressions will read; those of one group come together.
    """

    def copied(names: Sequence[str], view: View) -> Callable[..., Tensor]:
        def function(*tensors: Tensor) -> Tensor:
            mask = tensors[len(names) :]
            made = torch.stack([view(tensor, *mask) for tensor in tensors[: len(names)]])
            return made if dtype is None else made.to(dtype)

        return function

    found = {}
    for group in dict.fromkeys(GROUP[name] for name in statistics):
        names, (place, more, view) = GROUPS[group], read_as(group)
        reads = cast("list[Statistic]", [letter(name) for name in names])
        found[group] = Reduction(place, (*reads, *more), copied(names, view))
    return found


@dataclass(frozen=True)
class _Sites:
    """The sites of one group of statistics, those of one architecture after those of another.

    Args:
        model: [s], the architecture of each site.
        block: [s], its block, counted over all architectures.
        shapes: by rows and columns, the places of the sites of that shape.
        load: reads each site.
    """

    model: Tensor
    block: Tensor
    shapes: Mapping[tuple[int, int], Sequence[int]]
    load: Sequence[Load]
    elements: Tensor
    rows: Tensor


@dataclass
class _Missing:
    """What one batch still needs of a group: totals of chains by root, and sums of products."""

    totals: dict[Root, set[Chain]] = field(default_factory=dict)
    pairs: set[Pair] = field(default_factory=set)


class RawStore:
    """The raw statistics of n architectures, which score any expression.

    Operations run in the precision of the pass, or in float32 on matrices kept narrower; sums are in float64. A score
    that rounding decides (see `lpzero_hf.expressions.rounding`) is NaN, as is one that an architecture lacks.

    Args:
        models: for each architecture, by group, the values of `raw_reductions`; or for each site, how to read it, in
            place of its tensor.
        operations: by name.
        device: where to compute.
        memory: bytes of results that are remembered; the least recently used are dropped first.
    """

    def __init__(
        self,
        models: Sequence[Mapping[str, Sequence[tuple[int, tuple[int, int], Load]]]],
        operations: Operations = BUILT_IN,
        device: torch.device | str = "cpu",
        memory: int = MEMORY,
    ) -> None:
        self.operations = RememberedOperations(operations)
        self.device, self.n, self.memory = torch.device(device), len(models), memory
        places = [block for model in models for sites in model.values() for block, _, _ in sites]
        self.blocks = 1 + max(places, default=0)
        self.sites = {group: self._gathered([model.get(group, ()) for model in models]) for group in GROUPS}
        self.counts = {group: self._counts(sites) for group, sites in self.sites.items()}
        self.computed = 0  # branches and products, of which each is computed once while it is remembered
        self._held: OrderedDict[Key | Pair, Tensor] = OrderedDict()
        self._one_by_one: set[str] = set()  # operations that torch cannot run on several matrices together

    def _gathered(self, models: Sequence[Sequence[tuple[int, tuple[int, int], Load]]]) -> _Sites:
        shapes: dict[tuple[int, int], list[int]] = {}
        model, block, sizes = [], [], []
        load: list[Load] = []
        for number, sites in enumerate(models):
            for place, shape, read in sites:
                shapes.setdefault(shape, []).append(len(load))
                model.append(number)
                block.append(number * self.blocks + place)
                load.append(read)
                sizes.append(shape)
        rows = torch.tensor([r for r, _ in sizes], dtype=torch.float64, device=self.device)
        elements = torch.tensor([r * c for r, c in sizes], dtype=torch.float64, device=self.device)
        index = [torch.tensor(all_, dtype=torch.long, device=self.device) for all_ in (model, block)]
        return _Sites(index[0], index[1], shapes, load, elements, rows)

    def _counts(self, sites: _Sites) -> Tensor:
        """[3, n, B]: of each block the sites, the elements, and those of x @ y^T."""
        kinds = torch.stack([torch.ones_like(sites.rows), sites.elements, sites.rows.square()])
        return self.per_block(kinds, sites)

    def per_block(self, values: Tensor, sites: _Sites) -> Tensor:
        """[..., s] to [..., n, B]."""
        made = values.new_zeros(*values.shape[:-1], self.n * self.blocks).index_add_(-1, sites.block, values)
        return made.reshape(*values.shape[:-1], self.n, self.blocks)

    # Scores --------------------------------------------------------------------------------------------------

    def scores(self, expressions: Sequence[Expression], *, check: bool = True) -> Tensor:
        """[m, n] in float64, the scores of all architectures under each expression.

        Args:
            expressions: any; those of one batch share the beginnings of their chains.
            check: whether a score that rounding decides is NaN.

        Raises:
            PluginError: an operation gives what it does not promise, or writes into its argument.
        """
        unsteady = [i for i, e in enumerate(expressions) if check and not steady(e, self.operations)]
        plain, again = _Sums(self, False), _Sums(self, True)
        self._compute([plain.keys(e) for e in expressions] + [again.keys(expressions[i]) for i in unsteady])
        scores = batch_scores(plain, expressions)
        if unsteady:
            other = batch_scores(again, [expressions[i] for i in unsteady])
            places = torch.tensor(unsteady, device=self.device)
            scores[places] = torch.where(decided(scores[places], other), torch.nan, scores[places])
        self._shrink()
        return scores

    def key(self, branch: Branch, disturb: bool) -> Key:
        """What is remembered of a branch; there is no rounding in weights."""
        chain = canonical_chain(branch.statistic, branch.chain, self.operations)
        return (branch.statistic, disturb and branch.statistic != "W"), chain

    def totals(self, key: Key) -> Tensor:
        """[s], the sum of the result of each site, or the scalar itself."""
        return self._held[key]

    def product(self, pair: Pair) -> Tensor:
        """[s], the sum over the elements of each site's product."""
        return self._held[pair]

    def is_scalar(self, chain: Chain) -> bool:
        """Whether a chain leaves one number per site."""
        return any(self.operations[name].scalar for name in chain)

    # Computing -----------------------------------------------------------------------------------------------

    def _compute(self, wanted: Iterable[tuple[Sequence[Key], Pair | None]]) -> None:
        """Compute what is not remembered, with one walk over the sites of each group."""
        work = {group: _Missing() for group in GROUPS}
        for keys, pair in wanted:
            for key in keys:
                if key in self._held:
                    self._held.move_to_end(key)
                else:
                    work[GROUP[key[0][0]]].totals.setdefault(key[0], set()).add(key[1])
            if pair is not None and pair in self._held:
                self._held.move_to_end(pair)
            elif pair is not None:
                work[GROUP[pair[0][0][0]]].pairs.add(pair)
        for group, of in work.items():
            if of.totals or of.pairs:
                with warnings.catch_warnings():
                    warnings.filterwarnings(
                        "ignore", "There is a performance drop"
                    )  # vmap of some operations is a loop
                    self._walk_sites(group, of)

    @torch.no_grad()
    def _walk_sites(self, group: str, work: _Missing) -> None:
        sites = self.sites[group]
        wanted: list[Key | Pair] = [(root, chain) for root, all_ in work.totals.items() for chain in all_]
        wanted += work.pairs
        made = {key: torch.zeros(len(sites.load), dtype=torch.float64, device=self.device) for key in wanted}
        needed = {key for left, right, _ in work.pairs for key in (left, right)}
        for (rows, columns), places in sites.shapes.items():
            count = self._together(rows * columns, len(needed))
            for start in range(0, len(places), count):
                some = places[start : start + count]
                raw = torch.stack([sites.load[place]() for place in some], 1).to(self.device)
                at = torch.tensor(some, device=self.device)
                for key, value in self._piece(GROUPS[group], raw, work, needed):
                    made[key][at] = value
        self.computed += len(made)
        self._held.update(made)

    def _together(self, elements: int, needed: int) -> int:
        """How many sites of so many elements are worked on at once, while so many results are needed at once."""
        size = max(SMALLEST, PIECE.get(self.device.type, PIECE["cpu"]) // (needed + 8))
        return max(1, size // (8 * elements))

    def _piece(
        self, names: Sequence[str], raw: Tensor, work: _Missing, needed: set[Key]
    ) -> Iterator[tuple[Key | Pair, Tensor]]:
        """What each chain and each product adds up to at the sites of one piece, raw [statistics, k, rows, columns]."""
        wide = raw.float() if raw.dtype in (torch.bfloat16, torch.float16) else raw
        kept: dict[Key, Tensor] = {}
        roots = dict.fromkeys([*work.totals, *(root for root, _ in needed)])
        for root in roots:
            name, disturb = root
            matrices = wide[list(names).index(name)]
            if disturb:
                matrices = torch.stack([disturbed(name, matrix) for matrix in matrices])
            totals = work.totals.get(root, set())
            chains = totals | {chain for other, chain in needed if other == root}
            for chain, result in results(chains, matrices, self._apply):
                if chain in totals:
                    yield (
                        (root, chain),
                        result.double() if result.dim() == 1 else result.sum((1, 2), dtype=torch.float64),
                    )
                if (root, chain) in needed:
                    kept[root, chain] = result
        for pair in work.pairs:
            left, right, matmul = pair
            yield pair, (_column_products if matmul else _inner_products)(kept[left], kept[right])

    def _apply(self, name: str, tensors: Tensor) -> Tensor:
        """One operation on each of k matrices, or of k scalars."""
        operation = self.operations[name]
        if len(tensors) > 1 and name not in self._one_by_one:
            version = tensors._version
            try:
                result: Tensor = torch.vmap(operation)(tensors)
            except RuntimeError:  # it decides by the values, or does what torch cannot do to several together
                self._one_by_one.add(name)
            else:
                if tensors._version == version:
                    return result
        return torch.stack([applied(operation, tensor) for tensor in tensors])

    def _shrink(self) -> None:
        held = sum(tensor.nbytes for tensor in self._held.values())
        while held > self.memory and self._held:
            held -= self._held.popitem(last=False)[1].nbytes


class _Sums:
    """The branch sums of a store, or of its disturbed statistics; see `lpzero_hf.expressions.batched.BranchSums`."""

    def __init__(self, store: RawStore, disturb: bool) -> None:
        self.store, self.disturb = store, disturb
        self.n, self.device, self.counts = store.n, store.device, store.counts

    def keys(self, expression: Expression) -> tuple[list[Key], Pair | None]:
        """What has to be computed for one expression."""
        kept = [branch for branch in expression.branches if not branch.dropped]
        if len(kept) == 2 and expression.together and expression.op in ("product", "matmul"):
            scalar = any(self.is_scalar(branch) for branch in kept)
            if not scalar:
                return [], self._pair(kept[0], kept[1], expression.op == "matmul")
        return [self.store.key(branch, self.disturb) for branch in kept], None

    def _pair(self, left: Branch, right: Branch, matmul: bool) -> Pair:
        """In the order of the statistics, so that both orders are one."""
        one, other = (self.store.key(branch, self.disturb) for branch in (left, right))
        swap = EVERY_STATISTIC.index(one[0][0]) > EVERY_STATISTIC.index(other[0][0])
        return (other, one, matmul) if swap else (one, other, matmul)

    def is_scalar(self, branch: Branch) -> bool:
        """Whether the branch leaves one number per site."""
        return self.store.is_scalar(self.store.key(branch, False)[1])

    def block_totals(self, branches: Sequence[Branch]) -> Tensor:
        """[2, k, n, B]."""
        found = torch.zeros(2, len(branches), self.n, self.store.blocks, dtype=torch.float64, device=self.device)
        for group in dict.fromkeys(GROUP[branch.statistic] for branch in branches):
            sites = self.store.sites[group]
            places = [i for i, branch in enumerate(branches) if GROUP[branch.statistic] == group]
            some = [branches[i] for i in places]
            totals = torch.stack([self.store.totals(self.store.key(branch, self.disturb)) for branch in some])
            scalar = torch.tensor([self.is_scalar(branch) for branch in some], device=self.device)[:, None]
            kinds = torch.stack([totals, torch.where(scalar, totals * sites.elements, totals)])
            found[:, torch.tensor(places, device=self.device)] = self.store.per_block(kinds, sites)
        return found

    def met_totals(self, met: Sequence[Met]) -> Tensor:
        """[2, m, n]."""
        found = torch.zeros(2, len(met), self.n, dtype=torch.float64, device=self.device)
        for group in dict.fromkeys(GROUP[left.statistic] for left, _, _ in met):
            sites = self.store.sites[group]
            places = [i for i, (left, _, _) in enumerate(met) if GROUP[left.statistic] == group]
            values, kinds = [], []
            for left, right, matmul in (met[i] for i in places):
                scalar = [self.is_scalar(branch) for branch in (left, right)]
                kinds.append(0 if all(scalar) else 2 if matmul else 1)
                if any(scalar):
                    one, other = (self.store.totals(self.store.key(b, self.disturb)) for b in (left, right))
                    values.append(one * other)
                else:
                    values.append(self.store.product(self._pair(left, right, matmul)))
            products = torch.stack(values)
            over = self.counts[group].flatten(1)[:, sites.block][torch.tensor(kinds, device=self.device)]
            sums = torch.stack([products, products / over])
            folded = sums.new_zeros(2, len(places), self.n).index_add_(-1, sites.model, sums)
            found[:, torch.tensor(places, device=self.device)] = folded
        return found


def _inner_products(x: Tensor, y: Tensor) -> Tensor:
    """[k] in float64, the sums of x * y [k, rows, columns], in the tensors' precision over 2^14 elements at a time."""
    x, y = x.flatten(1), y.flatten(1)
    parts = [
        (x[:, None, i : i + COLUMNS] @ y[:, i : i + COLUMNS, None]).double() for i in range(0, x.shape[1], COLUMNS)
    ]
    return torch.stack(parts).sum(0)[:, 0, 0]


def _column_products(x: Tensor, y: Tensor) -> Tensor:
    """[k] in float64, the sums of all entries of x @ y^T: the inner products of the column sums."""
    return (x.sum(1, dtype=torch.float64) * y.sum(1, dtype=torch.float64)).sum(1)


def sites_of(values: Mapping[str, Sequence[Reduced]]) -> dict[str, list[tuple[int, tuple[int, int], Load]]]:
    """Captured values of one architecture, kept in memory, as `RawStore` takes them."""

    def read(tensor: Tensor) -> Load:
        return lambda: tensor

    return {
        group: [(site.block, (site.value.shape[-2], site.value.shape[-1]), read(site.value)) for site in sites]
        for group, sites in values.items()
    }
