"""Hooks on a running model that hand each statistic to the reductions that read it.

W and G are read when a weight's gradient is complete, A when a linear layer has run and J when the
gradient reaches its output, H and S when a mixer has run. What a reduction returns is kept, the tensors
are not: each gradient is freed as soon as it has been reduced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf.attention import AttentionWatch
from lpzero_hf.errors import CaptureError, one_line
from lpzero_hf.layout import Block, Mixer, ModelLayout, WeightSite, input_embeddings
from lpzero_hf.objective import Batch, real_targets, real_tokens
from lpzero_hf.reduction import Captured, Moment, Reduced, Reduction

FP16_LOSS_SCALE = 2.0**12  # a power of two, undone exactly; keeps half-precision gradients from vanishing
NO_GRADIENT = "no gradient reaches the model's blocks: its objective does not depend on them"


@dataclass
class _Output:
    """What a layer put out, its places, the block that ran, its real tokens, and the version it had then."""

    name: str
    tensor: Tensor
    places: tuple[str, ...]
    block: int
    mask: Tensor
    version: int = -1

    def __post_init__(self) -> None:
        self.version = self.tensor._version

    @property
    def overwritten(self) -> bool:
        return self.tensor._version != self.version


class Recorder:
    """Hooks on a model's blocks that hand each statistic to the reductions that read it."""

    def __init__(
        self, layout: ModelLayout, reductions: Sequence[Reduction], batch: Batch, protected: frozenset[str]
    ) -> None:
        self.layout = layout
        self.reductions = list(dict.fromkeys(reductions))
        self.moments = {r.moment for r in self.reductions}
        self.values: dict[Reduction, list[Reduced]] = {r: [] for r in self.reductions}
        self.failures: dict[Reduction, Exception] = {}
        self.masks = real_tokens(batch), real_targets(batch)  # of the encoder (or only) blocks, of the decoder's
        self.mask = self.masks[0]
        self.batch_size, self.lengths = len(self.mask), {mask.shape[1] for mask in self.masks}
        self.loss_scale = 1.0
        self.reached = False  # whether any weight received a gradient
        self.broken = False  # whether the pass broke off
        self.protected = protected  # linear layers whose outputs the model overwrites
        self.spoilt: set[str] = set()
        self.held: dict[int, _Output] = {}  # waiting for their gradients
        # The state of the running block and mixer:
        self.applied = -1  # how many blocks have started, less one
        self.feed_forward: list[_Output] = []
        self.mixer: Mixer | None = None
        self.context: Tensor | None = None  # the input of the mixer's latest linear layer
        self.probabilities: Tensor | None = None
        self.heads = 0

    # Weights -----------------------------------------------------------------------------------------

    def read_weights(self, weights: dict[WeightSite, nn.Parameter]) -> None:
        """Reduce W now, and W with G as soon as each gradient is complete."""
        for site, parameter in weights.items():
            for name, matrix in zip(site.names, site.matrices(parameter.detach()), strict=True):
                self._reduce("weight", ("linear", f"{site.part}_linear"), site.block, name, {"W": matrix})
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(partial(self._on_gradient, site))

    def _on_gradient(self, site: WeightSite, parameter: Tensor) -> None:
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        self.reached = True
        matrices = site.matrices(parameter.detach()), site.matrices(gradient)
        for name, W, G in zip(site.names, *matrices, strict=True):
            tensors = {"W": W, "G": self._unscaled(G)}
            self._reduce("gradient", ("linear", f"{site.part}_linear"), site.block, name, tensors)

    # The forward pass --------------------------------------------------------------------------------

    @contextmanager
    def watching(self, model: PreTrainedModel) -> Iterator[None]:
        """Hooks on every block, mixer and linear layer, for one pass; `isolated` takes them off again."""
        for block in self.layout.blocks:
            self._watch_block(block)
        for site in self.layout.linears:
            assert site.module is not None
            site.module.register_forward_hook(partial(self._on_linear, site))
        if "backward" in self.moments or any(r.place == "embedding" for r in self.reductions):
            for embedding in input_embeddings(model):
                embedding.register_forward_hook(self._on_embedding)
        try:
            with AttentionWatch(self._on_softmax, self._on_attention):
                yield
        finally:
            self.held.clear()
            self.feed_forward.clear()

    def _watch_block(self, block: Block) -> None:
        block.module.register_forward_pre_hook(partial(self._on_block_start, block))
        block.module.register_forward_hook(partial(self._on_block_end, block))
        for mixer in block.mixers:
            mixer.module.register_forward_pre_hook(partial(self._on_mixer_start, mixer))
            mixer.module.register_forward_hook(self._on_mixer_end)
        if block.experts is not None:
            block.experts.register_forward_hook(partial(self._on_experts, block))

    def _on_block_start(self, block: Block, module: nn.Module, inputs: Any) -> None:
        self.applied += 1
        self.mask = self.masks["decoder" in block.name.split(".")]
        self.feed_forward.clear()

    def _on_block_end(self, block: Block, module: nn.Module, inputs: Any, output: Any) -> None:
        for index, layer in enumerate(self.feed_forward):
            last = index == len(self.feed_forward) - 1
            layer.places = ("ffn_output" if last else "ffn_hidden",)
            if block.experts is None or last:
                self._read_output(layer)
        self.feed_forward.clear()

    def _on_linear(self, site: WeightSite, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Any:
        if self.applied < 0:
            return None
        if self.mixer is not None:
            self.context = inputs[0]
        if self._batch_first(output) is None:
            return None
        self._read_output(_Output(site.name, output, ("linear", f"{site.part}_linear"), self.applied, self.mask))
        if self.mixer is None:
            self.feed_forward.append(_Output(site.name, output, (), self.applied, self.mask))
        return output.clone() if site.name in self.protected else None

    def _on_experts(self, block: Block, module: nn.Module, inputs: Any, output: Any) -> None:
        """What the experts put out together takes the place of what layers inside them put out."""
        tensor = output[0] if isinstance(output, tuple | list) else output
        if self._batch_first(tensor) is not None:
            self.feed_forward.append(_Output(f"{block.name} experts", tensor, (), self.applied, self.mask))

    def _on_embedding(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Read the embeddings, and let gradients reach a first mixer that has no weights before it."""
        leaf = output.detach().requires_grad_(torch.is_grad_enabled())
        self._read_output(_Output("embedding", leaf, ("embedding",), 0, self.masks[0]))
        return leaf.clone()  # which the model may scale in place

    def _read_output(self, output: _Output) -> None:
        """Reduce A now; hold it for J where a reduction reads both."""
        if output.overwritten:
            self.spoilt.add(output.name)
            return
        A = self._batch_first(output.tensor)
        if A is None:
            return
        tensors = {"A": A, "mask": _fitting(output.mask, A)}
        self._reduce("forward", output.places, output.block, output.name, tensors)
        wanted = any(r.moment == "backward" and r.place in output.places for r in self.reductions)
        if wanted and output.tensor.requires_grad:
            key = len(self.held)
            self.held[key] = output
            output.tensor.register_hook(partial(self._on_output_gradient, key))

    def overwritten(self) -> set[str]:
        """The layers whose outputs the model has overwritten before they were read."""
        return self.spoilt | {output.name for output in self.held.values() if output.overwritten}

    # Mixers ------------------------------------------------------------------------------------------

    def _on_mixer_start(self, mixer: Mixer, module: nn.Module, inputs: Any) -> None:
        self.mixer, self.context, self.probabilities, self.heads = mixer, None, None, mixer.heads

    def _on_softmax(self, result: Tensor) -> None:
        if self.mixer is None:
            return
        if result.dim() == 3 and result.shape[0] % self.batch_size == 0 and self.mixer.heads > 1:
            result = result.reshape(self.batch_size, -1, *result.shape[1:])
        if result.dim() == 4 and result.shape[0] == self.batch_size and result.shape[2] in self.lengths:
            if result.shape[3] not in self.lengths and result.shape[3] - 1 in self.lengths:
                result = result[..., :-1]  # an attention sink in the last column is no token
            self.heads, self.probabilities = result.shape[1], result

    def _on_attention(self, heads: int, probabilities: Any) -> None:
        if self.mixer is None:
            return
        self.heads = heads
        if any("S" in r.reads for r in self.reductions):
            self.probabilities = probabilities()

    def _on_mixer_end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        mixer, context, S = self.mixer, self.context, self.probabilities
        self.mixer, self.context, self.probabilities = None, None, None
        mixed = output[0] if isinstance(output, tuple | list) else output
        out = self._batch_first(mixed)
        if mixer is None or out is None:
            return
        mask, block = _fitting(self.mask, out), max(self.applied, 0)
        if S is not None:
            self._reduce("forward", ("attention",), block, mixer.name, {"S": S, "mask": mask})
        if not any(r.place == "mixer" for r in self.reductions):
            return
        if S is None and not (mixer.attention and mixer.heads):
            S = _widened(out.detach()).softmax(-1)
        tensors = {"mask": mask} if S is None else {"S": S, "mask": mask}
        if context is None and not self.heads:  # a mixer without heads or weights: its output is its one head
            context = mixed
        flat = self._batch_first(context)
        if context is not None and flat is not None:
            heads = mixer.head_count(flat.shape[-1], self.heads)
            tensors["H"] = _split_heads(flat, heads)
            if "backward" in self.moments and context.requires_grad:
                H = _split_heads(flat.detach(), heads)
                context.register_hook(partial(self._on_context_gradient, mixer.name, block, H, mask))
        self._reduce("forward", ("mixer",), block, mixer.name, tensors)

    def _on_context_gradient(self, name: str, block: int, H: Tensor, mask: Tensor, gradient: Tensor) -> None:
        dH = self._batch_first(self._unscaled(gradient))
        assert dH is not None
        tensors = {"H": H, "dH": _split_heads(dH, H.shape[1]), "mask": mask}
        self._reduce("backward", ("mixer",), block, name, tensors)

    # The pass as a whole -------------------------------------------------------------------------------

    @contextmanager
    def failing(self, model: PreTrainedModel, *moments: Moment) -> Iterator[None]:
        """If the pass breaks off here, fail the reductions of these moments and keep the others."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self.broken = True
            cause = error
            if not isinstance(error, CaptureError):
                cause = CaptureError(f"{type(model).__name__} does not run on this minibatch: {one_line(error)}")
            for reduction in self.reductions:
                if reduction.moment in moments:
                    self.failures.setdefault(reduction, cause)

    def backward(self, scalar: Tensor) -> None:
        """Differentiate `scalar`; the hooks do the rest."""
        if not scalar.isfinite():
            value = float(scalar.detach())
            raise CaptureError(f"the objective is {value}; check the labels (are all of them -100?) and the dtype")
        if not scalar.requires_grad:
            raise CaptureError(NO_GRADIENT)
        if scalar.dtype == torch.float16 or any(s.dtype == torch.float16 for s in self._parameters()):
            self.loss_scale = FP16_LOSS_SCALE
        (scalar * self.loss_scale).backward()
        if "gradient" in self.moments and not self.reached:
            raise CaptureError(NO_GRADIENT)

    def _parameters(self) -> Iterator[Tensor]:
        for block in self.layout.blocks:
            yield from block.module.parameters()

    def _on_output_gradient(self, key: int, gradient: Tensor) -> None:
        output = self.held.pop(key)
        A, J = self._batch_first(output.tensor.detach()), self._batch_first(self._unscaled(gradient))
        assert A is not None
        assert J is not None
        tensors = {"A": A, "J": J, "mask": _fitting(output.mask, A)}
        self._reduce("backward", output.places, output.block, output.name, tensors)

    # Reducing ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def _reduce(
        self, moment: Moment, places: tuple[str, ...], block: int, site: str, tensors: dict[str, Tensor]
    ) -> None:
        versions = {name: tensor._version for name, tensor in tensors.items()}
        known: dict[object, Tensor] = {}  # a site may lie in several places; a function that reads it runs once
        for reduction in self.reductions:
            ready = reduction.moment == moment and reduction.place in places and tensors.keys() >= set(reduction.reads)
            if not ready or reduction in self.failures:
                continue
            try:
                same = (reduction.function, reduction.reads)
                if same not in known:
                    value = reduction.function(*(_widened(tensors[name]) for name in reduction.reads))
                    known[same] = torch.as_tensor(value).detach()
                self.values[reduction].append(Reduced(block, site, known[same]))
                for name, tensor in tensors.items():
                    if tensor._version != versions[name]:
                        raise CaptureError(f"the reduction writes into {name}, which belongs to the model")
            except Exception as error:  # a proxy's own fault: reported in its row, the others go on
                self.failures[reduction] = error

    def result(self) -> Captured:
        """Everything reduced, in the order of the blocks."""
        ordered = {r: sorted(v, key=lambda reduced: reduced.block) for r, v in self.values.items()}
        return Captured(ordered, self.failures)

    def _unscaled(self, gradient: Tensor) -> Tensor:
        gradient = _widened(gradient.detach())
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
        good = tensor.dim() == 3 and tensor.shape[0] == self.batch_size and tensor.shape[1] in self.lengths
        return tensor if good else None


def _fitting(mask: Tensor, tensor: Tensor) -> Tensor:
    """`mask` if it fits the positions of `tensor` [B, T, d], else all of them."""
    if tensor.shape[:2] == mask.shape:
        return mask
    return torch.ones(tensor.shape[:2], dtype=torch.bool, device=tensor.device)


def _split_heads(context: Tensor, heads: int) -> Tensor:
    """The context [B, T, h * d] of a mixer as [B, h, T, d]."""
    return context.reshape(*context.shape[:2], heads, -1).transpose(1, 2)


def _widened(tensor: Tensor) -> Tensor:
    """`tensor` in at least single precision, so that sums do not lose what bf16 and fp16 would lose."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
