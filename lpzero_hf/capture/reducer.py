"""Passes statistics to the reductions that read them, and keeps the reduced values.

Statistics of a whole minibatch are reduced at once, and freed. Those of micro-batches are kept in the host's memory, by
site, and concatenated with the part of the last micro-batch, so that every reduction gets the tensors of the whole
minibatch; the gradients of weights are summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lpzero_hf.capture.microbatches import Indivisible
from lpzero_hf.capture.spec import Captured, Moment, Reduced, Reduction
from lpzero_hf.capture.workspace import Workspace
from lpzero_hf.errors import CaptureError
from lpzero_hf.models.layout import WeightSite
from lpzero_hf.models.memory import give_back

LARGE = 2**22  # elements of a weight whose reductions leave much freed memory behind
UNEQUAL_PARTS = "'{}' does not run in the same way on every micro-batch"


@dataclass(frozen=True)
class Where:
    """A place in a pass where statistics are read.

    Args:
        places: its kinds of place, see `Reduction`.
        block: index of the block in the layout.
        site: name of the weight, layer or mixer.
        call: how often the layer had run in this block before.
    """

    places: tuple[str, ...]
    block: int
    site: str
    call: int = 0


class Reducer:
    """Reduces the statistics of one minibatch, which runs in one or several parts.

    Args:
        reductions: what to compute.
        parts: number of micro-batches; 1 for a whole minibatch.
        keep_going: whether only the reduction that runs out of memory fails; else the pass is aborted, and may be tried
            again with smaller micro-batches.
    """

    def __init__(self, reductions: Sequence[Reduction], parts: int = 1, keep_going: bool = False) -> None:
        self.reductions = list(dict.fromkeys(reductions))
        self.moments = {r.moment for r in self.reductions}
        self.values: dict[Reduction, list[Reduced]] = {r: [] for r in self.reductions}
        self.failures: dict[Reduction, Exception] = {}
        self.workspace = Workspace()
        self.parts, self.part, self.keep_going = parts, 0, keep_going
        self.seen: set[Where] | None = None  # while a trial pass runs: the sites that it reaches
        self.known: set[Where] = set()  # sites whose tensors have one row per sample of the minibatch
        self.kept: dict[tuple[Moment, Where], list[dict[str, Tensor]]] = {}
        self.sums: dict[int, tuple[WeightSite, Tensor, Tensor]] = {}  # by parameter, with its weight

    @property
    def last(self) -> bool:
        """Whether the running part is the last one."""
        return self.part == self.parts - 1

    # Statistics from a pass ----------------------------------------------------------------------------

    def take(self, moment: Moment, where: Where, tensors: dict[str, Tensor]) -> None:
        """Reduce statistics, or keep them until the last part of the minibatch has run.

        Args:
            moment: when they are read.
            where: the site.
            tensors: by the letters of the statistics; the first dimension is that of samples, except for weights and
                their gradients.

        Raises:
            Indivisible: another micro-batch had no statistics there, or tensors of other shapes.
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
        joined = {name: tensors[name] for name in wanted & {"W"}}  # of all samples
        wanted -= {"W"}
        before = self.kept.setdefault((moment, where), [])
        if len(before) != self.part or any(part.keys() != wanted for part in before):
            raise Indivisible(UNEQUAL_PARTS.format(where.site))
        if not self.last:  # a copy, because the model may overwrite its own
            before.append({name: tensors[name].detach().to("cpu", copy=True) for name in wanted})
            return
        del self.kept[moment, where]
        for name in wanted:
            last = tensors[name].detach()
            if any(part[name].shape[1:] != last.shape[1:] for part in before):
                raise Indivisible(UNEQUAL_PARTS.format(where.site))
            joined[name] = torch.cat([*(part[name].to(last.device) for part in before), last])
        self.reduce(moment, where, joined)

    def take_gradient(self, site: WeightSite, weight: Tensor, gradient: Tensor) -> None:
        """Reduce W with G, or keep the sum of G until the last part has run; `gradient` may be overwritten."""
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
        """Reduce what is left after the last part. Raises `Indivisible` if a site was not reached by the last part."""
        for site, weight, gradient in list(self.sums.values()):  # the last part did not use them
            del self.sums[id(weight)]
            self.take_gradient(site, weight, gradient.to(weight.device))
        if self.kept:
            raise Indivisible(UNEQUAL_PARTS.format(next(iter(self.kept))[1].site))

    # Reducing ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reduce(self, moment: Moment, where: Where, tensors: dict[str, Tensor]) -> None:
        """Pass `tensors` to every reduction that reads them at this place and moment."""
        versions = {name: tensor._version for name, tensor in tensors.items()}
        known: dict[object, Tensor] = {}  # a site may lie in several places; a function that reads it runs once
        wide: dict[str, Tensor] = {}
        self.workspace.next_site()
        for reduction in self.reductions:
            ready = reduction.moment == moment and reduction.place in where.places
            if not ready or not tensors.keys() >= set(reduction.reads) or reduction in self.failures:
                continue
            try:
                same = (reduction.function, reduction.reads)
                if same not in known:
                    wide |= {name: widened(tensors[name]) for name in reduction.reads if name not in wide}
                    with self.workspace.lent():
                        value = reduction.function(*(wide[name] for name in reduction.reads))
                    known[same] = torch.as_tensor(value).detach()
                self.values[reduction].append(Reduced(where.block, where.site, known[same]))
                for name, tensor in tensors.items():
                    if tensor._version != versions[name]:
                        raise CaptureError(f"the reduction writes into {name}, which belongs to the model")
                for name in reduction.reads:
                    if wide[name] is not tensors[name] and wide[name]._version:
                        del wide[name]  # which other reductions read
                        raise CaptureError(f"the reduction writes into {name}; compute with a copy")
            except Exception as error:  # an error in one proxy is reported in its row; the others go on
                if isinstance(error, torch.OutOfMemoryError) and not self.keep_going:
                    raise
                self.failures[reduction] = error
        self.workspace.next_site()

    def fail(self, error: Exception, moments: Sequence[Moment]) -> None:
        """The pass was aborted: fail the reductions of these moments; those that failed before keep their error."""
        for reduction in self.reductions:
            if reduction.moment in moments:
                self.failures.setdefault(reduction, error)

    def result(self) -> Captured:
        """All reduced values, in the order of the blocks; the memory that the functions used is freed."""
        self.workspace.clear()
        ordered = {r: sorted(v, key=lambda reduced: reduced.block) for r, v in self.values.items()}
        return Captured(ordered, self.failures)


def widened(tensor: Tensor) -> Tensor:
    """`tensor` in at least single precision, because sums in bf16 and fp16 are too coarse."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
