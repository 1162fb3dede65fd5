"""FlexiBERT as a Hugging Face model: its operations against references, sizes, padding, round trips, scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
import torch.nn.functional as F
from lpz_zoo.flexibert import (
    OPERATIONS,
    FlexiBertConfig,
    FlexiBertForMaskedLM,
    FlexiBertModel,
    LayerSpec,
    LinearTransform,
    MixedAttention,
    SelfAttention,
    cosine,
    fourier,
    register,
)
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, ConvBertConfig
from transformers.models.convbert.modeling_convbert import ConvBertSelfAttention

from lpzero_hf import find_layout, load_model, minibatch, score
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduction

HIDDEN, EMBEDDING = 32, 16


def spec(operation: str, heads: int = 4, width: int = 48, count: int = 1) -> LayerSpec:
    return LayerSpec(operation=operation, heads=heads, width=width, count=count)


def config(*layers: LayerSpec, **changes: Any) -> FlexiBertConfig:
    sizes = dict(vocab_size=100, embedding_size=EMBEDDING, hidden_size=HIDDEN, max_position_embeddings=32)
    return FlexiBertConfig(layers=list(layers), **(sizes | changes))


def model(*layers: LayerSpec, **changes: Any) -> FlexiBertForMaskedLM:
    torch.manual_seed(0)
    return FlexiBertForMaskedLM(config(*layers, **changes)).eval()


def mixer(kind: type[nn.Module], layer: LayerSpec) -> Any:
    """A mixer with weights large enough to tell one operation from another."""
    torch.manual_seed(0)
    made = kind(config(layer), layer).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


ALL_SIX = [spec(operation) for operation in OPERATIONS]
IDS = torch.randint(3, 100, (2, 12), generator=torch.Generator().manual_seed(1))
X = torch.randn(2, 7, HIDDEN, generator=torch.Generator().manual_seed(2))
REAL = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


# Hugging Face ---------------------------------------------------------------------------------------------


def test_a_saved_model_comes_back_through_the_auto_classes(tmp_path: Path) -> None:
    register()  # once more than on import
    before = model(*ALL_SIX)
    before.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, FlexiBertConfig)
    assert loaded.layers == ALL_SIX
    assert loaded.num_hidden_layers == 6
    after = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert isinstance(after, FlexiBertForMaskedLM)
    assert torch.equal(after(IDS).logits, before(IDS).logits)
    assert after.lm_head.weight is after.flexibert.embeddings.word_embeddings.weight
    encoder = AutoModel.from_pretrained(tmp_path)
    assert isinstance(encoder, FlexiBertModel)
    assert torch.equal(encoder(IDS).last_hidden_state, before(IDS, output_hidden_states=True).hidden_states[-1])
    again = load_model(str(tmp_path), pretrained=True).model
    assert torch.equal(again(IDS).logits, before(IDS).logits)


def test_architectures_with_other_layers_are_not_equal() -> None:
    assert config(spec("sdp")) == config(spec("sdp"))
    assert config(spec("sdp")) != config(spec("wma"))
    assert FlexiBertConfig().num_hidden_layers == 2


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_parameter_of_every_operation_has_a_finite_gradient(operation: str) -> None:
    trained = model(spec(operation, count=3), spec(operation))
    output = trained(IDS, torch.ones_like(IDS), torch.zeros_like(IDS), labels=IDS)
    expected = F.cross_entropy(output.logits.flatten(0, 1), IDS.flatten())
    assert torch.equal(output.loss, expected)
    output.loss.backward()
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        silent = name.endswith("key.bias")  # softmax takes no notice of what is added to all scores
        assert parameter.grad.norm() > 0 or silent, name


def test_labels_of_minus_100_are_left_out_of_the_loss() -> None:
    labels = IDS.clone()
    labels[:, 3:] = -100
    output = model(spec("dft"))(IDS, labels=labels)
    expected = F.cross_entropy(output.logits[:, :3].flatten(0, 1), IDS[:, :3].flatten())
    torch.testing.assert_close(output.loss, expected)


def test_the_vocabulary_can_be_resized_and_stays_tied() -> None:
    resized = model(spec("sdp"))
    resized.resize_token_embeddings(120)
    assert resized(IDS).logits.shape == (2, 12, 120)
    assert resized.lm_head.weight is resized.get_input_embeddings().weight


def test_more_tokens_than_positions_are_an_error() -> None:
    with pytest.raises(ValueError, match="32 positions"):
        model(spec("sdp"))(torch.ones(1, 33, dtype=torch.long))


# Sizes ----------------------------------------------------------------------------------------------------

H = HIDDEN
MIXER_SIZES = {  # with four heads, so with two of convolution
    "sdp": 4 * (H * H + H),
    "wma": 4 * (H * H + H) + H * H,
    "dft": 2 * (H * H + H),
    "dct": 2 * (H * H + H),
    "conv5": 5 * (H * 16 + 16) + 5 * H + (16 * 10 + 10) + (H * H + H),
    "conv9": 5 * (H * 16 + 16) + 9 * H + (16 * 18 + 18) + (H * H + H),
}


@pytest.mark.parametrize(("width", "count"), [(48, 1), (64, 1), (48, 2), (24, 3)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_layer_has_its_own_width_and_count(operation: str, width: int, count: int) -> None:
    sized = model(spec("sdp", width=40), spec(operation, width=width, count=count))

    def expected(mixing: int, w: int, n: int) -> int:
        return mixing + (H * w + w) + (n - 1) * (w * w + w) + (w * H + H) + 2 * 2 * H

    counts = [sum(p.numel() for p in layer.parameters()) for layer in sized.flexibert.layers]
    assert counts == [expected(MIXER_SIZES["sdp"], 40, 1), expected(MIXER_SIZES[operation], width, count)]
    embeddings = (100 + 32 + 2) * EMBEDDING + 2 * EMBEDDING + (EMBEDDING * H + H)
    head = (H * EMBEDDING + EMBEDDING) + 2 * EMBEDDING + 100  # the decoder's weight is the embeddings'
    assert sum(p.numel() for p in sized.parameters()) == embeddings + sum(counts) + head


def test_embeddings_of_the_hidden_size_are_not_projected() -> None:
    same = model(spec("sdp"), embedding_size=HIDDEN)
    assert not list(same.flexibert.embeddings.project.parameters())
    assert same(IDS).logits.shape == (2, 12, 100)


def test_the_feed_forward_stack_runs_through_all_its_layers() -> None:
    stack = model(spec("sdp", count=3)).flexibert.layers[0].feed_forward
    hidden = X
    for linear in [m for m in stack.modules() if isinstance(m, nn.Linear)][:-1]:
        hidden = F.gelu(F.linear(hidden, linear.weight, linear.bias))
    torch.testing.assert_close(stack(X), F.linear(hidden, stack.output.weight, stack.output.bias))


def test_layers_are_normalised_behind_their_residuals() -> None:
    layer = model(spec("dct")).flexibert.layers[0]
    mixed = F.layer_norm(X + layer.mixer(X, REAL), (H,), eps=1e-12)
    expected = F.layer_norm(mixed + layer.feed_forward(mixed), (H,), eps=1e-12)
    torch.testing.assert_close(layer(X, REAL), expected)


# Operations -----------------------------------------------------------------------------------------------


def test_sdp_is_scaled_dot_product_attention() -> None:
    attention = mixer(SelfAttention, spec("sdp"))
    heads = [f(X).view(2, 7, 4, 8).transpose(1, 2) for f in (attention.query, attention.key, attention.value)]
    context = F.scaled_dot_product_attention(*heads, attn_mask=REAL[:, None, None, :])
    torch.testing.assert_close(attention(X, REAL), attention.output(context.transpose(1, 2).reshape(2, 7, H)))


def test_wma_multiplies_queries_and_keys_through_its_weight() -> None:
    plain, weighted = mixer(SelfAttention, spec("sdp")), mixer(SelfAttention, spec("wma"))
    plain.load_state_dict({k: v for k, v in weighted.state_dict().items() if "similarity" not in k})
    assert not torch.allclose(weighted(X, REAL), plain(X, REAL), atol=1e-3)
    scores = (X @ weighted.query.weight.T + weighted.query.bias) @ weighted.similarity.weight.T
    scores = scores.view(2, 7, 4, 8).transpose(1, 2) @ weighted.key(X).view(2, 7, 4, 8).permute(0, 2, 3, 1)
    weights = (scores / 8**0.5).masked_fill(~REAL[:, None, None, :], -torch.inf).softmax(-1)
    context = weights @ weighted.value(X).view(2, 7, 4, 8).transpose(1, 2)
    torch.testing.assert_close(weighted(X, REAL), weighted.output(context.transpose(1, 2).reshape(2, 7, H)))
    with torch.no_grad():
        weighted.similarity.weight.copy_(torch.eye(H))
    torch.testing.assert_close(weighted(X, REAL), plain(X, REAL))


@pytest.mark.parametrize("tokens", [1, 2, 7, 16])
def test_dft_is_the_real_part_of_the_fourier_transform_over_tokens_and_features(tokens: int) -> None:
    x = torch.randn(2, 3, tokens, 8, dtype=torch.float64)
    np.testing.assert_allclose(fourier(x).numpy(), np.fft.fft2(x.numpy(), axes=(-2, -1)).real, atol=1e-10)


@pytest.mark.parametrize("tokens", [1, 2, 7, 512])
def test_dct_is_the_unnormalised_cosine_transform_of_type_two(tokens: int) -> None:
    x = torch.randn(2, 3, tokens, 8, dtype=torch.float64)
    expected = scipy.fft.dctn(x.numpy(), type=2, axes=(-2, -1), norm="backward")
    np.testing.assert_allclose(cosine(x).numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(cosine(x.float()).numpy(), expected, atol=1e-3)


@pytest.mark.parametrize(("operation", "transform"), [("dft", fourier), ("dct", cosine)])
def test_each_head_is_transformed_by_itself(operation: str, transform: Any) -> None:
    linear = mixer(LinearTransform, spec(operation, heads=2))
    values = linear.input(X) * REAL[..., None]
    context = torch.cat([transform(values[..., :16]), transform(values[..., 16:])], -1)
    torch.testing.assert_close(linear(X, REAL), linear.output(context))


@pytest.mark.parametrize("transform", [fourier, cosine])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_transforms_run_in_half_precision(transform: Any, dtype: torch.dtype) -> None:
    half = transform(X.to(dtype))
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), transform(X), rtol=0.05, atol=0.3)


@pytest.mark.parametrize("span", [5, 9])
def test_mixed_attention_is_that_of_convbert(span: int) -> None:
    ours = mixer(MixedAttention, spec(f"conv{span}"))
    theirs = ConvBertSelfAttention(
        ConvBertConfig(hidden_size=H, num_attention_heads=4, head_ratio=2, conv_kernel_size=span)
    ).eval()
    names = dict(query="query", key="key", value="value", kernel="conv_kernel_layer", span_value="conv_out_layer")
    for mine, other in names.items():
        theirs.get_submodule(other).load_state_dict(ours.get_submodule(mine).state_dict())
    separable = theirs.key_conv_attn_layer
    with torch.no_grad():
        separable.depthwise.weight.copy_(ours.depthwise.weight)
        separable.pointwise.weight.copy_(ours.pointwise.weight[..., None])
        separable.bias.copy_(ours.pointwise.bias[:, None])
    torch.testing.assert_close(ours(X, torch.ones_like(REAL)), ours.output(theirs(X)[0]))


@pytest.mark.parametrize("span", [5, 9])
def test_the_convolution_reaches_exactly_its_span(span: int) -> None:
    convolution = mixer(MixedAttention, spec(f"conv{span}"))
    x = torch.randn(1, 21, H, requires_grad=True)
    convolution.convolve(convolution.query(x), x, torch.ones(1, 21, 1))[0, 10].sum().backward()
    assert x.grad is not None
    reached = x.grad[0].norm(dim=-1).nonzero().flatten().tolist()
    assert reached == list(range(10 - span // 2, 10 + span // 2 + 1))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_can_be_differentiated_twice(operation: str) -> None:
    layer = model(spec(operation, heads=2, width=4), hidden_size=8).double().flexibert.layers[0].mixer
    x = torch.randn(1, 5, 8, dtype=torch.float64, requires_grad=True)
    real = torch.tensor([[True] * 4 + [False]])
    assert torch.autograd.gradcheck(lambda v: layer(v, real), (x,))
    assert torch.autograd.gradgradcheck(lambda v: layer(v, real), (x,))


# Padding --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_padding_holds_changes_nothing_elsewhere(operation: str) -> None:
    layers = spec(operation), spec(operation)
    padded, mask, other = model(*layers), torch.ones_like(IDS), IDS.clone()
    mask[:, 8:] = 0
    other[:, 8:] = 5
    with torch.no_grad():
        for block in padded.flexibert.layers:
            for parameter in block.mixer.parameters():
                parameter.normal_(std=0.3)
        torch.testing.assert_close(padded(IDS, mask).logits[:, :8], padded(other, mask).logits[:, :8])
        assert not torch.allclose(padded(IDS).logits[:, :8], padded(other).logits[:, :8], atol=1e-3)
        shorter = padded(IDS[:, :8]).logits
        length_counts = operation in ("dft", "dct")
        assert torch.allclose(padded(IDS, mask).logits[:, :8], shorter, atol=1e-5) is not length_counts


# Configurations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "'layers'"),
        (None, "'layers'"),
        ([spec("sdp"), spec("sdq")], "layer 1 .*'sdq'"),
        ([spec("sdp", heads=3)], "layer 0 .*3 heads"),
        ([spec("dft", heads=5)], "5 heads"),
        ([spec("conv5", heads=1)], "even number"),
        ([spec("sdp", heads=0)], "heads is 0"),
        ([spec("sdp", width=-1)], "width is -1"),
        ([spec("sdp", count=0)], "count is 0"),
        ([{"operation": "sdp"}], "no layer"),
        (["sdp"], "'sdp'"),
    ],
)
def test_a_layer_that_cannot_be_built_is_an_error_with_its_remedy(layers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        FlexiBertConfig(hidden_size=32, layers=layers)
    assert "\n" not in str(caught.value)


# Scores ---------------------------------------------------------------------------------------------------


def test_the_layout_has_one_block_per_layer_with_its_mixer_and_heads() -> None:
    layout = find_layout(model(*ALL_SIX, spec("dft", heads=2), spec("conv9", heads=2)))
    assert [block.name for block in layout.blocks] == [f"flexibert.layers.{i}" for i in range(8)]
    assert [m.name for m in layout.mixers] == [f"flexibert.layers.{i}.mixer" for i in range(8)]
    assert [m.heads for m in layout.mixers] == [4] * 6 + [2, 2]
    kinds = dict(sdp=SelfAttention, wma=SelfAttention, dft=LinearTransform, dct=LinearTransform)
    assert [type(m.module) for m in layout.mixers[:6]] == [kinds.get(o, MixedAttention) for o in OPERATIONS]
    assert [m.attention for m in layout.mixers[:6]] == [True, True, False, False, True, True]


@pytest.mark.parametrize("tokens", [2, 5, 9])
def test_only_softmax_over_keys_is_taken_for_attention(tokens: int) -> None:
    """As many tokens as heads of convolution, or as its span, so that kernels could pass for attention."""
    six = model(*ALL_SIX, vocab_size=4200)
    shapes: list[tuple[int, ...]] = []

    def look(S: Tensor) -> Tensor:
        shapes.append(tuple(S.shape))
        torch.testing.assert_close(S.sum(-1), torch.ones(S.shape[:-1]))
        return torch.zeros(())

    reduction = Reduction("attention", ("S",), look)
    captured = capture(six, minibatch(six, batch_size=2, seq_len=tokens), [reduction], find_layout(six))
    assert not captured.failures
    assert [value.block for value in captured.values[reduction]] == [0, 1, 4, 5]
    assert shapes == [(2, 4, tokens, tokens)] * 2 + [(2, 2, tokens, tokens)] * 2  # half of a convolution's heads attend


def test_contexts_of_all_operations_have_their_heads() -> None:
    six = model(*ALL_SIX, vocab_size=4200)
    sizes: list[tuple[int, ...]] = []

    def look(H: Tensor, dH: Tensor) -> Tensor:
        sizes.append(tuple(H.shape))
        return dH.norm()

    reduction = Reduction("mixer", ("H", "dH"), look)
    captured = capture(six, minibatch(six, batch_size=2, seq_len=8), [reduction], find_layout(six))
    assert sizes == [(2, 4, 8, 8)] * 6
    assert all(float(reduced.value) > 0 for reduced in captured.values[reduction])


def test_every_proxy_has_a_finite_score_on_a_model_of_all_operations() -> None:
    six = model(*ALL_SIX, vocab_size=4200)
    scores = score(six, minibatch(six, batch_size=4, seq_len=12), "all")
    assert {row.proxy: row.reason for row in scores.rows if row.status != "ok"} == {}
    assert all(row.value is not None and math.isfinite(row.value) for row in scores.rows)
    assert scores["num_layers"].value == 6
    assert scores["num_heads"].value == 24


@pytest.mark.parametrize("operation", ["dft", "dct"])
def test_a_model_without_attention_lacks_attention_confidence_alone(operation: str) -> None:
    plain = model(spec(operation), spec(operation, heads=2), vocab_size=4200)
    scores = score(plain, minibatch(plain, batch_size=4, seq_len=12), "all")
    assert {row.proxy for row in scores.rows if row.status == "not applicable"} == {"attention_confidence"}
    assert {row.status for row in scores.rows} == {"ok", "not applicable"}
    assert scores["num_heads"].value == 6
