"""Hooks on a running model that pass each statistic to the reductions that read it.

W and G are read when a weight's gradient is complete, A when a linear layer has run and J when the
gradient reaches its output, H and S when a mixer has run.

With checkpointing, blocks keep only their inputs and run again in the backward pass. Nothing is reduced a second time
there; an output whose gradient is pending is released when its block has run, and taken from the second run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
from transformers import PreTrainedModel

from lpzero_hf.capture.attention import AttentionWatch
from lpzero_hf.capture.pending import Event, GradientPair, PendingOutputs
from lpzero_hf.capture.reducer import Reducer, Where, widened
from lpzero_hf.capture.spec import Moment
from lpzero_hf.errors import CaptureError, one_line
from lpzero_hf.models.layout import Block, Mixer, ModelLayout, WeightSite, input_embeddings
from lpzero_hf.models.objective import Batch, real_targets, real_tokens

FP16_LOSS_SCALE = 2.0**12  # a power of two, undone exactly; keeps half-precision gradients from vanishing
NO_GRADIENT = "no gradient reaches the model's blocks: its objective does not depend on them"


@dataclass
class _Output:
    """The output of a layer, with its places, the block that ran, the real tokens, and the tensor's version then."""

    name: str
    tensor: Tensor
    places: tuple[str, ...]
    block: int
    mask: Tensor
    call: int
    event: Event | None = None
    version: int = -1

    def __post_init__(self) -> None:
        self.version = self.tensor._version

    @property
    def overwritten(self) -> bool:
        return self.tensor._version != self.version

    @property
    def where(self) -> Where:
        return Where(self.places, self.block, self.name, self.call)


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
        self.loss_scale = 1.0
        self.reached = False  # whether any weight received a gradient
        self.broken = False  # whether the pass was aborted
        self.overwritten_early: set[str] = set()  # layers whose outputs were overwritten before they were read
        self.pending = PendingOutputs()
        self.feed_forward: list[_Output] = []
        self.calls: Counter[tuple[int, str]] = Counter()

    def begin(self, batch: Batch) -> None:
        """Prepare for a pass over `batch`, which is the minibatch or a part of it."""
        self.masks = real_tokens(batch), real_targets(batch)  # for the encoder (or only) blocks, for the decoder
        self.mask = self.masks[0]
        self.batch_size, self.lengths = len(self.mask), {mask.shape[1] for mask in self.masks}
        self._forget()
        self.replaying: int | None = None  # the block that runs a second time
        self.event = 0
        # The state of the running block and mixer:
        self.applied = -1  # number of blocks that have started, minus one
        self.mixer: Mixer | None = None
        self.context: Tensor | None = None  # the input of the mixer's latest linear layer
        self.probabilities: Tensor | None = None
        self.heads = 0

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
        for site in self.layout.linears:
            assert site.module is not None
            site.module.register_forward_hook(partial(self._on_linear, site))
        if self._reads("backward") or any(r.place == "embedding" for r in self.reducer.reductions):
            for embedding in input_embeddings(model):
                embedding.register_forward_hook(self._on_embedding)
        try:
            with AttentionWatch(self._on_softmax, self._on_attention):
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
        for mixer in block.mixers:
            mixer.module.register_forward_pre_hook(partial(self._on_mixer_start, mixer))
            mixer.module.register_forward_hook(self._on_mixer_end)
        if block.experts is not None:
            block.experts.register_forward_hook(partial(self._on_experts, block))

    def _checkpointed(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """`forward` of a block, keeping only its inputs."""

        def run(*inputs: Any, **keywords: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*inputs, **keywords)
            second_run = partial(self._replay, self.applied)
            with set_checkpoint_early_stop(False):  # the last layer's output is read as well
                return checkpoint(
                    partial(forward, *inputs, **keywords),
                    use_reentrant=False,
                    context_fn=lambda: (nullcontext(), second_run()),
                )

        return run

    @contextmanager
    def _replay(self, block: int) -> Iterator[None]:
        """While a block runs a second time, hooks only deliver the outputs that were released."""
        before = self.replaying, self.event, self.mixer, self.context
        self.replaying, self.event, self.mixer, self.context = block, 0, None, None
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = f"a block cannot run a second time ({one_line(error)}); score this model without checkpointing"
            raise CaptureError(reason) from error
        finally:
            self.replaying, self.event, self.mixer, self.context = before

    def _next_event(self) -> Event:
        self.event += 1
        return self.applied if self.replaying is None else self.replaying, self.event

    def _call(self, name: str, block: int) -> int:
        """How often the layer or mixer `name` had run in this block before."""
        self.calls[block, name] += 1
        return self.calls[block, name] - 1

    def _on_block_start(self, block: Block, module: nn.Module, inputs: Any) -> None:
        self.applied += 1
        self.event = 0
        self.mask = self.masks["decoder" in block.name.split(".")]
        self.feed_forward.clear()

    def _on_block_end(self, block: Block, module: nn.Module, inputs: Any, output: Any) -> None:
        for index, layer in enumerate(self.feed_forward):
            last = index == len(self.feed_forward) - 1
            layer.places = ("ffn_output" if last else "ffn_hidden",)
            if block.experts is None or last:
                self._read_output(layer)
        self.feed_forward.clear()
        self.overwritten_early |= self.pending.release(self.applied)

    def _on_linear(self, site: WeightSite, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Any:
        if self.applied < 0:
            return None
        if self.mixer is not None:
            self.context = inputs[0]
        call = -1 if self.replaying is not None else self._call(site.name, self.applied)
        if self._batch_first(output) is None:
            return None
        event = self._next_event()
        if self.replaying is not None:
            self.pending.take(event, output)
            return output.clone() if site.name in self.protected else None
        places = ("linear", f"{site.part}_linear")
        self._read_output(_Output(site.name, output, places, self.applied, self.mask, call, event))
        if self.mixer is None:
            self.feed_forward.append(_Output(site.name, output, (), self.applied, self.mask, call, event))
        return output.clone() if site.name in self.protected else None

    def _on_experts(self, block: Block, module: nn.Module, inputs: Any, output: Any) -> None:
        """The combined output of the experts replaces the outputs of the layers inside them."""
        tensor = output[0] if isinstance(output, tuple | list) else output
        if self._batch_first(tensor) is None:
            return
        event = self._next_event()
        if self.replaying is not None:
            self.pending.take(event, tensor)
            return
        name = f"{block.name} experts"
        self.feed_forward.append(
            _Output(name, tensor, (), self.applied, self.mask, self._call(name, self.applied), event)
        )

    def _on_embedding(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Read the embeddings, and let gradients reach a first mixer that comes before any weight."""
        leaf = output.detach().requires_grad_(torch.is_grad_enabled())
        self._read_output(_Output("embedding", leaf, ("embedding",), 0, self.masks[0], self._call("embedding", 0)))
        return leaf.clone()  # which the model may scale in place

    def _read_output(self, output: _Output) -> None:
        """Reduce A now; keep it until J arrives where a reduction reads both."""
        if output.overwritten:
            self.overwritten_early.add(output.name)
            return
        A = self._batch_first(output.tensor)
        if A is None:
            return
        mask = _fitting(output.mask, A)
        self.reducer.take("forward", output.where, {"A": A, "mask": mask})
        if output.tensor.requires_grad and self._reads("backward", *output.places):
            reduce = partial(self._reduce_output, output.where, mask)
            pair = GradientPair(output.name, reduce, output.tensor.detach(), output.version)
            self.pending.add(pair, output.tensor, output.event if self.checkpointing else None)

    def _reads(self, moment: Moment, *places: str) -> bool:
        """Whether a reduction reads something at that moment, at one of these places if any are named."""
        return any(r.moment == moment and (not places or r.place in places) for r in self.reducer.reductions)

    def overwritten(self) -> set[str]:
        """The layers whose outputs the model has overwritten before they were read."""
        return self.overwritten_early | self.pending.overwritten()

    # Mixers ------------------------------------------------------------------------------------------

    def _on_mixer_start(self, mixer: Mixer, module: nn.Module, inputs: Any) -> None:
        self.mixer, self.context, self.probabilities, self.heads = mixer, None, None, mixer.heads

    def _on_softmax(self, result: Tensor) -> None:
        if self.mixer is None or self.replaying is not None:
            return
        if result.dim() == 3 and result.shape[0] % self.batch_size == 0 and self.mixer.heads > 1:
            result = result.reshape(self.batch_size, -1, *result.shape[1:])
        if result.dim() == 4 and result.shape[0] == self.batch_size and result.shape[2] in self.lengths:
            if result.shape[3] not in self.lengths and result.shape[3] - 1 in self.lengths:
                result = result[..., :-1]  # an attention sink in the last column is no token
            self.heads, self.probabilities = result.shape[1], result

    def _on_attention(self, heads: int, probabilities: Any) -> None:
        if self.mixer is None or self.replaying is not None:
            return
        self.heads = heads
        if any("S" in r.reads for r in self.reducer.reductions):
            self.probabilities = probabilities()

    def _on_mixer_end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        mixer, context, S = self.mixer, self.context, self.probabilities
        self.mixer, self.context, self.probabilities = None, None, None
        mixed = output[0] if isinstance(output, tuple | list) else output
        if mixer is None:
            return
        out, call = self._batch_first(mixed), self._call(mixer.name, self.applied) if self.replaying is None else -1
        if out is None:
            return
        event: Event | None = self._next_event()
        if self.replaying is not None:
            assert event is not None
            self.pending.take(event, mixed if context is None else context)
            return
        if any(block.module is module for block in self.layout.blocks):
            event = None  # the block is its own mixer: this hook is not called in its second run
        mask, where = _fitting(self.mask, out), Where(("mixer",), max(self.applied, 0), mixer.name, call)
        if S is not None:
            self.reducer.take("forward", replace(where, places=("attention",)), {"S": S, "mask": mask})
        if not any(r.place == "mixer" for r in self.reducer.reductions):
            return
        if S is None and not (mixer.attention and mixer.heads):
            S = widened(out.detach()).softmax(-1)
        tensors = {"mask": mask} if S is None else {"S": S, "mask": mask}
        if context is None and not self.heads:  # a mixer without heads or weights: its output is its one head
            context = mixed
        flat = self._batch_first(context)
        if context is not None and flat is not None:
            heads = mixer.head_count(flat.shape[-1], self.heads)
            tensors["H"] = _split_heads(flat, heads)
            if context.requires_grad and self._reads("backward", "mixer"):
                reduce = partial(self._reduce_context, where, heads, mask)
                pair = GradientPair("", reduce, context.detach(), context._version)
                self.pending.add(pair, context, event if self.checkpointing else None)
        self.reducer.take("forward", where, tensors)

    def _reduce_context(self, where: Where, heads: int, mask: Tensor, context: Tensor, gradient: Tensor) -> None:
        H, dH = self._batch_first(context), self._batch_first(self._unscaled(gradient))
        assert H is not None
        assert dH is not None
        tensors = {"H": _split_heads(H, heads), "dH": _split_heads(dH, heads), "mask": mask}
        self.reducer.take("backward", where, tensors)

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
            if not isinstance(error, CaptureError):
                cause = CaptureError(f"{type(model).__name__} does not run on this minibatch: {one_line(error)}")
            self.reducer.fail(cause, moments)

    def backward(self, scalar: Tensor) -> None:
        """Differentiate `scalar`, the objective or a part of it; the hooks read the gradients."""
        if not scalar.isfinite():
            value = float(scalar.detach())
            raise CaptureError(f"the objective is {value}; check the labels (are all of them -100?) and the dtype")
        if not scalar.requires_grad:
            raise CaptureError(NO_GRADIENT)
        weights = (parameter for block in self.layout.blocks for parameter in block.module.parameters())
        if any(tensor.dtype == torch.float16 for tensor in (scalar, *weights)):
            self.loss_scale = FP16_LOSS_SCALE
        (scalar * self.loss_scale).backward()
        if "gradient" in self.reducer.moments and not self.reached:
            raise CaptureError(NO_GRADIENT)
        self.pending.check()

    def _reduce_output(self, where: Where, mask: Tensor, output: Tensor, gradient: Tensor) -> None:
        A, J = self._batch_first(output), self._batch_first(self._unscaled(gradient))
        assert A is not None
        assert J is not None
        self.reducer.take("backward", where, {"A": A, "J": J, "mask": mask})

    def _unscaled(self, gradient: Tensor) -> Tensor:
        gradient = widened(gradient.detach())
        return gradient if self.loss_scale == 1.0 else gradient / self.loss_scale

    def _batch_first(self, tensor: Any) -> Tensor | None:
        """`tensor` as [B, T, d], or None if its rows are not the tokens of the minibatch."""
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return None
        if self.layout.time_major and tensor.dim() == 3:
            tensor = tensor.transpose(0, 1)
        if tensor.dim() == 2 and any(tensor.shape[0] == self.batch_size * n for n in self.lengths):
            tensor = tensor.reshape(self.batch_size, -1, tensor.shape[1])
        if tensor.dim() == 4 and tensor.shape[1] in self.lengths:
            tensor = tensor.flatten(2)
        fits = tensor.dim() == 3 and tensor.shape[0] == self.batch_size and tensor.shape[1] in self.lengths
        return tensor if fits else None


def _fitting(mask: Tensor, tensor: Tensor) -> Tensor:
    """`mask` if it fits the positions of `tensor` [B, T, d], else a mask that is true at all positions."""
    if tensor.shape[:2] == mask.shape:
        return mask
    return torch.ones(tensor.shape[:2], dtype=torch.bool, device=tensor.device)


def _split_heads(context: Tensor, heads: int) -> Tensor:
    """The context [B, T, h * d] of a mixer as [B, h, T, d]."""
    return context.reshape(*context.shape[:2], heads, -1).transpose(1, 2)
