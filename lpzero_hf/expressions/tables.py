"""Branch tables: sums of one model's statistics under many chains of operations, kept instead of the tensors.

Every expression's score can be computed from small tables: the sum of a sum or a difference is the sum or difference
of the branches' sums; the sums of all elementwise products of two sets of branches at a site are one Gram matrix; the
sum of X @ Y^T is the inner product of the column sums of X and Y.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast

from lpzero_hf.capture.spec import Captured, Place, Reduced, Reduction, Statistic
from lpzero_hf.capture.workspace import buffer
from lpzero_hf.errors import CaptureError
from lpzero_hf.expressions.expression import (
    BUILT_IN,
    EVERY_STATISTIC,
    SHAPES,
    STATISTIC_NAMES,
    Chain,
    Operations,
    letter,
    role,
)
from lpzero_hf.expressions.operations import applied
from lpzero_hf.models.later import torch

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple[str, str]

GROUP: dict[str, str] = SHAPES  # statistics of one group are read at the same sites, and their matrices have one shape
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(name for name in EVERY_STATISTIC if GROUP[name] == group) for group in dict.fromkeys(GROUP.values())
}
COLUMNS = 2**14  # elements of one block of a Gram matrix, summed in the tensors' own precision


def pairs_among(statistics: Iterable[str]) -> tuple[Pair, ...]:
    """The pairs of distinct statistics that meet in matrices: W with G, A with J, W_ffn with G_ffn, and so on."""
    there = [name for name in EVERY_STATISTIC if name in set(statistics)]
    return tuple(pair for pair in combinations(there, 2) if GROUP[pair[0]] == GROUP[pair[1]])


PAIRS: tuple[Pair, ...] = pairs_among(STATISTIC_NAMES)


def _as_it_is(matrix: Tensor) -> Tensor:
    return matrix


def _real_rows(tensor: Tensor, mask: Tensor) -> Tensor:
    """[B, T, d] to [real tokens, d]."""
    return tensor[mask.bool()]


def _heads_as_rows(tensor: Tensor, mask: Tensor) -> Tensor:
    """[B, h, T, d] to [real tokens x heads, d]; [B, T, d] to [real tokens, d]."""
    if tensor.dim() == 3:
        return tensor[mask.bool()]
    return tensor.movedim(1, 2)[mask.bool()].flatten(0, 1)


View = Callable[..., "Tensor"]  # of a statistic, and the mask where it reads that, as a matrix [rows, columns]
_READ: dict[str, tuple[Place, tuple[Statistic, ...], View]] = {  # where, what is read beside it, and the view
    "W": ("linear", (), _as_it_is),
    "G": ("linear", (), _as_it_is),
    "A": ("linear", ("mask",), _real_rows),
    "J": ("linear", ("mask",), _real_rows),
    "H": ("mixer", ("mask",), _heads_as_rows),
    "S": ("mixer", ("mask",), _heads_as_rows),
}


def read_as(group: str) -> tuple[Place, tuple[Statistic, ...], View]:
    """Where the statistics of a group are read, what is read beside them, and how each becomes a matrix."""
    name = GROUPS[group][0]
    place, more, view = _READ[letter(name)]
    return (cast("Place", f"{role(name)}_linear") if role(name) else place), more, view


@dataclass(frozen=True)
class Wanted:
    """The required content of tables.

    Args:
        chains: canonical chains by statistic; statistics in the order W, G, A, J, H, S, then those by role.
        pairs: pairs of statistics of one shape whose products are needed, including a statistic with itself.
        operations: by name.
        disturb: applied to every statistic and its matrix first; see `lpzero_hf.expressions.rounding`.
    """

    chains: Mapping[str, tuple[Chain, ...]]
    pairs: tuple[Pair, ...] = ()
    operations: Operations = field(default_factory=lambda: BUILT_IN)
    disturb: Callable[[str, Tensor], Tensor] | None = None

    def scalar(self, chain: Chain) -> bool:
        """Whether `chain` leaves one number per site."""
        return any(self.operations[name].scalar for name in chain)

    @cached_property
    def matrices(self) -> dict[str, list[int]]:
        """The places of the chains that leave a matrix, by statistic."""
        return {s: [i for i, chain in enumerate(all_) if not self.scalar(chain)] for s, all_ in self.chains.items()}

    @cached_property
    def reductions(self) -> dict[str, Reduction]:
        """What to capture, by group of statistics.

        Groups that want the same of the same letters (in a search by role, those of all linear layers, of the
        feed-forward layers and of the mixers) share one function: `Reducer.reduce` calls it once at a site.
        """
        found: dict[str, Reduction] = {}
        functions: dict[object, Callable[..., Tensor]] = {}
        for group, all_ in GROUPS.items():
            names = [name for name in all_ if name in self.chains]
            if not names:
                continue
            letters = cast("list[Statistic]", [letter(name) for name in names])
            place, more, view = read_as(group)
            pairs = [(names.index(x), names.index(y)) for x, y in self._pairs_of(names)]
            same = (*letters, *(self.chains[name] for name in names), *pairs)
            function = functions.setdefault(same, self._function(names, view))
            found[group] = Reduction(place, (*letters, *more), function)
        return found

    def _function(self, names: Sequence[str], view: View) -> Callable[..., Tensor]:
        def function(*tensors: Tensor) -> Tensor:
            mask = tensors[len(names) :]
            matrices = {name: view(tensor, *mask) for name, tensor in zip(names, tensors, strict=False)}
            if self.disturb is not None:
                matrices = {name: self.disturb(name, matrix) for name, matrix in matrices.items()}
            with torch.no_grad():
                return self.site_sums(matrices)

        return function

    def _pairs_of(self, names: Iterable[str]) -> list[Pair]:
        return [pair for pair in self.pairs if set(pair) <= set(names)]

    def site_sums(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Apply every chain to the matrices of one site, and sum.

        Args:
            tensors: [rows, columns] by statistic, all of one shape.

        Returns:
            One vector in float64: rows; columns; per statistic, the total of every chain (the sum of a matrix, or the
            scalar itself); per pair, the sums of x * y of all chains [left, right], then the sums of x @ y^T of those
            that leave matrices [left, right]. Functions run in the precision of the tensors, and a Gram matrix is
            summed in it over blocks of 2^14 elements.
        """
        rows, columns = next(iter(tensors.values())).shape
        pairs = self._pairs_of(tensors)
        paired = {name for pair in pairs for name in pair}
        totals, stacks, column_sums = {}, {}, {}
        for name, matrix in tensors.items():
            place = {self.chains[name][i]: k for k, i in enumerate(self.matrices[name])}
            stack = buffer(name, matrix, len(place) if name in paired else 0, rows * columns)
            sums = torch.zeros(len(place), columns, dtype=torch.float64, device=matrix.device)
            scalars: dict[Chain, Tensor] = {}
            for chain, result in results(self.chains[name], matrix, self._applied):
                if result.dim() == 0:
                    scalars[chain] = result.double()
                else:
                    sums[place[chain]] = result.sum(0, dtype=torch.float64)
                    if name in paired:
                        stack[place[chain]] = result.reshape(-1)
            whole = sums.sum(1)
            totals[name] = torch.stack([scalars[c] if c in scalars else whole[place[c]] for c in self.chains[name]])
            stacks[name], column_sums[name] = stack, sums
        parts = [torch.tensor([rows, columns], dtype=torch.float64, device=whole.device), *totals.values()]
        for x, y in pairs:
            products = torch.outer(totals[x], totals[y])  # correct where either is a scalar
            i, j = (torch.tensor(self.matrices[name], dtype=torch.long) for name in (x, y))
            products[i[:, None], j] = gram(stacks[x], stacks[y])
            parts += [products.reshape(-1), (column_sums[x] @ column_sums[y].T).reshape(-1)]
        return torch.cat(parts)

    def _applied(self, name: str, tensor: Tensor) -> Tensor:
        return applied(self.operations[name], tensor)


def results(
    chains: Collection[Chain], tensor: Tensor, apply: Callable[[str, Tensor], Tensor]
) -> Iterator[tuple[Chain, Tensor]]:
    """The result of every chain on a tensor; chains with the same beginning share its computation.

    Args:
        chains: of operations.
        tensor: what they begin with.
        apply: an operation by its name.
    """
    leaves = set(chains)
    tree: dict[str, Any] = {}
    for chain in leaves:
        node = tree
        for name in chain:
            node = node.setdefault(name, {})

    def walk(node: dict[str, Any], chain: Chain, tensor: Tensor) -> Iterator[tuple[Chain, Tensor]]:
        if chain in leaves:
            yield chain, tensor
        for name, below in node.items():
            yield from walk(below, (*chain, name), apply(name, tensor))

    return walk(tree, (), tensor)


def gram(x: Tensor, y: Tensor) -> Tensor:
    """[k, l] in float64, the inner products of the rows of x [k, n] and y [l, n], summed in blocks of 2^14 columns."""
    total = torch.zeros(len(x), len(y), dtype=torch.float64, device=x.device)
    for start in range(0, x.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        total += x[:, part] @ y[:, part].T
    return total


@dataclass(frozen=True)
class Table:
    """The table of one model.

    B is the number of its blocks, K the number of chains of a statistic, M those that leave matrices.

    Args:
        chains: by statistic.
        counts: by group (weight, output, head, softmax, weight_ffn, ...), [3, B]: the sites of each block, the
            elements of their matrices, and the elements of the matrices' products x @ y^T.
        totals: by statistic, [2, B, K]: the sums over the sites of each block of the totals of every chain; and the
            same with a scalar counted once for every element of its site, as in an operation with a matrix.
        products: by pair, [2, K, K]: sums of x * y over all sites; and over blocks of their means over the elements.
        matmuls: by pair, [2, M, M]: the same of x @ y^T.
        notes: what of the model the statistics leave out, see `Captured.notes`.
    """

    chains: Mapping[str, tuple[Chain, ...]]
    counts: dict[str, Tensor]
    totals: dict[str, Tensor]
    products: dict[Pair, Tensor]
    matmuls: dict[Pair, Tensor]
    notes: tuple[str, ...] = ()


def tabulate(wanted: Wanted, captured: Captured) -> Table:
    """The table from the values that `wanted.reductions` captured in one pass.

    Raises:
        CaptureError: the pass failed. A statistic that the model lacks is no error; it is missing from the table.
    """
    sites: dict[str, list[Reduced]] = {}
    for group, reduction in wanted.reductions.items():
        if reduction in captured.failures:
            raise captured.failures[reduction]
        sites[group] = captured.values[reduction]
    notes = [captured.notes[r] for r in wanted.reductions.values() if r in captured.notes]
    return replace(gather(wanted, sites), notes=tuple(dict.fromkeys(notes)))


def gather(wanted: Wanted, sites: Mapping[str, Sequence[Reduced]]) -> Table:
    """The table of one model, from the sums of each site by group."""
    blocks = 1 + max((site.block for found in sites.values() for site in found), default=-1)
    if not blocks:
        raise CaptureError("the model has none of the statistics that the expressions read; use other expressions")
    table = Table(wanted.chains, {}, {}, {}, {})
    for group, found in sites.items():
        if found:
            _gather_group(table, wanted, group, found, blocks)
    return table


def _gather_group(table: Table, wanted: Wanted, group: str, found: Sequence[Reduced], blocks: int) -> None:
    names = [name for name in GROUPS[group] if name in wanted.chains]
    sums = torch.stack([site.value for site in found]).cpu()
    block = torch.tensor([site.block for site in found])

    def per_block(values: Tensor) -> Tensor:
        return torch.zeros(blocks, *values.shape[1:], dtype=torch.float64).index_add_(0, block, values)

    rows, elements = sums[:, 0], sums[:, 0] * sums[:, 1]
    kinds = [torch.ones(len(found), dtype=torch.float64), elements, rows.square()]  # of sites: scalar, x * y, x @ y^T
    table.counts[group] = torch.stack([per_block(kind) for kind in kinds])
    at = 2
    scalar: dict[str, Tensor] = {}
    for name in names:
        chains = wanted.chains[name]
        totals = sums[:, at : at + len(chains)]
        at += len(chains)
        scalar[name] = torch.tensor([wanted.scalar(chain) for chain in chains])
        broadcast = torch.where(scalar[name], totals * elements[:, None], totals)
        table.totals[name] = torch.stack([per_block(totals), per_block(broadcast)])
    _, elements_of, squares_of = table.counts[group][:, block]
    for x, y in wanted._pairs_of(names):
        size = len(wanted.chains[x]), len(wanted.chains[y])
        products = sums[:, at : at + size[0] * size[1]]
        at += size[0] * size[1]
        both = (scalar[x][:, None] & scalar[y]).reshape(-1)
        sites_of = table.counts[group][0][block]
        over = torch.where(both, sites_of[:, None], elements_of[:, None])
        table.products[x, y] = torch.stack([products.sum(0), (products / over).sum(0)]).reshape(2, *size)
        size = len(wanted.matrices[x]), len(wanted.matrices[y])
        matmuls = sums[:, at : at + size[0] * size[1]]
        at += size[0] * size[1]
        table.matmuls[x, y] = torch.stack([matmuls.sum(0), (matmuls / squares_of[:, None]).sum(0)]).reshape(2, *size)


def pair_of(left: str, right: str) -> Pair:
    """The pair of two statistics in the order in which tables keep them."""
    return (left, right) if EVERY_STATISTIC.index(left) <= EVERY_STATISTIC.index(right) else (right, left)
