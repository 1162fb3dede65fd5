"""The zoo's GPT-2: its adaptive embedding and softmax against dense references, round trips, padding, scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lpz_zoo.gpt2 import FlexibleGPT2Config, FlexibleGPT2LMHeadModel, FlexibleGPT2Model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from lpzero_hf import find_layout, load_model, score
from lpzero_hf.models.body_parameters import count_body_parameters
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import count_parameters

VOCABULARY, CUTOFFS = 60, (20, 45)
LAYERS = [{"heads": 2, "inner": 12}, {"heads": 4, "inner": 20}]
# (k, d_embed, d_model): one table or three, with and without projections
SHAPES = [(1, 8, 8), (1, 12, 8), (1, 4, 8), (2, 8, 8), (2, 8, 16), (4, 16, 8)]
every_shape = pytest.mark.parametrize(("k", "d_embed", "d_model"), SHAPES)
IDS = torch.randint(VOCABULARY, (3, 10), generator=torch.Generator().manual_seed(1))
IDS[0, :3] = torch.tensor([5, 30, 50])  # one of each cluster


def config(k: int = 2, d_embed: int = 8, d_model: int = 8, **changes: Any) -> FlexibleGPT2Config:
    sizes = dict(vocab_size=VOCABULARY, cutoffs=CUTOFFS, layers=LAYERS, max_position_embeddings=16, dropout=0.0)
    return FlexibleGPT2Config(k=k, d_embed=d_embed, d_model=d_model, **(sizes | changes))


def model(k: int = 2, d_embed: int = 8, d_model: int = 8, **changes: Any) -> FlexibleGPT2LMHeadModel:
    """A model with weights large enough to tell one token from another."""
    torch.manual_seed(0)
    made = FlexibleGPT2LMHeadModel(config(k, d_embed, d_model, **changes)).eval()
    for name, parameter in made.named_parameters():
        if "ln_" not in name:
            nn.init.normal_(parameter, std=0.3)
    return made


def log_probabilities(made: FlexibleGPT2LMHeadModel, ids: Tensor, **inputs: Any) -> Tensor:
    logits: Tensor = made(ids, **inputs).logits
    return logits


# The adaptive softmax and embedding ---------------------------------------------------------------------------


@every_shape
def test_probabilities_sum_to_one(k: int, d_embed: int, d_model: int) -> None:
    found = log_probabilities(model(k, d_embed, d_model), IDS)
    assert found.shape == (3, 10, VOCABULARY)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(3, 10))
    assert found.std(-1).min() > 0.1


@every_shape
def test_probabilities_equal_those_of_a_dense_softmax(k: int, d_embed: int, d_model: int) -> None:
    made = model(k, d_embed, d_model)
    hidden = made.transformer(IDS).last_hidden_state
    tables, projections = dense(made)
    head, bias = made.lm_head, made.lm_head.bias
    narrow = hidden if isinstance(head.projection, nn.Identity) else head.projection(hidden)
    frequent = narrow @ tables[0].T + bias[:20]
    found = torch.cat([frequent, head.gate(narrow)], -1).softmax(-1)
    parts = [found[..., :20]]
    for i, (low, high) in ((1, (20, 45)), (2, (45, 60))):
        words = (hidden @ projections[i] @ tables[i].T + bias[low:high]).softmax(-1)
        parts.append(found[..., 19 + i, None] * words)
    torch.testing.assert_close(log_probabilities(made, IDS).exp(), torch.cat(parts, -1))


def dense(made: FlexibleGPT2LMHeadModel) -> tuple[list[Tensor], list[Tensor]]:
    """The word vectors [ids, width] and the projection [d_model, width] of each cluster."""
    wte: Any = made.transformer.wte
    clusters = [(0, 20), (20, 45), (45, 60)]
    weights = [table.weight for table in wte.tables]
    matrices = [p.weight if isinstance(p, nn.Linear) else torch.eye(made.config.d_model) for p in wte.projections]
    if len(weights) == 1:
        return [weights[0][low:high] for low, high in clusters], matrices * 3
    return weights, matrices


@every_shape
def test_the_embedding_equals_a_table_of_projected_vectors(k: int, d_embed: int, d_model: int) -> None:
    made = model(k, d_embed, d_model)
    tables, projections = dense(made)
    table = torch.cat([vectors @ matrix.T for vectors, matrix in zip(tables, projections, strict=True)])
    assert table.shape == (VOCABULARY, d_model)
    torch.testing.assert_close(made.transformer.wte(IDS), F.embedding(IDS, table) * math.sqrt(d_model))
    every = torch.arange(VOCABULARY).view(2, 30)
    torch.testing.assert_close(made.transformer.wte(every), table.view(2, 30, -1) * math.sqrt(d_model))


@every_shape
def test_the_loss_is_the_mean_negative_log_likelihood_of_the_labels(k: int, d_embed: int, d_model: int) -> None:
    made = model(k, d_embed, d_model)
    labels = IDS.clone()
    found = log_probabilities(made, IDS)
    for _ in range(2):  # all, then without those of -100
        expected = F.nll_loss(found[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        torch.testing.assert_close(made(IDS, labels=labels).loss, expected)
        labels[0, 4:], labels[2, 0], labels[1, 7] = -100, -100, -100
    for cluster in CUTOFFS:  # a batch without any id of a rarer cluster
        few = IDS % cluster
        expected = F.nll_loss(log_probabilities(made, few)[:, :-1].flatten(0, 1), few[:, 1:].flatten())
        torch.testing.assert_close(made(few, labels=few).loss, expected)
    assert made(IDS, labels=torch.full_like(IDS, -100)).loss == 0


def test_the_loss_leaves_padding_out() -> None:
    made, mask = model(), torch.ones_like(IDS)
    mask[0, 6:], mask[1, 9:] = 0, 0
    labels = IDS.masked_fill(mask == 0, -100)
    found = log_probabilities(made, IDS, attention_mask=mask)
    expected = F.nll_loss(found[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(made(IDS, attention_mask=mask, labels=labels).loss, expected)
    noise = IDS.masked_fill(mask == 0, 7)
    torch.testing.assert_close(
        made(noise, attention_mask=mask, labels=labels).loss, made(IDS, attention_mask=mask, labels=labels).loss
    )


@every_shape
def test_a_gradient_reaches_every_parameter(k: int, d_embed: int, d_model: int) -> None:
    made = model(k, d_embed, d_model)
    assert {int(torch.bucketize(i, torch.tensor(CUTOFFS), right=True)) for i in IDS[:, 1:].flatten()} == {0, 1, 2}
    made(IDS, labels=IDS).loss.backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.norm() > 0, name


def test_the_head_adds_only_a_gate_a_bias_and_one_projection() -> None:
    # everything by hand: k 2, d_embed 8, d_model 16
    tables = 20 * 8 + 25 * 4 + 15 * 2
    embedding = tables + 16 * (8 + 4 + 2)
    blocks = sum(2 * 2 * 16 + (16 * 48 + 48) + (16 * 16 + 16) + (16 * n + n) + (n * 16 + 16) for n in (12, 20))
    body = blocks + 2 * 16
    head = 16 * 8 + (8 * 2 + 2) + 60
    made = model(2, 8, 16)
    assert count_parameters(made) == embedding + 16 * 16 + body + head
    assert count_body_parameters(made) == body
    batch = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    assert score(made, batch, ["decoder_params"])["decoder_params"].require() == body
    assert sum(p.numel() for p in model(1, 8, 8).lm_head.parameters()) == (8 * 2 + 2) + 60  # no projection


# The decoder --------------------------------------------------------------------------------------------------


@every_shape
def test_later_tokens_do_not_change_what_went_before(k: int, d_embed: int, d_model: int) -> None:
    made, changed = model(k, d_embed, d_model), IDS.clone()
    changed[:, 6:] = (changed[:, 6:] + 17) % VOCABULARY
    before, after = log_probabilities(made, IDS), log_probabilities(made, changed)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert (before[:, 6:] - after[:, 6:]).abs().amax(-1).min() > 1e-3
    torch.testing.assert_close(log_probabilities(made, IDS[:, :6]), before[:, :6])


@pytest.mark.parametrize("padded", [slice(7, None), slice(0, 3)], ids=["right", "left"])
def test_what_padding_holds_never_matters(padded: slice) -> None:
    made, mask, other = model(), torch.ones_like(IDS), IDS.clone()
    mask[:2, padded], other[:2, padded] = 0, (IDS[:2, padded] + 17) % VOCABULARY
    before, after = (log_probabilities(made, ids, attention_mask=mask) for ids in (IDS, other))
    torch.testing.assert_close(before[mask.bool()], after[mask.bool()])
    assert before.isfinite().all()
    assert (before[mask == 0] - after[mask == 0]).abs().amax(-1).max() > 1e-3
    torch.testing.assert_close(before[2], log_probabilities(made, IDS[2:])[0])
    if padded.start:  # nor that it is there
        torch.testing.assert_close(before[:2, :7], log_probabilities(made, IDS[:2, :7]))


def test_a_mask_of_ones_is_no_mask() -> None:
    made = model()
    torch.testing.assert_close(
        log_probabilities(made, IDS, attention_mask=torch.ones_like(IDS)), log_probabilities(made, IDS)
    )


def test_positions_count() -> None:
    same = torch.full((1, 5), 9)
    found = log_probabilities(model(), same)
    assert (found[0, 0] - found[0, 1]).abs().max() > 1e-3


def test_a_block_equals_the_formula_of_gpt2_with_its_own_heads_and_width() -> None:
    made = model(2, 8, 16)
    hidden = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(3))
    for block, layer in zip(made.transformer.h, LAYERS, strict=True):
        heads, inner, normed = layer["heads"], layer["inner"], block.ln_1(hidden)
        assert block.attn.num_heads == heads
        assert block.mlp.c_fc.weight.shape == (inner, 16)
        q, k, v = (p.view(2, 5, heads, 16 // heads) for p in block.attn.c_attn(normed).split(16, -1))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(16 // heads)
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        context = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).reshape(2, 5, 16)
        attended = hidden + block.attn.c_proj(context)
        expected = attended + block.mlp.c_proj(F.gelu(block.mlp.c_fc(block.ln_2(attended)), approximate="tanh"))
        torch.testing.assert_close(block(hidden, None), expected)


def test_dropout_acts_in_training_alone() -> None:
    made = model(dropout=0.5)
    assert torch.equal(log_probabilities(made, IDS), log_probabilities(made, IDS))
    made.train()
    assert not torch.equal(log_probabilities(made, IDS), log_probabilities(made, IDS))
    attending = model(dropout=0.0, attention_dropout=0.5).train()
    assert not torch.equal(log_probabilities(attending, IDS), log_probabilities(attending, IDS))
    attending.eval()
    assert torch.equal(log_probabilities(attending, IDS), log_probabilities(attending, IDS))
    without = model(dropout=0.0).train()
    assert torch.equal(log_probabilities(without, IDS), log_probabilities(without, IDS))


def test_random_weights_are_small_and_seeded() -> None:
    made = build_model(config(2, 64, 64), seed=3)
    assert torch.equal(made(IDS).logits, build_model(made.config, seed=3)(IDS).logits)
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "ln_" in name:
            assert (parameter == 1).all(), name
        elif not name.endswith("c_proj.weight"):
            assert parameter.std().item() == pytest.approx(0.02, rel=4 / math.sqrt(2 * parameter.numel())), name


# Hugging Face -------------------------------------------------------------------------------------------------


@every_shape
def test_a_saved_model_comes_back_through_the_auto_classes(k: int, d_embed: int, d_model: int, tmp_path: Path) -> None:
    before = model(k, d_embed, d_model)
    before.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, FlexibleGPT2Config)
    assert (loaded.layers, loaded.cutoffs, loaded.num_hidden_layers) == (LAYERS, list(CUTOFFS), 2)
    after = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(after, FlexibleGPT2LMHeadModel)
    assert torch.equal(after(IDS).logits, before(IDS).logits)
    assert torch.equal(after(IDS, labels=IDS).loss, before(IDS, labels=IDS).loss)
    decoder = AutoModel.from_pretrained(tmp_path)
    assert isinstance(decoder, FlexibleGPT2Model)
    assert torch.equal(decoder(IDS).last_hidden_state, before.transformer(IDS).last_hidden_state)
    again = load_model(str(tmp_path), pretrained=True).model
    assert torch.equal(again(IDS).logits, before(IDS).logits)


@pytest.mark.parametrize(
    "options",
    [
        {"use_cache": False},
        {},
    ],
)
def test_generation_follows_the_probabilities(options: dict[str, Any]) -> None:
    made = model(2, 8, 16)
    expected = IDS[:2, :4]
    for _ in range(5):
        expected = torch.cat([expected, log_probabilities(made, expected)[:, -1:].argmax(-1)], 1)
    assert torch.equal(made.generate(IDS[:2, :4], max_new_tokens=5, do_sample=False, **options), expected)
    torch.manual_seed(0)
    assert made.generate(IDS[:2, :4], max_new_tokens=3, do_sample=True).shape == (2, 7)


def test_gradient_checkpointing_changes_nothing() -> None:
    gradients = []
    for on in (False, True):
        made = model().train()
        if on:
            made.gradient_checkpointing_enable()
        made(IDS, labels=IDS).loss.backward()
        gradients.append([p.grad for p in made.parameters()])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True) if a is not None and b is not None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoffs": (45, 20)}, r"\[45, 20\]"),
        ({"cutoffs": (20, 20)}, "must rise"),
        ({"cutoffs": (0, 20)}, "must rise"),
        ({"cutoffs": (20, 60)}, "must rise"),
        ({"vocab_size": 45}, "vocabulary of 45"),
        ({"layers": []}, "layer"),
        ({"layers": [{"heads": 2, "inner": 8}, {"heads": 3, "inner": 8}]}, "3 heads"),
        ({"d_embed": 3, "k": 2}, "d_embed 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_sequence_longer_than_the_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="16 positions"):
        model()(torch.zeros(1, 17, dtype=torch.long))


@pytest.mark.parametrize(("clusters", "cutoffs"), [(1, ()), (2, (9,)), (4, (9, 20, 40))])
def test_there_may_be_any_number_of_clusters(clusters: int, cutoffs: tuple[int, ...]) -> None:
    made = model(2, 16, 8, cutoffs=cutoffs)
    assert len(made.transformer.wte.tables) == clusters
    found = log_probabilities(made, IDS)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(3, 10))
    expected = F.nll_loss(found[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())
    torch.testing.assert_close(made(IDS, labels=IDS).loss, expected)


# Scores -------------------------------------------------------------------------------------------------------


@every_shape
def test_every_proxy_gives_a_finite_score(k: int, d_embed: int, d_model: int) -> None:
    made = build_model(config(k, d_embed, d_model))
    for padded in (slice(0), slice(0, 3), slice(7, None)):
        mask = torch.ones_like(IDS)
        mask[:2, padded] = 0
        scores = score(made, {"input_ids": IDS, "attention_mask": mask}, "all")
        assert len(scores) > 25
        assert {row.proxy: row.reason for row in scores.rows if row.status != "ok"} == {}


def test_the_layout_has_the_heads_and_weights_of_each_layer() -> None:
    layout = find_layout(model(2, 8, 16))
    assert layout.depth == len(layout.blocks) == 2
    assert [mixer.heads for mixer in layout.mixers] == [2, 4]
    assert [mixer.name for mixer in layout.mixers] == ["transformer.h.0.attn", "transformer.h.1.attn"]
    assert [(site.part, *site.parameter.shape) for site in layout.weights] == [
        ("mixer", 48, 16), ("mixer", 16, 16), ("ffn", 12, 16), ("ffn", 16, 12),
        ("mixer", 48, 16), ("mixer", 16, 16), ("ffn", 20, 16), ("ffn", 16, 20),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_work(dtype: torch.dtype) -> None:
    made = model(2, 8, 16).to(dtype)
    reference = model(2, 8, 16)
    tolerance = 0.1 if dtype is torch.bfloat16 else 1e-5
    assert made(IDS, labels=IDS).loss.item() == pytest.approx(reference(IDS, labels=IDS).loss.item(), abs=tolerance)
    assert log_probabilities(made, IDS).exp().sum(-1).float().sub(1).abs().max() < 1e-3
