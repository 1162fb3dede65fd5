"""Hands statistics to the reductions that read them, and keeps what they return.

Statistics of a whole minibatch are reduced when they come, and freed. Those of micro-batches are kept in the host's
memory, by site, and joined when the last micro-batch brings its part, so that every reduction sees the tensors of the
whole minibatch; the gradients of weights are summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lpzero_hf.capture.microbatches import Indivisible
from lpzero_hf.capture.spec import Captured, Moment, Reduced, Reduction
from lpzero_hf.errors import CaptureError
from lpzero_hf.models.layout import WeightSite
from lpzero_hf.models.memory import give_back

LARGE = 2**22  # numbers in a weight whose reductions leave much freed memory behind
TORN = "'{}' does not run alike on every micro-batch"


@dataclass(frozen=True)
class Where:
    """A place in a pass where statistics are read.

    Args:
        places: the kinds of place that it is, see `Reduction`.
        block: the how-manieth to run.
        site: name of the weight, layer or mixer.
        call: how often the layer had run in this block before.
    """

    places: tuple[str, ...]
    block: int
    site: str
    call: int = 0


class Reducer:
    """What the reductions make of the statistics of one minibatch, which comes in one or several parts.

    Args:
        reductions: what to compute.
        parts: how many micro-batches there are; 1 for a whole minibatch.
        patient: whether to fail the reduction that runs out of memory; else the pass breaks off, and may be tried
            again with less.
    """

    def __init__(self, reductions: Sequence[Reduction], parts: int = 1, patient: bool = False) -> None:
        self.reductions = list(dict.fromkeys(reductions))
        self.moments = {r.moment for r in self.reductions}
        self.values: dict[Reduction, list[Reduced]] = {r: [] for r in self.reductions}
        self.failures: dict[Reduction, Exception] = {}
        self.parts, self.part, self.patient = parts, 0, patient
        self.seen: set[Where] | None = None  # while a trial runs: what it shows
        self.known: set[Where] = set()  # where the rows of a tensor are those of the minibatch
        self.kept: dict[tuple[Moment, Where], list[dict[str, Tensor]]] = {}
        self.sums: dict[int, tuple[WeightSite, Tensor, Tensor]] = {}  # by parameter, with its weight

    @property
    def last(self) -> bool:
        """Whether the part that runs is the last one."""
        return self.part == self.parts - 1

    # What a pass brings --------------------------------------------------------------------------------

    def take(self, moment: Moment, where: Where, tensors: dict[str, Tensor]) -> None:
        """Reduce statistics, or keep them until the last part of the minibatch has come.

        Args:
            moment: when they are read.
            where: the site.
            tensors: by the letters of the statistics; the first dimension of all is that of samples, except of weights
                and their gradients.

        Raises:
            Indivisible: another micro-batch showed nothing there, or tensors of other shapes.
        """
        if self.seen is not None:
            self.seen.add(where)
        elif self.parts == 1:
            self.reduce(moment, where, tensors)
        elif where in self.known:
            self._join(moment, where, tensors)

    def _join(self, moment: Moment, where: Where, tensors: dict[str, Tensor]) -> None:
        reads: list[set[str]] = [
            set(r.reads) for r in self.reductions if r.moment == moment and r.place in where.places
        ]
        wanted = set().union(*(names for names in reads if names <= tensors.keys()))
        if not wanted:
            return
        before = self.kept.setdefault((moment, where), [])
        if len(before) != self.part or any(part.keys() != wanted for part in before):
            raise Indivisible(TORN.format(where.site))
        if not self.last:  # a copy, for the model may overwrite its own
            before.append({name: tensors[name].detach().to("cpu", copy=True) for name in wanted})
            return
        del self.kept[moment, where]
        joined: dict[str, Tensor] = {}
        for name in wanted:
            mine = tensors[name].detach()
            if any(part[name].shape[1:] != mine.shape[1:] for part in before):
                raise Indivisible(TORN.format(where.site))
            joined[name] = torch.cat([*(part[name].to(mine.device) for part in before), mine])
        self.reduce(moment, where, joined)

    def take_gradient(self, site: WeightSite, weight: Tensor, gradient: Tensor) -> None:
        """Reduce W with G, or keep the sum of G until the last part has come; `gradient` is this function's to keep."""
        if self.parts > 1:
            if id(weight) in self.sums:
                gradient = gradient.add_(self.sums.pop(id(weight))[2].to(gradient.device))
            if not self.last:
                self.sums[id(weight)] = site, weight, gradient.cpu()
                return
        matrices = site.matrices(weight.detach()), site.matrices(gradient)
        for name, W, G in zip(site.names, *matrices, strict=True):
            self.reduce("gradient", Where(("linear", f"{site.part}_linear"), site.block, name), {"W": W, "G": G})
        if weight.numel() >= LARGE and weight.device.type == "cpu":
            give_back()

    def complete(self) -> None:
        """What is left when the last part has run. Raises `Indivisible` if some site missed it."""
        for site, weight, gradient in list(self.sums.values()):  # the last part did not use them
            del self.sums[id(weight)]
            self.take_gradient(site, weight, gradient.to(weight.device))
        if self.kept:
            raise Indivisible(TORN.format(next(iter(self.kept))[1].site))

    # Reducing ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reduce(self, moment: Moment, where: Where, tensors: dict[str, Tensor]) -> None:
        """Hand `tensors` to every reduction that reads them there and then."""
        versions = {name: tensor._version for name, tensor in tensors.items()}
        known: dict[object, Tensor] = {}  # a site may lie in several places; a function that reads it runs once
        for reduction in self.reductions:
            ready = reduction.moment == moment and reduction.place in where.places
            if not ready or not tensors.keys() >= set(reduction.reads) or reduction in self.failures:
                continue
            try:
                same = (reduction.function, reduction.reads)
                if same not in known:
                    value = reduction.function(*(widened(tensors[name]) for name in reduction.reads))
                    known[same] = torch.as_tensor(value).detach()
                self.values[reduction].append(Reduced(where.block, where.site, known[same]))
                for name, tensor in tensors.items():
                    if tensor._version != versions[name]:
                        raise CaptureError(f"the reduction writes into {name}, which belongs to the model")
            except Exception as error:  # a proxy's own fault: reported in its row, the others go on
                if isinstance(error, torch.OutOfMemoryError) and not self.patient:
                    raise
                self.failures[reduction] = error

    def fail(self, error: Exception, moments: Sequence[Moment]) -> None:
        """The pass broke off, so the reductions of these moments have no values; those that failed before keep why."""
        for reduction in self.reductions:
            if reduction.moment in moments:
                self.failures.setdefault(reduction, error)

    def result(self) -> Captured:
        """Everything reduced, in the order of the blocks."""
        ordered = {r: sorted(v, key=lambda reduced: reduced.block) for r, v in self.values.items()}
        return Captured(ordered, self.failures)


def widened(tensor: Tensor) -> Tensor:
    """`tensor` in at least single precision, so that sums do not lose what bf16 and fp16 would lose."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
