"""Hooks on a running model that pass each statistic to the reductions that read it.

W and G are read when a weight's gradient is complete, A when a linear layer has run and J when the
gradient reaches its output, H and S when a mixer has run. Every statistic is counted for the block that
holds its layer or mixer in the layout, whether or not the model calls the block itself, and in whatever order
blocks run.

With checkpointing, blocks keep only their inputs and run again in the backward pass. Nothing is reduced a second time
there; an output whose gradient is pending is released when its block has run, and taken from the second run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError, checkpoint, set_checkpoint_early_stop
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lpzero_hf.capture.attention import AttentionWatch
from lpzero_hf.capture.audit import Ran
from lpzero_hf.capture.mixing import RunningMixer
from lpzero_hf.capture.pending import Event, GradientPair, LayerOutput, PendingOutputs
from lpzero_hf.capture.reducer import Reducer, Where, widened
from lpzero_hf.capture.spec import Moment
from lpzero_hf.capture.tokens import TokenRows
from lpzero_hf.capture.used_weights import UsedWeights
from lpzero_hf.errors import CaptureError, WayRefused, one_line
from lpzero_hf.models.embeddings import input_embeddings
from lpzero_hf.models.layout import Block, Mixer, ModelLayout, WeightSite
from lpzero_hf.models.objective import Batch

PLAIN = (nn.Linear, Conv1D)
FP16_LOSS_SCALE = 2.0**12  # a power of two, undone exactly; keeps half-precision gradients from vanishing
_Part = TypeVar("_Part")
NO_GRADIENT = "no gradient reaches the model's blocks: its objective does not depend on them"


def _no_second_run(error: Exception) -> WayRefused:
    return WayRefused(f"a block cannot run a second time ({one_line(error)})", "score this model without checkpointing")


class Recorder:
    """Hooks on a model's blocks that pass each statistic to the reductions that read it.

    Args:
        layout: where the blocks are.
        reducer: takes the statistics.
        protected: linear layers whose outputs the model overwrites; the model gets copies of them.
        checkpointing: let blocks run a second time in the backward pass.
    """

    def __init__(
        self, layout: ModelLayout, reducer: Reducer, protected: frozenset[str], checkpointing: bool = False
    ) -> None:
        self.layout, self.reducer = layout, reducer
        self.protected, self.checkpointing = protected, checkpointing
        self.factors = any("X" in reduction.reads for reduction in reducer.reductions)  # of layers' outputs
        self.loss_scale = 1.0
        self.reached = False  # whether any weight received a gradient
        self.broken = False  # whether the pass was aborted
        self.overwritten_early: set[str] = set()  # layers whose outputs were overwritten before they were read
        self.pending = PendingOutputs()
        self.feed_forward: list[LayerOutput] = []
        self.calls: Counter[tuple[int, str]] = Counter()
        self.ran = Ran()
        self.indices = dict(zip(layout.blocks, layout.indices, strict=True))
        self.blocks_of: dict[int, list[Block]] = {}  # that hold a module, by its id
        for block in layout.blocks:
            for module in block.module.modules():
                self.blocks_of.setdefault(id(module), []).append(block)
        # What a module is in each of the blocks that hold it, by the index of the block:
        self.sites: dict[int, dict[int, WeightSite]] = {}
        for site in layout.sites:
            self.sites.setdefault(id(site.module), {})[site.block] = site
        self.mixers: dict[int, dict[int, Mixer]] = {}
        for block in layout.blocks:
            for mixer in block.mixers:
                self.mixers.setdefault(id(mixer.module), {})[self.indices[block]] = mixer
        self.weights = UsedWeights(layout)
        self.differentiating = False  # whether the backward pass runs, in which a model may run parts a second time

    def begin(self, batch: Batch) -> None:
        """Prepare for a pass over `batch`, which is the minibatch or a part of it."""
        self.rows = TokenRows(batch, self.layout)
        self._forget()
        self.replaying: int | None = None  # the run of a block that is repeated
        self.event = 0
        self.run = -1  # number of runs of blocks that have started, minus one
        self.block: Block | None = None  # that runs
        self.mixer: RunningMixer | None = None

    def _forget(self) -> None:
        for held in (self.pending, self.feed_forward, self.calls):
            held.clear()

    # Weights -----------------------------------------------------------------------------------------

    def read_weight(self, site: WeightSite, weight: Tensor) -> None:
        """Reduce W now, and W with G as soon as its gradient is complete."""
        for name, matrix in zip(site.names, site.matrices(weight.detach()), strict=True):
            where = Where(("linear", f"{site.part}_linear"), site.block, name)
            self.reducer.reduce("weight", where, {"W": matrix})
        if weight.requires_grad:
            weight.register_post_accumulate_grad_hook(partial(self._on_gradient, site))

    def _on_gradient(self, site: WeightSite, parameter: Tensor) -> None:
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        self.reached = True
        self.reducer.take_gradient(site, parameter, self._unscaled(gradient))

    # The forward pass --------------------------------------------------------------------------------

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[None]:
        """Hooks on every block, mixer and linear layer; `isolated` removes them again."""
        forwards = {block.module: block.module.__dict__.get("forward") for block in self.layout.blocks}
        for block in self.layout.blocks:
            self._watch_block(block)
            if self.checkpointing:
                block.module.forward = self._checkpointed(block.module.forward)
        for mixer in {id(mixer.module): mixer for mixer in self.layout.mixers}.values():  # blocks may share one
            mixer.module.register_forward_pre_hook(self._on_mixer_start, with_kwargs=True)
            mixer.module.register_forward_hook(self._on_mixer_end)
        for site in self.layout.linears:
            assert site.module is not None
            site.module.register_forward_hook(self._on_linear)
        if self.reducer.moments & {"gradient", "backward"} or self._reads("forward", "embedding"):
            for embedding in input_embeddings(model):
                embedding.register_forward_hook(self._on_embedding)
        try:
            with AttentionWatch(self):
                yield
        finally:
            self._forget()
            for module, forward in forwards.items():
                module.__dict__.pop("forward", None)
                if forward is not None:
                    module.__dict__["forward"] = forward

    def _watch_block(self, block: Block) -> None:
        block.module.register_forward_pre_hook(partial(self._on_block_start, block))
        block.module.register_forward_hook(partial(self._on_block_end, block))
        if block.experts is not None:
            block.experts.register_forward_hook(partial(self._on_experts, block))

    def _checkpointed(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """`forward` of a block, keeping only its inputs."""

        def run(*inputs: Any, **keywords: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*inputs, **keywords)
            second_run = partial(self._replay, self.run, self.block)
            with set_checkpoint_early_stop(False):  # the last layer's output is read as well
                return checkpoint(
                    partial(forward, *inputs, **keywords),
                    use_reentrant=False,
                    context_fn=lambda: (nullcontext(), second_run()),
                )

        return run

    @contextmanager
    def _replay(self, run: int, block: Block | None) -> Iterator[None]:
        """While a block runs a second time, hooks only deliver the outputs that were released."""
        before = self.replaying, self.event, self.mixer, self.block
        self.replaying, self.event, self.mixer, self.block = run, 0, None, block
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise _no_second_run(error) from error
        finally:
            self.replaying, self.event, self.mixer, self.block = before

    @property
    def counting(self) -> bool:
        """Whether what runs is part of the pass as the model defines it: not a trial, a second run, or a first part."""
        first = self.replaying is None and not self.differentiating
        return first and self.reducer.seen is None and self.reducer.last

    def _next_event(self) -> Event:
        self.event += 1
        return self.run if self.replaying is None else self.replaying, self.event

    def _call(self, name: str, block: int) -> int:
        """How often the layer or mixer `name` had run in this block before."""
        self.calls[block, name] += 1
        return self.calls[block, name] - 1

    def _on_block_start(self, block: Block, module: nn.Module, inputs: Any) -> None:
        self._start(block)

    def _start(self, block: Block) -> None:
        self.end_feed_forward()
        self.run += 1
        self.event, self.block = 0, block
        self.rows = self.rows.of_block(block.name)
        self.ran.blocks.add(self.indices[block])

    def _on_block_end(self, block: Block, module: nn.Module, inputs: Any, output: Any) -> None:
        self.end_feed_forward()
        if self.replaying is None and self._reads("forward", "block"):
            tensor = output[0] if isinstance(output, tuple | list) else output
            index = self.indices[block]
            if self.rows.read(tensor, block.name) is not None:
                self._read_output(
                    LayerOutput(block.name, tensor, ("block",), index, self._call(block.name, index), self.rows)
                )
        self.overwritten_early |= self.pending.release(self.run)
        self.block = None

    def end_feed_forward(self) -> None:
        """The last feed-forward layer of the block that ran is its output, the others are its pre-activations."""
        experts = None if self.block is None else self.block.experts
        for index, layer in enumerate(self.feed_forward):
            last = index == len(self.feed_forward) - 1
            layer.places = ("ffn_output" if last else "ffn_hidden",)
            if experts is None or last:
                self._read_output(layer)
        self.feed_forward.clear()

    def _on_linear(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Any:
        site, index = self._place(module, self.sites)
        self.ran.layers[site.name] += self.counting
        rows = self.rows
        if self.mixer is not None and inputs and isinstance(inputs[0], Tensor):
            self.mixer.on_linear(inputs[0], site.name)
            rows = self.mixer.rows_at(inputs[0])
        call = self._call(site.name, index) if self.replaying is None else -1
        if rows.read(output, site.name) is None:
            return None
        event = self._next_event()
        if self.replaying is not None:
            self.pending.take(event, output)
            return output.clone() if site.name in self.protected else None
        places = ("linear", f"{site.part}_linear")
        self._read_output(LayerOutput(site.name, output, places, index, call, rows, event))
        if self.mixer is None:
            pending = LayerOutput(site.name, output, (), index, call, rows, event)
            if self.factors and type(module) in PLAIN and inputs and isinstance(inputs[0], Tensor):
                weight = module.weight
                assert isinstance(weight, Tensor)
                pending.made_of = inputs[0].detach(), site.matrices(weight.detach())[0], inputs[0]._version
            self.feed_forward.append(pending)
        return output.clone() if site.name in self.protected else None

    def _place(self, module: nn.Module, known: Mapping[int, Mapping[int, _Part]]) -> tuple[_Part, int]:
        """What a module is in the block that it runs in, of those that hold it, and the index of that block."""
        holding = self.blocks_of.get(id(module), [])
        if self.replaying is None and self.block not in holding and holding:
            self._start(holding[0])  # its block is not called itself
        parts = known[id(module)]
        first, part = next(iter(parts.items()))
        index = first if self.block is None else self.indices[self.block]
        return parts.get(index, part), index

    def _on_experts(self, block: Block, module: nn.Module, inputs: Any, output: Any) -> None:
        """The combined output of the experts replaces the outputs of the layers inside them."""
        tensor = output[0] if isinstance(output, tuple | list) else output
        name = f"{block.name} experts"
        if self.rows.read(tensor, name) is None:
            return
        event = self._next_event()
        if self.replaying is not None:
            self.pending.take(event, tensor)
            return
        index = self.indices[block]
        self.feed_forward.append(LayerOutput(name, tensor, (), index, self._call(name, index), self.rows, event))

    def _on_embedding(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Read the embeddings, and let gradients reach a first mixer that comes before any weight."""
        leaf = output.detach().requires_grad_(torch.is_grad_enabled())
        self._read_output(LayerOutput("embedding", leaf, ("embedding",), 0, self._call("embedding", 0), self.rows))
        return leaf.clone()  # which the model may scale in place

    def _read_output(self, output: LayerOutput) -> None:
        """Reduce A now; keep it until J arrives where a reduction reads both."""
        if output.overwritten:
            self.overwritten_early.add(output.name)
            return
        tokens = output.rows.read(output.tensor, output.name)
        if tokens is None:
            return
        A, mask = tokens
        hidden = self.factors and "ffn_hidden" in output.places
        self._take_forward(output.where, {"A": A, "mask": mask} | (output.product(mask) if hidden else {}))
        if output.tensor.requires_grad and self._reads("backward", *output.places):
            reduce = partial(self._reduce_output, output.where, output.rows)
            pair = GradientPair(output.name, reduce, output.tensor.detach(), output.version)
            self.pending.add(pair, output.tensor, output.event if self.checkpointing else None)

    def _reads(self, moment: Moment, *places: str) -> bool:
        """Whether a reduction reads something at that moment, at one of these places if any are named."""
        return any(r.moment == moment and (not places or r.place in places) for r in self.reducer.reductions)

    def overwritten(self) -> set[str]:
        """The layers whose outputs the model has overwritten before they were read."""
        return self.overwritten_early | self.pending.overwritten()

    # Mixers ------------------------------------------------------------------------------------------

    def _on_mixer_start(self, module: nn.Module, inputs: Any, keywords: Any) -> None:
        mixer, index = self._place(module, self.mixers)
        self.mixer = RunningMixer(mixer, index, inputs, keywords, self.rows)
        self.ran.mixers[mixer.name] += self.counting

    def on_softmax(self, result: Tensor) -> None:
        """See `AttentionWatch`."""
        if self.mixer is not None:
            self.mixer.on_softmax(result)

    def on_attention(self, heads: int, probabilities: Callable[[], Tensor], product: Tensor) -> None:
        """See `AttentionWatch`."""
        if self.mixer is None:
            self.ran.outside += self.counting
            return
        wanted = self.replaying is None and any("S" in r.reads for r in self.reducer.reductions)
        self.mixer.on_attention(heads, probabilities() if wanted else None, product)

    def on_product(self, operands: Sequence[Tensor], product: Tensor) -> None:
        """See `AttentionWatch`."""
        for operand in operands:
            if (name := self.weights.name_of(operand)) is not None:
                self.ran.used.add(name)
        if self.mixer is not None:
            self.mixer.on_product(operands[0], product)

    def on_step(self, tensor: Tensor, result: Tensor) -> None:
        """See `AttentionWatch`."""
        self.weights.follow(tensor, result)

    def _on_mixer_end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        running, self.mixer = self.mixer, None
        if running is None:
            return
        mixer, index = running.mixer, running.block
        mixed = output[0] if isinstance(output, tuple | list) else output
        call = self._call(mixer.name, index) if self.replaying is None else -1
        tokens = self.rows.read(mixed, mixer.name)
        if tokens is None:
            return
        context, split = running.context(mixed)
        event: Event | None = self._next_event()
        if self.replaying is not None:
            assert event is not None
            self.pending.take(event, mixed if context is None else context)
            return
        if any(block.module is module for block in self.layout.blocks):
            event = None  # the block is its own mixer: this hook is not called in its second run
        out, mask = tokens
        attention = running.probabilities
        S = attention if running.rows_of(attention) == len(mask[0]) else None
        running.release()
        where = Where(("mixer",), index, mixer.name, call)
        if S is not None:
            self._take_forward(replace(where, places=("attention",)), {"S": S, "mask": mask})
        if not any(r.place == "mixer" for r in self.reducer.reductions):
            return
        if attention is None and not (mixer.attention and mixer.heads):
            S = widened(out.detach()).softmax(-1)
        tensors = {"mask": mask} if S is None else {"S": S, "mask": mask}
        H = None if context is None else running.split_heads(context, split)
        if context is not None and H is not None and running.rows_of(H) == len(mask[0]):
            tensors["H"] = H
            if context.requires_grad and self._reads("backward", "mixer"):
                reduce = partial(self._reduce_context, where, running, split, mask)
                pair = GradientPair("", reduce, context.detach(), context._version)
                self.pending.add(pair, context, event if self.checkpointing else None)
        self._take_forward(where, tensors)

    def _take_forward(self, where: Where, tensors: dict[str, Tensor]) -> None:
        if not self.differentiating:
            self.reducer.take("forward", where, tensors)

    def _reduce_context(
        self, where: Where, running: RunningMixer, split: bool, mask: Tensor, context: Tensor, gradient: Tensor
    ) -> None:
        H, dH = (running.split_heads(tensor, split) for tensor in (context, self._unscaled(gradient)))
        assert H is not None
        assert dH is not None
        self.reducer.take("backward", where, {"H": H, "dH": dH, "mask": mask})

    # The pass as a whole -------------------------------------------------------------------------------

    @contextmanager
    def failing(self, model: PreTrainedModel, *moments: Moment) -> Iterator[None]:
        """If the pass fails in here, fail the reductions of these moments and keep the others."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self.broken = True
            cause = error
            if isinstance(error, CheckpointError):  # the second run of a block saved other tensors
                cause = _no_second_run(error)
            elif not isinstance(error, CaptureError):
                cause = CaptureError(f"{type(model).__name__} does not run on this minibatch: {one_line(error)}")
            self.reducer.fail(cause, moments)

    def backward(self, scalar: Tensor) -> None:
        """Differentiate `scalar`, the objective or a part of it; the hooks read the gradients."""
        if not scalar.isfinite():
            value = float(scalar.detach())
            raise CaptureError(
                f"the objective is {value}; check the labels (are all of them -100?), the tokens (one has no next one) "
                "and the dtype"
            )
        if not scalar.requires_grad:
            raise CaptureError(NO_GRADIENT)
        weights = (parameter for block in self.layout.blocks for parameter in block.module.parameters())
        if any(tensor.dtype == torch.float16 for tensor in (scalar, *weights)):
            self.loss_scale = FP16_LOSS_SCALE
        self.differentiating = True
        try:
            (scalar * self.loss_scale).backward()
        finally:
            self.differentiating = False
        if "gradient" in self.reducer.moments and not self.reached:
            raise CaptureError(NO_GRADIENT)
        self.pending.check()

    def _reduce_output(self, where: Where, rows: TokenRows, output: Tensor, gradient: Tensor) -> None:
        A, J = (rows.read(tensor, where.site) for tensor in (output, self._unscaled(gradient)))
        assert A is not None
        assert J is not None
        self.reducer.take("backward", where, {"A": A[0], "J": J[0], "mask": A[1]})

    def _unscaled(self, gradient: Tensor) -> Tensor:
        gradient = widened(gradient.detach())
        return gradient if self.loss_scale == 1.0 else gradient / self.loss_scale
