"""Estimates, from shapes alone, the memory that scoring a model will need, and suggests settings that would fit.

One forward pass without values shows which tensors autograd will keep. The rest is counted: weights, the gradient and
the workspace of one layer, the copies that some proxies make. The estimate should be within a factor of 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from lpzero_hf.capture.spec import Network
from lpzero_hf.errors import InvalidScore, LpzError, NotApplicable
from lpzero_hf.models.isolation import isolated
from lpzero_hf.models.lazy import source_of
from lpzero_hf.models.memory import available_bytes, resident_bytes
from lpzero_hf.models.meta_device import ShapesOnly
from lpzero_hf.models.minibatch import NoMinibatch
from lpzero_hf.models.objective import with_labels
from lpzero_hf.proxies.base import FunctionProxy, ModelProxy, Proxy, StatisticProxy, Subject, single
from lpzero_hf.scoring.kept_tensors import guessed_tensors, kept_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lpzero_hf.models.layout import ModelLayout

GIB = 2**30
HALF, CHECKPOINTING = "`dtype=bfloat16`", "`checkpointing=True`"
ALONE, SMALLEST = "`micro_batch=1`", "`batch_size=1`"
WORDS = {
    HALF: "bfloat16", CHECKPOINTING: "checkpointing", ALONE: "one sequence at a time",
    SMALLEST: "a minibatch of one sequence",
}  # fmt: skip


class DoesNotFit(LpzError):
    """Scoring would need more memory than is free; the message names settings that would fit."""


@dataclass(frozen=True)
class Footprint:
    """The sizes of a model, its minibatch and its activations.

    Args:
        parameters: elements of all weights, shared ones once.
        largest: elements of the largest weight.
        itemsize: bytes of an element.
        sequences: of the minibatch.
        outside: bytes that a pass keeps for the backward pass outside the blocks.
        inputs: bytes of the inputs of all blocks.
        blocks: bytes that it keeps in all blocks.
        block: bytes that it keeps in the largest block.
        tensor: bytes of the largest tensor that it keeps.
        length: tokens of a sequence.
    """

    parameters: int
    largest: int
    itemsize: int
    sequences: int
    outside: int = 0
    inputs: int = 0
    blocks: int = 0
    block: int = 0
    tensor: int = 0
    length: int = 0


@dataclass(frozen=True)
class Need:
    """Bytes that one pass needs beside the weights.

    Args:
        name: of the pass or proxy.
        copies: other tensors as large as the weights.
        gradients: the largest gradient that exists at a time, and the workspace of the reductions that read it.
        activations: the tensors kept for the backward pass, and the largest temporary ones.
    """

    name: str
    copies: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        """All together."""
        return self.copies + self.gradients + self.activations


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory that scoring needs, before it starts.

    Args:
        requires: "shapes" (no weight is made), "weights" (one at a time), or the whole "model".
        footprint: what it is estimated from.
        weights: bytes of the weights that are in memory together.
        passes: the passes that run, one after the other.
        device: on which they run.
        resident: bytes that this process already uses.
        available: bytes that are free on the device (RAM for the CPU); None where that is unknown.
        proxies: those that are scored.
        checkpointing: whether blocks keep only their inputs.
        micro_batch: number of sequences that run at a time, None for all.
        fallback: why the whole model is built where the proxies would need less, or "".
        shared_itemsize: bytes of an element in the shared passes, if not as in the weights.
    """

    requires: str
    footprint: Footprint
    weights: int
    passes: tuple[Need, ...]
    device: str
    resident: int
    available: int | None
    proxies: tuple[Proxy, ...]
    checkpointing: bool
    micro_batch: int | None = None
    fallback: str = ""
    shared_itemsize: int | None = None

    @property
    def precision(self) -> int:
        """Bytes of an element in the shared passes."""
        return self.shared_itemsize or self.footprint.itemsize

    @property
    def bytes(self) -> int:
        """The bytes needed beyond those that the process already uses."""
        return self.weights + max((need.total for need in self.passes), default=0)

    @property
    def fits(self) -> bool:
        """Whether it fits into the free memory; true where that is unknown."""
        return self.available is None or self.bytes <= self.available

    def having(self, checkpointing: bool, micro_batch: int | None) -> MemoryEstimate:
        """The same with other ways of running the shared passes."""
        if self.requires != "model":
            return replace(self, checkpointing=checkpointing, micro_batch=micro_batch)
        f, on_host = self.footprint, self.device == "cpu"
        passes = _needs(f, self.proxies, self.precision, checkpointing, f.sequences, micro_batch, on_host, f.itemsize)
        return replace(self, passes=passes, checkpointing=checkpointing, micro_batch=micro_batch)

    def of(self, proxies: Sequence[Proxy]) -> MemoryEstimate:
        """That of some of the proxies."""
        return replace(self, proxies=tuple(proxies)).having(self.checkpointing, self.micro_batch)

    def need(self, proxies: Sequence[Proxy]) -> int:
        """The bytes that these proxies need with the weights, if they are scored without the others."""
        f, precision, on_host = self.footprint, self.precision, self.device == "cpu"
        needs = _needs(
            f, proxies, precision, self.checkpointing, f.sequences, self.micro_batch, on_host, f.itemsize
        )  # fmt: skip
        return self.weights + max((need.total for need in needs), default=0)

    def fitting(self) -> tuple[Proxy, ...]:
        """The proxies that fit without the others; those that share a pass need no more together than the dearest."""
        free = self.available
        if free is None:
            return self.proxies
        return tuple(p for p in self.proxies if not self._in_memory(p) or self.need([p]) <= free)

    def _in_memory(self, proxy: Proxy) -> bool:
        """Whether the proxy needs the whole model, or may be the one that makes it needed."""
        reads = proxy.requires == "weights" or (isinstance(proxy, ModelProxy) and proxy.needs != "none")
        return proxy.requires == "model" or bool(self.fallback and reads)

    def describe(self) -> str:
        """One line for people."""
        parts = f"{self.bytes / GIB:.1f} GiB of {self.memory}"
        if self.fallback:
            parts = f"{parts} ({self.fallback}, so that the whole model is built)"
        largest = max(self.passes, key=lambda need: need.total, default=None)
        if self.requires != "model" or largest is None:
            what = "one weight at a time" if self.requires == "weights" else "no weights"
            return f"about {parts} ({what})"
        return (
            f"about {parts}: weights {self.weights / GIB:.1f}, and most in the pass of {largest.name}: copies "
            f"{largest.copies / GIB:.1f}, gradients {largest.gradients / GIB:.1f}, activations "
            f"{largest.activations / GIB:.1f}"
        )

    @property
    def memory(self) -> str:
        """The kind of memory."""
        return "RAM" if self.device == "cpu" else f"memory of {self.device}"

    def check(self) -> None:
        """Raise `DoesNotFit` if it does not fit."""
        if self.fits:
            return
        assert self.available is not None
        raise DoesNotFit(
            f"this needs {self.describe()}; {self.available / GIB:.1f} GiB are free. {self.remedy()}, "
            "or `force=True` to try anyway"
        )

    def remedy(self) -> str:
        """The first of several arguments, those with the least side effects first, that would make it fit."""
        if self.requires == "model" and (arguments := self.arguments(self.proxies)):
            return f"It would fit with {' '.join(arguments)}"
        return "On this model, use only proxies that need nothing but shapes or weights (params, flops, l2_norm)"

    def arguments(self, proxies: Sequence[Proxy]) -> tuple[str, ...]:
        """The first of several arguments with which these proxies would fit; none if none is enough."""
        assert self.available is not None
        size, half, all_ = self.precision, min(self.precision, 2), self.footprint.sequences
        ways = [
            ((CHECKPOINTING,), size, True, all_, self.micro_batch),
            ((HALF,), half, self.checkpointing, all_, self.micro_batch),
            ((ALONE,), size, self.checkpointing, all_, 1),
            ((SMALLEST,), size, self.checkpointing, min(all_, 1), None),
            ((HALF, CHECKPOINTING), half, True, all_, self.micro_batch),
            ((HALF, CHECKPOINTING, ALONE), half, True, all_, 1),
            ((HALF, CHECKPOINTING, SMALLEST), half, True, min(all_, 1), None),
        ]
        for arguments, itemsize, checkpointing, sequences, micro_batch in ways:
            needs = _needs(
                self.footprint, proxies, itemsize, checkpointing, sequences, micro_batch, self.device == "cpu"
            )
            weights = self.weights * itemsize // self.footprint.itemsize
            if weights + max((need.total for need in needs), default=0) <= self.available:
                return arguments
        return ()

    def why_not(self, proxy: Proxy) -> str:
        """Why a proxy does not fit, and with what it would, for people who call from Python or the command line."""
        assert self.available is not None
        free = f"{self.available / GIB:.1f} are free"
        words = " and ".join(WORDS[argument] for argument in self.arguments([proxy]))
        would = f"; it would fit with {words}" if words else ""
        return f"it needs about {self.need([proxy]) / GIB:.1f} GiB of {self.memory}, and {free}{would}"

    def to_dict(self) -> dict[str, Any]:
        """The estimate as plain data for JSON."""
        return {
            "requires": self.requires,
            "bytes": self.bytes,
            "weights": self.weights,
            "passes": [asdict(need) | {"total": need.total} for need in self.passes],
            "device": self.device,
            "resident": self.resident,
            "available": self.available,
            "fits": self.fits,
            "checkpointing": self.checkpointing,
            "micro_batch": self.micro_batch,
            "fallback": self.fallback,
        }


def estimate_memory(
    model: PreTrainedModel,
    batch: Mapping[str, Any] | None,
    proxies: Sequence[Proxy],
    layout: ModelLayout,
    *,
    checkpointing: bool = False,
    micro_batch: int | None = None,
    device: str | torch.device = "cpu",
    rough: bool = False,
) -> MemoryEstimate:
    """The memory that `score(model, batch, proxies)` will need; only shapes are computed.

    A proxy of shapes is tried without values: if the model reads values (a router of experts), it has to be built.

    Args:
        model: a lazy model, see `load_model`; an ordinary one is estimated as if it had to be built.
        batch: `input_ids` [B, T] and the model's other inputs; None if no proxy uses it.
        proxies: those that are scored.
        layout: of `model`.
        checkpointing: as for `score`.
        micro_batch: as for `score`.
        device: where it will run.
        rough: guess the activations from the linear layers, which takes no pass, but may be wrong by a factor of 4.
    """
    batch = {"input_ids": torch.empty(0, 0, dtype=torch.long)} if batch is None else batch
    proxies = single(proxies)
    kinds = {proxy.requires for proxy in proxies}
    fallback = "" if "model" in kinds else _fallback(model, batch, proxies, layout)
    requires = "model" if fallback else max(kinds, key=("shapes", "weights", "model").index, default="shapes")
    sizes = {id(p): p for p in model.parameters()}.values()
    itemsize = max((p.element_size() for p in sizes), default=4)
    footprint = Footprint(
        parameters=sum(p.numel() for p in sizes),
        largest=max((p.numel() for p in sizes), default=0),
        itemsize=itemsize,
        sequences=len(batch["input_ids"]),
        length=batch["input_ids"].shape[-1],
    )
    if requires == "model":
        shapes = all(p.device.type == "meta" for p in sizes)  # of weights in memory, a trial would compute values
        kept = kept_tensors(model, batch, layout) if shapes and not rough else None
        footprint = Footprint(**(asdict(footprint) | (kept or guessed_tensors(batch, layout, itemsize))))
        weights = sum(p.numel() * p.element_size() for p in sizes)
        on_host = torch.device(device).type == "cpu"
        passes = _needs(footprint, proxies, itemsize, checkpointing, footprint.sequences, micro_batch, on_host)
    else:
        weights, passes = 0, ()
        if requires == "weights":  # the weight, as it is drawn or read and as it is reduced
            weights = footprint.largest * (itemsize + max(itemsize, 4))
    where = torch.device(device)
    return MemoryEstimate(
        requires, footprint, weights, passes, str(where) if where.type == "cuda" else "cpu", resident_bytes(),
        available_bytes(where), tuple(proxies), checkpointing, micro_batch, fallback,
    )  # fmt: skip


def _fallback(model: PreTrainedModel, batch: Mapping[str, Any], proxies: Sequence[Proxy], layout: ModelLayout) -> str:
    """Why a lazy model has to be built for proxies of shapes and weights; "" if that is not needed."""
    source, name = source_of(model), type(model).__name__
    if source is None:
        return ""
    if any(proxy.requires == "weights" for proxy in proxies) and source.read is None:
        return f"the weights of {name} cannot be made or read one at a time"
    for proxy in proxies:
        if isinstance(proxy, ModelProxy) and proxy.requires == "shapes":
            try:
                with ShapesOnly(), isolated(model):
                    fed = with_labels(model, dict(batch), 42) if proxy.uses_minibatch else NoMinibatch()
                    proxy.evaluate(Subject(model, fed, layout, 42))
            except (NotApplicable, InvalidScore):
                continue
            except Exception:  # as `score` finds out
                return f"'{proxy.name}' needs more than shapes, because the control flow of {name} depends on values"
    return ""


def _needs(
    footprint: Footprint,
    proxies: Sequence[Proxy],
    itemsize: int,
    checkpointing: bool,
    sequences: int,
    micro_batch: int | None = None,
    on_host: bool = True,
    own_itemsize: int | None = None,
) -> tuple[Need, ...]:
    """What each pass needs, with settings that may differ from those of `footprint`; passes of a proxy's own run in the
    precision of the weights, which may be another than that of the shared ones."""
    at_once = min(micro_batch or sequences, sequences)
    scale = itemsize / footprint.itemsize * sequences / max(footprint.sequences, 1)
    whole = footprint.outside + footprint.blocks
    kept = footprint.outside + footprint.inputs + footprint.block if checkpointing else whole
    passing, wide = 2 * footprint.tensor, max(itemsize, 4)
    workspace = footprint.largest * (itemsize + 3 * wide)
    networks: dict[Network, list[StatisticProxy]] = {}
    for proxy in proxies:
        if isinstance(proxy, StatisticProxy):
            networks.setdefault(proxy.network, []).append(proxy)
    needs = []
    for network, members in networks.items():
        gradients = any(r.moment in ("gradient", "backward") for proxy in members for r in proxy.reductions)
        part = scale * at_once / max(sequences, 1) if network.substitute is None else scale
        copies, activations = 0, int(part * ((kept if gradients else footprint.block) + passing))
        if part < scale and on_host:  # tensors of micro-batches are kept in RAM
            copies = footprint.parameters * wide if gradients else 0
            read = any(r.moment in ("forward", "backward") for proxy in members for r in proxy.reductions)
            activations += int(scale * footprint.blocks) if read else 0
        if network.substitute is not None:
            size = network.substitute(torch.ones(1)).element_size()
            copies = footprint.parameters * size
            activations = int((whole + passing) * size / footprint.itemsize / max(footprint.sequences, 1))
        needs.append(Need(network.name, copies, workspace if gradients else 0, activations))
    if own_itemsize is not None:
        itemsize, scale, wide = own_itemsize, scale * own_itemsize / itemsize, max(own_itemsize, 4)
        workspace = footprint.largest * (itemsize + 3 * wide)
    for proxy in proxies:
        if isinstance(proxy, ModelProxy) and (proxy.requires == "model" or (not networks and proxy.needs != "none")):
            copies = int(proxy.holds * footprint.parameters * wide)
            whole_sequences = max(1, proxy.together // max(footprint.length, 1)) if proxy.together else sequences
            part = scale * min(1.0, whole_sequences / max(sequences, 1))
            activations = int(part * (proxy.graph * whole if proxy.holds else footprint.block + passing))
            needs.append(Need(proxy.name, copies, workspace if proxy.holds else 0, activations))
        elif isinstance(proxy, FunctionProxy):  # it gets a copy of the weights; what it runs is unknown
            needs.append(Need(proxy.name, footprint.parameters * itemsize, workspace, int(scale * (whole + passing))))
    return tuple(needs)
