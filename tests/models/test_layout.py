"""One generic detection reads every family: blocks, linear layers, heads, shared layers, experts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    BartConfig,
    BartForCausalLM,
    BartModel,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    PreTrainedModel,
    T5EncoderModel,
    T5Model,
)

from lpzero_hf import minibatch, score
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import CaptureError, LayoutError
from lpzero_hf.models.body_parameters import count_body_parameters
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import find_layout, layout_of
from lpzero_hf.models.objective import objective, real_targets, with_labels
from tests.support.families import FAMILIES, tiny_model
from tests.support.small_configs import small_config

# What a family does not have, and why; every other proxy must give a finite score on every family.
FUSED = {"nwot", "activation_distance", "activation_distance_lpzero", "w_pca_code"}  # experts run fused
NO_FEED_FORWARD = FUSED | {
    "synaptic_saliency",
    "synaptic_saliency_lpzero",
    "dss",
    "w_pca",
    "v_pca",
    "meco",
    "lpzero-any",
}
NOT_APPLICABLE = {
    "mixtral": FUSED,
    "qwen3_moe": FUSED,
    "qwen2_moe": FUSED,
    "gpt_oss": FUSED,
    "rwkv": {
        "num_heads",
        "attention_confidence",
        "nsc_expected",
        "lpzero-any",  # of which nsc_expected is a member
    },  # attention without heads or softmax; orthogonal weights
    "mobilebert": {"meco"},  # its last feed-forward layer has more outputs than inputs, which depend on each other
    "xlnet": {"head_importance", "lpzero-flexibert", "lpzero-gpt2", "lpzero-any"},  # projects its heads with einsum
    "fnet": {"num_heads", "synaptic_diversity", "dss", "attention_confidence"},  # mixes without weights
    "mamba": NO_FEED_FORWARD | {"num_heads", "attention_confidence"},
    "mamba2": NO_FEED_FORWARD | {"attention_confidence"},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_finite_scores(family: str) -> None:
    model = tiny_model(family)
    scores = score(model, minibatch(model, batch_size=4, seq_len=16), "all")
    missing = {name for name, row in scores.items() if row.status == "not applicable"}
    assert {name: row.reason for name, row in scores.items() if row.status in ("failed", "invalid")} == {}
    assert missing == NOT_APPLICABLE.get(family, set())
    assert all(row.value is not None and math.isfinite(row.value) for n, row in scores.items() if n not in missing)
    assert scores["num_layers"].value == {"albert": 3, "t5": 4, "bart": 4, "pegasus": 4}.get(family, 2)


def count(value: float) -> Tensor:
    return torch.tensor(float(value))


def total(model: PreTrainedModel, batch: dict[str, Tensor], reduction: Reduction) -> list[tuple[int, float]]:
    """The values of one reduction over a model."""
    layout = layout_of(model)
    captured = capture(model, batch, [reduction], layout)
    assert not captured.failures
    return [(block, float(value)) for block, _, value in captured.values[reduction]]


def test_shared_layers_count_weights_once_and_activations_at_each_use(batch: dict[str, Tensor]) -> None:
    model = tiny_model("albert")  # one block, applied three times
    weights = total(model, batch, Reduction("linear", ("W", "G"), lambda W, G: count(W.numel())))
    block = model.albert.encoder.albert_layer_groups[0]
    linears = [m for m in block.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(value for _, value in weights) == sum(m.weight.numel() for m in linears)
    outputs = total(model, batch, Reduction("linear", ("A",), lambda A: count(1)))
    assert [b for b, _ in outputs] == [0] * 3 * len(linears)  # the block of their weights


def test_a_shared_layers_gradient_is_the_sum_over_its_uses(batch: dict[str, Tensor]) -> None:
    model = tiny_model("albert")
    norms = total(model, batch, Reduction("linear", ("G",), lambda G: G.double().norm()))
    with_labels_ = with_labels(model, batch, 42)
    model(**with_labels_).loss.backward()
    block = model.albert.encoder.albert_layer_groups[0]
    expected = [float(m.weight.grad.double().norm()) for m in block.modules() if isinstance(m, torch.nn.Linear)]
    assert sorted(v for _, v in norms) == pytest.approx(sorted(expected), rel=1e-5)


def test_each_expert_counts_once_as_a_matrix_out_in(batch: dict[str, Tensor]) -> None:
    model = tiny_model("mixtral")
    shapes: list[tuple[int, ...]] = []

    def note(W: Tensor, G: Tensor) -> Tensor:
        assert W.shape == G.shape
        shapes.append(tuple(W.shape))
        return count(W.numel())

    values = total(model, batch, Reduction("ffn_linear", ("W", "G"), note))
    experts = model.model.layers[0].mlp.experts
    assert shapes.count((2 * 48, 32)) == shapes.count((32, 48)) == 2 * 4  # blocks times experts
    assert shapes.count((4, 32)) == 2  # the routers
    expected = 2 * (experts.gate_up_proj.numel() + experts.down_proj.numel() + 4 * 32)
    assert sum(value for _, value in values) == expected


def test_experts_that_keep_their_weights_as_in_out_are_read_as_out_in() -> None:
    model = tiny_model("gpt_oss")
    experts = [site for site in find_layout(model).sites if site.parameter.dim() == 3]
    assert len(experts) == 2 * 2  # blocks times projections
    for site in experts:
        matrices = site.matrices(site.parameter)
        assert [tuple(matrix.shape) for matrix in matrices] == [(*site.parameter.shape[:0:-1],)] * len(site.names)
        assert all(torch.equal(matrix, weight.T) for matrix, weight in zip(matrices, site.parameter, strict=True))


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe", "deepseek_v3", "gpt_oss"])
def test_the_feed_forward_output_of_experts_is_what_they_put_out_together(family: str) -> None:
    model = tiny_model(family)
    batch = minibatch(model, batch_size=2, seq_len=8)
    mixture = model.model.layers[1].mlp
    outputs: list[Tensor] = []

    def keep(module: object, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append((output[0] if isinstance(output, tuple) else output).detach().reshape(2, 8, 32).clone())

    handle = mixture.register_forward_hook(keep)
    with torch.no_grad():
        model(**batch)
    handle.remove()
    values = total(model, batch, Reduction("ffn_output", ("A",), lambda A: A.double().square().sum()))
    assert [block for block, _ in values] == [0, 1]
    assert values[1][1] == pytest.approx(float(outputs[0].double().square().sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("family", "mixer"),
    [
        ("gpt_oss", "self_attn"),
        ("roberta-prelayernorm", "attention"),
        ("mobilebert", "layer.0.attention"),
        ("mamba", "mixer"),
        ("xlm", "attentions.0"),
    ],
)
def test_mixers_are_told_by_whole_words_of_their_names(family: str, mixer: str) -> None:
    """GptOssMLP holds no state space model, and a family called PreLayerNorm does have attention."""
    layout = layout_of(tiny_model(family))
    assert [m.name.endswith(mixer) for m in layout.blocks[0].mixers] == [True]
    assert {site.part for site in layout.weights} == ({"mixer"} if family == "mamba" else {"mixer", "ffn"})


def test_attention_that_cannot_be_seen_is_not_called_absent(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    def fused(
        module: object, query: Tensor, key: Tensor, value: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, None]:
        return value.transpose(1, 2), None

    AttentionInterface.register("lpz-test-fused", fused)
    gpt2.set_attn_implementation("lpz-test-fused")
    scores = score(gpt2, batch, ["attention_confidence", "softmax_confidence", "head_importance"])
    assert [row.status for row in scores.rows] == ["not applicable", "not applicable", "ok"]
    assert "attn_implementation='sdpa'" in scores["attention_confidence"].reason


def test_attention_sinks_are_no_keys() -> None:
    model = tiny_model("gpt_oss")
    sizes: list[torch.Size] = []

    def look(S: Tensor) -> Tensor:
        sizes.append(S.shape)
        return count(0)

    total(model, minibatch(model, batch_size=2, seq_len=8), Reduction("attention", ("S",), look))
    assert sizes == [(2, 4, 8, 8)] * 2


def test_the_column_of_the_sink_is_cut_and_no_other() -> None:
    model = tiny_model("gpt_oss")
    seen: list[Tensor] = []

    def look(S: Tensor) -> Tensor:
        seen.append(S.clone())
        return count(0)

    total(model, minibatch(model, batch_size=2, seq_len=8), Reduction("attention", ("S",), look))
    for S in seen:
        assert not bool(S.triu(1).any())  # no token sees a later one
        assert bool((S.diagonal(dim1=-2, dim2=-1) > 0).all())  # and every one sees itself
        assert bool((S.sum(-1) < 1).all())  # the rest is the sink's


@pytest.mark.parametrize("length", [5, 8])
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_decoder_has_the_mask_of_its_targets_and_an_encoder_that_of_its_input(family: str, length: int) -> None:
    model = tiny_model(family)
    batch = minibatch(model, batch_size=2, seq_len=8)
    batch["attention_mask"][0, 6:] = 0
    batch["labels"] = torch.randint(3, 4000, (2, length), generator=torch.Generator().manual_seed(3))
    batch["labels"][1, 3:] = -100
    seen: list[Tensor] = []

    def look(S: Tensor, mask: Tensor) -> Tensor:
        seen.append(mask.clone())
        return count(0)

    total(model, batch, Reduction("attention", ("S", "mask"), look))
    inputs, targets = batch["attention_mask"].bool(), batch["labels"] != -100
    layers = layout_of(model).depth // 2
    assert len(seen) >= 2 * layers > 0
    assert all(torch.equal(mask, inputs) for mask in seen[:layers])
    assert all(torch.equal(mask, targets) for mask in seen[layers:])


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_padding_of_a_decoder_is_no_target(family: str) -> None:
    model = tiny_model(family)
    batch = minibatch(model, batch_size=2, seq_len=8)
    batch["attention_mask"][1, 5:] = 0
    made = with_labels(model, batch, 42)
    real = batch["attention_mask"].bool()
    assert torch.equal(real_targets(made), real)
    assert torch.equal(made["labels"] != -100, real)
    with torch.no_grad():  # by hand: the mean over the real targets alone
        logits = model(**{name: made[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}).logits
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), made["input_ids"], reduction="none")
        assert float(objective(model, made, 42)) == pytest.approx(float(losses[real].mean()), rel=1e-5)
    told = made | {"decoder_attention_mask": torch.ones(2, 8, dtype=torch.long).index_fill(1, torch.tensor([7]), 0)}
    assert torch.equal(real_targets(told), told["decoder_attention_mask"].bool())
    unlabelled = {name: made[name] for name in ("input_ids", "attention_mask", "decoder_input_ids")}
    assert bool(real_targets(unlabelled).all())


def test_halves_of_blocks_in_two_lists_are_both_read() -> None:
    model = tiny_model("xlm")
    layout = layout_of(model)
    assert layout.depth == 2
    assert len(layout.weights) == 2 * (4 + 2)
    scores = score(model, minibatch(model, batch_size=2, seq_len=8), "num_heads")
    assert scores["num_heads"].require() == 8


def test_a_decoder_cut_out_of_a_pair_counts_its_own_blocks(batch: dict[str, Tensor]) -> None:
    config = BartConfig(
        vocab_size=4200, d_model=32, encoder_layers=6, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48
    )
    assert score(BartForCausalLM(config), batch, "num_layers")["num_layers"].require() == 2


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_decoders_own_labels_are_what_it_is_fed(family: str) -> None:
    model = tiny_model(family)
    batch = minibatch(model, batch_size=2, seq_len=8)
    batch["labels"] = torch.randint(3, 4000, (2, 5), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = objective(model, with_labels(model, batch, 42), 42)
        assert torch.equal(ours, model(**batch).loss)
    assert score(model, batch, "snip")["snip"].status == "ok"


def test_a_subclass_keeps_the_loss_of_its_parent(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    class Mine(GPT2LMHeadModel):
        pass

    mine = Mine(gpt2.config)
    mine.load_state_dict(gpt2.state_dict())
    assert score(mine, batch, "snip")["snip"].value == score(gpt2, batch, "snip")["snip"].value


@pytest.mark.parametrize("make", [T5Model, T5EncoderModel, BartModel])
def test_headless_encoder_decoders_are_scored(make: type[PreTrainedModel], batch: dict[str, Tensor]) -> None:
    model = make(tiny_model("bart" if make is BartModel else "t5").config)
    scores = score(model, batch, "all")
    assert [row.reason for row in scores.rows if row.status in ("failed", "invalid")] == []


def test_scores_work_inside_no_grad_and_inference_mode(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    names = ["snip", "grasp", "synflow", "zico"]
    expected = [row.value for row in score(gpt2, batch, names).rows]
    with torch.no_grad():
        assert [row.value for row in score(gpt2, batch, names).rows] == expected
    with torch.inference_mode():
        assert [row.value for row in score(gpt2, batch, names).rows] == expected


def test_a_broken_pass_fails_only_what_it_did_not_reach(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    ignored = batch | {"labels": torch.full_like(batch["input_ids"], -100)}
    scores = score(gpt2, ignored, ["snip", "l2_norm", "attention_confidence", "fisher"])
    assert [row.status for row in scores.rows] == ["failed", "ok", "ok", "failed"]
    assert "nan" in scores["snip"].reason


def test_every_linear_layer_of_a_block_is_found_once(batch: dict[str, Tensor]) -> None:
    for family in ("llama", "bert", "t5", "deberta-v2", "falcon"):
        model = tiny_model(family)
        layout = find_layout(model)
        expected = {
            id(m.weight) for block in layout.blocks for m in block.module.modules() if isinstance(m, torch.nn.Linear)
        }
        assert {id(site.parameter) for site in layout.weights} == expected
        assert len(layout.weights) == len(expected)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5", "gemma2", "qwen3"])
def test_attention_seen_through_sdpa_equals_the_models_own_eager_attention(family: str, padded: bool) -> None:
    model = tiny_model(family)
    batch = minibatch(model, batch_size=3, seq_len=10)
    batch["attention_mask"][0, 7:] = int(not padded)
    seen: list[Tensor] = []

    def keep(S: Tensor) -> Tensor:
        seen.append(S.clone())
        return count(0)

    total(model, batch, Reduction("attention", ("S",), keep))
    model.set_attn_implementation("eager")
    fed = with_labels(model, batch, 42)
    with torch.no_grad():
        out = model(**fed, output_attentions=True, use_cache=False)
    if "encoder_attentions" in out:
        decoder = zip(out.decoder_attentions, out.cross_attentions, strict=True)
        expected = [*out.encoder_attentions, *(a for pair in decoder for a in pair)]
    else:
        expected = list(out.attentions)
    if not expected:
        pytest.skip(f"this release of transformers returns no attentions of {family}")
    assert len(seen) == len(expected)
    for ours, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-4)


def test_outputs_that_the_model_overwrites_are_read_as_the_layer_made_them() -> None:
    """Falcon adds the attention output into the feed-forward output in place."""
    model = tiny_model("falcon")
    batch = minibatch(model, batch_size=2, seq_len=8)
    last = model.transformer.h[0].mlp.dense_4h_to_h
    outputs: list[Tensor] = []
    handle = last.register_forward_hook(lambda m, i, output: outputs.append(output.detach().clone()))
    with torch.no_grad():
        model(**batch)
    handle.remove()
    values = total(model, batch, Reduction("ffn_output", ("A", "J"), lambda A, J: A.double().square().sum()))
    assert values[0] == (0, pytest.approx(float(outputs[0].double().square().sum()), rel=1e-6))


@pytest.mark.parametrize("make", [lambda: BertModel(_BERT), lambda: GPT2Model(_GPT2)], ids=["bert", "gpt2"])
def test_a_headless_model_has_gradients_behind_its_layer_norm(make: object, batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    model = make()  # type: ignore[operator]
    assert score(model, batch, "grad_norm")["grad_norm"].require() > 1e-3


_BERT = BertConfig(vocab_size=4200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
_GPT2 = GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=4200, n_positions=64, bos_token_id=2, eos_token_id=2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_scores_are_near_those_of_single(
    dtype: torch.dtype, tolerance: float, gpt2: PreTrainedModel, batch: dict[str, Tensor]
) -> None:
    names = ["grad_norm", "snip", "l2_norm", "fisher", "head_importance", "attention_confidence"]
    full, half = score(gpt2, batch, names), score(gpt2, batch, names, dtype=dtype)
    assert gpt2.dtype == torch.float32
    for name in names:
        assert half[name].require() == pytest.approx(full[name].require(), rel=tolerance), name
        assert half[name].value != full[name].value or name == "l2_norm"
    assert score(gpt2, batch, "synflow", dtype=dtype)["synflow"].value == score(gpt2, batch, "synflow")["synflow"].value


def test_gradients_are_freed_as_they_are_reduced(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    """While one gradient is being reduced, no weight holds on to another."""
    held: list[int] = []

    def look(G: Tensor) -> Tensor:
        held.append(sum(p.grad is not None for p in gpt2.parameters()))
        return count(0)

    total(gpt2, batch, Reduction("linear", ("G",), look))
    assert held == [0] * 8


def test_a_weight_tied_across_blocks_counts_once(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    first, second = (block.mlp.c_fc for block in gpt2.transformer.h)
    second.weight = first.weight
    weights = total(gpt2, batch, Reduction("linear", ("W", "G"), lambda W, G: count(1)))
    outputs = total(gpt2, batch, Reduction("linear", ("A",), lambda A: count(1)))
    assert [block for block, _ in weights] == [0] * 4 + [1] * 3
    assert [block for block, _ in outputs] == [0] * 4 + [1] * 4


def test_a_layer_shared_by_two_blocks_is_read_once_at_each_use(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    first, second = (block.mlp for block in gpt2.transformer.h)
    second.c_fc = first.c_fc
    outputs = total(gpt2, batch, Reduction("linear", ("A",), lambda A: count(1)))
    assert [block for block, _ in outputs] == [0] * 4 + [1] * 4


def test_an_embedding_is_no_router_whatever_its_name(gpt2: PreTrainedModel) -> None:
    gpt2.transformer.h[0].mlp.aggregate = torch.nn.Embedding(4, 32)
    gpt2.transformer.h[0].mlp.gate = torch.nn.Embedding(4, 32)
    assert len(find_layout(gpt2).weights) == 8


def test_gradients_reach_a_first_mixer_without_weights() -> None:
    model = tiny_model("fnet")
    values = total(model, minibatch(model, batch_size=2, seq_len=8), Reduction("mixer", ("dH",), lambda dH: dH.norm()))
    assert [block for block, _ in values] == [0, 1]
    assert all(value > 0 for _, value in values)


def test_frozen_models_still_have_gradient_scores(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    expected = score(gpt2, batch, "snip")["snip"].value
    gpt2.requires_grad_(False)
    assert score(gpt2, batch, "snip")["snip"].value == expected


def test_labels_that_are_all_ignored_are_no_silent_zero(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    row = score(gpt2, batch | {"labels": torch.full_like(batch["input_ids"], -100)}, "snip")["snip"]
    assert row.status in ("failed", "invalid")


def test_a_model_without_blocks_is_an_error_that_names_the_hook(batch: dict[str, Tensor]) -> None:
    class Bare(GPT2Model):
        def __init__(self, config: GPT2Config) -> None:
            super().__init__(config)
            del self.h

    with pytest.raises(LayoutError, match="lpz_model_layout"):
        score(Bare(_GPT2), batch, "snip")


def test_an_objective_that_no_block_can_change_is_an_error(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    gpt2.transformer.h[1].register_forward_hook(lambda m, i, o: o.detach() if isinstance(o, Tensor) else o[0].detach())
    gradient, weight = Reduction("linear", ("G",), lambda G: G.sum()), Reduction("linear", ("W",), lambda W: W.sum())
    captured = capture(gpt2, batch, [gradient, weight], find_layout(gpt2))
    assert isinstance(captured.failures[gradient], CaptureError)
    assert "gradient" in str(captured.failures[gradient])
    assert weight not in captured.failures
    assert len(captured.values[weight]) == 8


def test_statistics_that_never_appear_together_are_refused() -> None:
    with pytest.raises(ValueError, match="'linear'"):
        Reduction("linear", ("W", "A"), lambda W, A: W.sum())


def test_one_function_runs_once_at_a_site_of_several_places(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    calls = []

    def size(W: Tensor) -> Tensor:
        calls.append(W.shape)
        return torch.tensor(float(W.numel()))

    reductions = [Reduction(place, ("W",), size) for place in ("linear", "mixer_linear", "ffn_linear")]
    captured = capture(gpt2, batch, reductions, layout_of(gpt2))
    everywhere, mixers, others = (sum(float(r.value) for r in captured.values[red]) for red in reductions)
    assert len(calls) == 8  # two blocks of four linear layers
    assert everywhere == mixers + others > mixers > 0


def test_what_embeds_images_outside_of_the_model_that_runs_is_no_part_of_the_body() -> None:
    model = build_model(small_config("fuyu"))
    assert count_body_parameters(model) == count_body_parameters(model.model.language_model)
