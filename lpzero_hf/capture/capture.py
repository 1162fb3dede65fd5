"""One forward and one backward pass that reduces the six statistics of a model.

If the device runs out of memory, the pass is repeated with micro-batches of half the size.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf.capture.audit import Ran, left_out
from lpzero_hf.capture.microbatches import Indivisible, Shares, shares, split
from lpzero_hf.capture.recorder import Recorder
from lpzero_hf.capture.reducer import Reducer, Where
from lpzero_hf.capture.spec import LOSS, Captured, Network, Reduction
from lpzero_hf.errors import CaptureError, MicroBatchWarning, ModelError
from lpzero_hf.models.isolation import isolated
from lpzero_hf.models.layout import ModelLayout
from lpzero_hf.models.lazy import source_of
from lpzero_hf.models.objective import Batch
from lpzero_hf.models.plain_layers import hidden_layers


def capture(
    model: PreTrainedModel,
    batch: Batch,
    reductions: Sequence[Reduction],
    layout: ModelLayout,
    *,
    network: Network = LOSS,
    dtype: torch.dtype | None = None,
    seed: int = 42,
    checkpointing: bool = False,
    micro_batch: int | None = None,
) -> Captured:
    """Run `network` once, forward and, where a reduction reads a gradient, backward.

    Args:
        model: left unchanged. Of a lazy model, only W can be reduced, with one weight in memory at a time.
        batch: `input_ids` [B, T] and the model's other inputs.
        reductions: what to compute; equal reductions are computed once.
        layout: of `model`.
        network: the model itself with its own loss by default.
        dtype: runs the pass in this precision, on a copy of the weights; None keeps the model's own. A network
            that substitutes its own weights (SynFlow's are double) decides for itself.
        seed: for the objective and every random number of the pass.
        checkpointing: keep only the inputs of blocks and run each block again in the backward pass, which takes a
            third more time and far less memory. The values are the same. A network that differs from the model
            (SynFlow's, whose input is one sequence) runs without.
        micro_batch: maximum number of samples at a time; None for all, or for fewer (with a `MicroBatchWarning`) if
            the device runs out of memory. Reductions get the same tensors, except for rounding.

    Returns:
        The reduced values. If the pass fails (the model does not run on this batch, no gradient reaches its
        blocks), the reductions without values yet have a `CaptureError` among the failures.

    Raises:
        CaptureError: there is not enough memory for one sample at a time.
        ModelError: a layer hides another, compiled, computed or under an adapter; see `plain_layers`.
    """
    for name in hidden_layers(model):
        raise ModelError(
            f"'{name}' of {type(model).__name__} hides the layer to read statistics from (it is compiled, wrapped, "
            "parametrized or adapted); use score, or find the layout and capture inside plain_layers(model)"
        )
    work = _Pass(model, batch, reductions, layout, network, dtype, seed, checkpointing)
    samples = len(batch["input_ids"])
    size = requested = samples if micro_batch is None else min(micro_batch, samples)
    while True:
        try:
            captured = work.run(size)
            return captured if size == requested else work.with_memory_errors(captured)
        except torch.OutOfMemoryError as error:
            if size == 1 or not work.divisible:
                raise CaptureError(work.out_of_memory()) from error
        size //= 2
        gc.collect()  # free what the failed pass has left behind
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        warnings.warn(
            f"out of memory on {model.device}; going on with micro-batches of {size} of {samples} sequences, which "
            "give the same scores to rounding",
            MicroBatchWarning,
            stacklevel=2,
        )


@dataclass(frozen=True)
class _Pass:
    """The settings of a pass, see `capture`."""

    model: PreTrainedModel
    batch: Batch
    reductions: Sequence[Reduction]
    layout: ModelLayout
    network: Network
    dtype: torch.dtype | None
    seed: int
    checkpointing: bool

    def run(self, size: int) -> Captured:
        """The pass over micro-batches of `size` samples; repeated if the model overwrites outputs that are read."""
        protected: frozenset[str] = frozenset()
        while True:
            result = self._run(size, protected)
            if isinstance(result, Captured):
                return result
            protected |= result

    def with_memory_errors(self, captured: Captured) -> Captured:
        """`captured`, with errors about micro-batches, which only this module asked for, as out-of-memory errors."""
        failures: dict[Reduction, Exception] = {
            reduction: CaptureError(self.out_of_memory(error.cause)) if isinstance(error, Indivisible) else error
            for reduction, error in captured.failures.items()
        }
        return replace(captured, failures=failures)

    def out_of_memory(self, whole: str = "") -> str:
        """The error message, with the arguments that would help and are not in use yet.

        Args:
            whole: why the minibatch cannot run in parts, if it cannot.
        """
        ways = ["a smaller `batch_size=` or `seq_len=`" if whole else "a smaller `seq_len=`"]
        half = (self.dtype or self.model.dtype).itemsize <= 2
        ways += [] if half else ["`dtype=bfloat16`"]
        ways += [] if self.checkpointing or self.network.departs else ["`checkpointing=True`"]
        how = "even with one sequence at a time" if self.divisible else f"in the {self.network.name} pass"
        if whole:
            how = f"with the whole minibatch, and it cannot run in parts ({whole})"
        return f"out of memory on {self.model.device} {how}; {' or '.join(ways)} needs less"

    @property
    def divisible(self) -> bool:
        """Whether the objective of a minibatch can be the sum of those of its parts."""
        return self.network.own_loss

    def _run(self, size: int, protected: frozenset[str]) -> Captured | set[str]:
        """The captured values, or further layers whose outputs the model overwrites, so that it must get copies."""
        model, layout, moments = self.model, self.layout, {r.moment for r in self.reductions}
        gradients = bool(moments & {"gradient", "backward"})
        sites = {id(site.parameter): site for site in layout.weights}
        source = source_of(model)
        read = None if source is None else source.read

        def substitute(parameter: Tensor) -> Tensor:
            tensor = parameter.data
            if self.network.substitute is not None:
                return self.network.substitute(tensor)
            return tensor.to(self.dtype) if self.dtype is not None and tensor.is_floating_point() else tensor

        def trainable(parameter: nn.Parameter) -> bool:
            return gradients and id(parameter) in sites

        with isolated(model, substitute=substitute, trainable=trainable, seed=self.seed) as replaced:
            fed = self.network.prepare(model, self.batch, self.seed)
            count = -(-len(fed["input_ids"]) // size)
            reducer = Reducer(self.reductions, count, keep_going=size == 1 or not self.divisible)
            checkpointing = self.checkpointing and gradients and not self.network.departs
            recorder = Recorder(layout, reducer, protected, checkpointing)
            for key, parameter in replaced.items():
                if key in sites:
                    original = sites[key].parameter
                    recorder.read_weight(sites[key], parameter if read is None else substitute(read(original)))
            if moments <= {"weight"}:
                return self._audited(reducer.result(), recorder.ran)
            recorder.weights.learn(model, replaced)
            with (
                self.network.context(model, layout),
                recorder.watching(model),
                torch.set_grad_enabled(gradients),
            ):
                result = self._passes(fed, size, recorder, reducer, protected, gradients)
        return self._audited(result, recorder.ran) if isinstance(result, Captured) else result

    def _audited(self, captured: Captured, ran: Ran) -> Captured:
        """`captured`, with notes of what its values leave out."""
        notes = {r: left_out(r, values, self.layout, ran, self.network) for r, values in captured.values.items()}
        places = zip(self.layout.indices, self.layout.blocks, strict=True)
        idle = frozenset(block.name for index, block in places if ran.blocks and index not in ran.blocks)
        return replace(captured, notes={reduction: note for reduction, note in notes.items() if note}, idle=idle)

    def _passes(
        self, fed: Batch, size: int, recorder: Recorder, reducer: Reducer, protected: frozenset[str], gradients: bool
    ) -> Captured | set[str]:
        parts: list[tuple[slice, Batch]] = [(slice(None), fed)]
        divided: Shares | None = None
        if reducer.parts > 1:
            with recorder.failing(self.model, "forward", "gradient", "backward"):
                parts, divided = split(fed, size), self._divided(fed, recorder, reducer)
        for part, batch in parts if not recorder.broken else ():
            recorder.begin(batch)
            with recorder.failing(self.model, "forward", "gradient", "backward"):
                scalar = self._objective(batch, part, divided)
                recorder.end_feed_forward()
            if fresh := recorder.overwritten() - protected:
                return fresh
            if gradients and not recorder.broken:
                with recorder.failing(self.model, "gradient", "backward"):
                    recorder.backward(scalar)
            if recorder.broken:
                break
            reducer.part += 1
        else:
            with recorder.failing(self.model, "forward", "gradient", "backward"):
                reducer.complete()
        return reducer.result()

    def _divided(self, fed: Batch, recorder: Recorder, reducer: Reducer) -> Shares:
        if not self.divisible:
            raise CaptureError(f"the '{self.network.name}' pass has an objective that cannot be divided")
        trials: list[set[Where]] = []

        def begin(batch: Batch) -> None:
            recorder.begin(batch)
            reducer.seen = set()
            trials.append(reducer.seen)

        try:
            return shares(self.model, fed, begin)
        finally:
            reducer.seen = None
            reducer.known = set.intersection(*trials) if trials else set()

    def _objective(self, batch: Batch, part: slice, divided: Shares | None) -> Tensor:
        if divided is None:
            return self.network.objective(self.model, batch, self.seed)
        state = _random_state(self.model.device)
        scalar = divided.objective(self.model, batch, part, self.seed)
        if not torch.equal(state, _random_state(self.model.device)):
            raise Indivisible(f"{type(self.model).__name__} draws random numbers")
        return scalar


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
