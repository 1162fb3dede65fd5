"""Proxies that count parameters, blocks, heads and operations: the baselines of all other proxies."""

from __future__ import annotations

from lpzero_hf.errors import NotApplicable
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import ModelProxy, Proxy, Subject

LITE = "Javaheripi et al., LiteTransformerSearch, NeurIPS 2022, arXiv:2203.02094"
DEEP = "Tay et al., Scale Efficiently, ICLR 2022, arXiv:2109.10686"
LAWS = "Kaplan et al., Scaling Laws for Neural Language Models, 2020, arXiv:2001.08361"
WIDEST = 10**6


def params(subject: Subject) -> float:
    """Parameters of the whole model, trained or frozen, tied weights once."""
    from lpzero_hf.models.layout import count_parameters

    return count_parameters(subject.model)


def decoder_params(subject: Subject) -> float:
    """Parameters outside embeddings and output heads (poolers too), trained or frozen."""
    from lpzero_hf.models.body_parameters import count_body_parameters

    return count_body_parameters(subject.model, subject.layout)


def attention_params(subject: Subject) -> float:
    """Parameters of the mixer modules with all they hold (biases, and norms where a family puts them there), trained or
    frozen."""
    from lpzero_hf.models.layout import count_parameters

    mixers = subject.layout.mixers
    if not mixers:
        raise NotApplicable("no mixer module was found in the blocks")
    return count_parameters(*(mixer.module for mixer in mixers))


def num_layers(subject: Subject) -> float:
    """Blocks that a forward pass applies; a shared block counts as often as it is applied."""
    return subject.layout.depth


def num_heads(subject: Subject) -> float:
    """Attention heads over all applied blocks (query heads, where keys are shared)."""
    heads = sum(mixer.heads for mixer in subject.layout.mixers)
    if not heads:
        raise NotApplicable("the mixers of this model have no heads")
    return heads * subject.layout.repeats


def hidden_size(subject: Subject) -> float:
    """Features of each token between the blocks, of the text part of a composite model."""
    from lpzero_hf.models.width import hidden_width

    return hidden_width(subject.model.config, subject.layout)


def depth_then_width(subject: Subject) -> float:
    """Number of layers, and a millionth for each unit of the hidden size: 12 layers of 768 are 12.000768.

    It sorts by depth, and models of one depth by width: at a given size, depth tells more than width (Tay et al.).
    """
    width = hidden_size(subject)
    if width >= WIDEST:
        raise NotApplicable(f"a hidden size of {width:,.0f} does not fit behind the point")
    return num_layers(subject) + width / WIDEST


def depth_width2(subject: Subject) -> float:
    """Number of layers times the square of the hidden size, to which the parameters of usual blocks are proportional:
    12 L d^2 (Kaplan et al.), whatever widths a space gives its attention and feed-forward parts."""
    return num_layers(subject) * hidden_size(subject) ** 2


def flops(subject: Subject) -> float:
    """Multiply-accumulates of one forward pass over the minibatch.

    Counted by `torch.utils.flop_counter` on the first sequence and multiplied by the batch size. Only
    matrix products and convolutions count; attention is counted in full, without the saving of causal
    kernels. Of a mixture of experts, those count that a token is sent to. The pass computes only shapes, and each
    kind of block runs once; a model whose control flow depends on values runs whole.
    """
    from lpzero_hf.models.flop_count import forward_flops

    one = {k: v[:1] if isinstance(v, torch.Tensor) else v for k, v in subject.batch.items()}
    return forward_flops(subject.model, one, subject.layout, subject.seed) / 2 * len(subject.batch["input_ids"])


PROXIES: list[Proxy] = [
    ModelProxy(
        name="params", formula="parameters", version="2", batch_order_invariant=True, evaluate=params, shapes_only=True
    ),
    ModelProxy(
        name="decoder_params",
        formula="parameters outside embeddings and output head",
        citation=LITE,
        version="2",
        batch_order_invariant=True,
        evaluate=decoder_params,
        shapes_only=True,
    ),
    ModelProxy(
        name="attention_params",
        formula="parameters of the mixers",
        citation=LITE,
        batch_order_invariant=True,
        evaluate=attention_params,
        shapes_only=True,
    ),
    ModelProxy(
        name="num_layers", formula="blocks applied", batch_order_invariant=True, evaluate=num_layers, shapes_only=True
    ),
    ModelProxy(
        name="hidden_size",
        formula="features of a token",
        batch_order_invariant=True,
        evaluate=hidden_size,
        shapes_only=True,
    ),
    ModelProxy(
        name="depth_then_width",
        formula="layers, then hidden size",
        citation=DEEP,
        batch_order_invariant=True,
        evaluate=depth_then_width,
        shapes_only=True,
    ),
    ModelProxy(
        name="depth_width2",
        formula="layers x hidden size^2",
        citation=LAWS,
        batch_order_invariant=True,
        evaluate=depth_width2,
        shapes_only=True,
    ),
    ModelProxy(
        name="num_heads",
        formula="heads over all blocks applied",
        batch_order_invariant=True,
        evaluate=num_heads,
        shapes_only=True,
    ),
    ModelProxy(
        name="flops",
        formula="multiply-accumulates of one forward",
        batch_order_invariant=True,
        evaluate=flops,
        shapes_only=True,
        needs="1 short forward",
    ),
]
