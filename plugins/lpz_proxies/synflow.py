"""The network that SynFlow is computed on, in which gradients only follow paths of weights.

SynFlow's argument needs a network that is a sum over paths of products of positive weights. A
transformer is not, so the pass runs on one that is as close as can be stated: every parameter is replaced
by its absolute value, in double precision; the input embedding returns ones; a normalisation layer only
divides each token by its root mean square, which is held constant in the backward pass (without it, gated
layers multiply positive activations until they overflow within a few blocks); attention is uniform over
all positions, so that values flow but queries and keys have no effect; a log-softmax returns its input, so
that a head which normalises counts as one that does not. Activation functions and gates stay. Nothing is
dropped or masked. Constants of the model are double as well, wherever it keeps or makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from lpzero_hf.capture.attention import SOFTMAXES
from lpzero_hf.models.embeddings import input_embeddings
from lpzero_hf.models.kernels import plain_kernels
from lpzero_hf.models.layout import ModelLayout
from lpzero_hf.models.objective import Batch, first_output, padding_token, run_model, with_labels
from lpzero_hf.models.padding import without_padding
from lpzero_hf.models.snapshot import Snapshot


def positive(parameter: Tensor) -> Tensor:
    """The absolute value in double precision."""
    return parameter.abs().double() if parameter.is_floating_point() else parameter


def one_sequence(model: PreTrainedModel, batch: Batch, seed: int) -> Batch:
    """One sequence of the minibatch's length without padding and mask; which token fills it does not matter."""
    cut = without_padding(batch, padding_token(model))
    ids = torch.full_like(cut["input_ids"][:1], ordinary_token(model)).to(model.device)
    fed = with_labels(model, {"input_ids": ids}, seed)
    return {name: value for name, value in fed.items() if name != "labels"}


def ordinary_token(model: PreTrainedModel) -> int:
    """The smallest id that has no special meaning to the model, such as padding."""
    config = model.config.get_text_config()
    special = {value for name, value in vars(config).items() if name.endswith(SPECIAL) and isinstance(value, int)}
    return next(token for token in range(len(special) + 1) if token not in special)


def output_sum(model: PreTrainedModel, batch: Batch, seed: int) -> Tensor:
    """R, the sum of the model's output (logits, or hidden states of a headless model)."""
    return first_output(run_model(model, batch)).sum()


def mean_value(query: Tensor, key: Tensor, value: Tensor, *unused: Any, **unused_too: Any) -> Tensor:
    """The output of uniform attention: the mean of `value` [B, h, T, d] over tokens, at every query."""
    value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    return value.mean(-2, keepdim=True).expand(*query.shape[:-1], -1)


def rescale(x: Tensor) -> Tensor:
    """x [..., d] over its root mean square, a constant to the backward pass."""
    return x / x.detach().square().mean(-1, keepdim=True).sqrt().clamp_min(1e-12)


SPECIAL = ("_token_id", "pad_index", "unk_index", "mask_index", "bos_index", "eos_index")
SINGLE = {torch.float32, torch.float16, torch.bfloat16}
TO_SINGLE = {Tensor.float, Tensor.half, Tensor.bfloat16}
LOG_SOFTMAXES = (F.log_softmax, torch.log_softmax, Tensor.log_softmax)


def _doubled(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in SINGLE else value


class NoSoftmax(TorchFunctionMode):
    """Replaces attention probabilities, inside mixers only, by 1/T, and log-softmaxes by their input.

    Whatever asks for a lower precision gets double.
    """

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = {name: _doubled(value) for name, value in (kwargs or {}).items()}
        func, args = (Tensor.double if func in TO_SINGLE else func), tuple(map(_doubled, args))
        if self.depth and func is F.scaled_dot_product_attention:
            return mean_value(*args, **kwargs)
        if func in LOG_SOFTMAXES:
            return kwargs["input"] if "input" in kwargs else args[0]
        result = func(*args, **kwargs)
        if self.depth and func in SOFTMAXES and result.dim() >= 3:
            return torch.full_like(result, 1 / result.shape[-1])
        return result


@contextmanager
def linear_network(model: PreTrainedModel, layout: ModelLayout) -> Iterator[None]:
    """The model with the replacements that the module's docstring states."""
    no_softmax = NoSoftmax()

    def enter(module: nn.Module, inputs: Any) -> None:
        no_softmax.depth += 1

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        no_softmax.depth -= 1

    Snapshot(model).exchange(_constant)
    for module in model.modules():
        if "norm" in type(module).__name__.lower() and not any(True for _ in module.children()):
            module.register_forward_hook(lambda module, inputs, output: rescale(inputs[0]))
    for mixer in layout.mixers:
        mixer.module.register_forward_pre_hook(enter)
        mixer.module.register_forward_hook(leave)
    for embedding in input_embeddings(model):
        embedding.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with plain_kernels(model), no_softmax:
            yield
    finally:
        torch.set_default_dtype(before)


def _constant(tensor: Tensor) -> Tensor:
    """A buffer or another tensor of a model in double precision; its parameters have it already."""
    single = tensor.is_floating_point() and not isinstance(tensor, nn.Parameter)
    return tensor.double() if single else tensor
