"""A statistic is counted for the block that holds its layer, and what ran and was not read is said."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MllamaForCausalLM,
    PreTrainedModel,
)

from lpzero_hf import minibatch, score
from lpzero_hf.capture.audit import Ran, left_out
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import LOSS, Captured, Reduced, Reduction
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import find_layout, layout_of
from lpzero_hf.models.objective import run_model, with_labels
from lpzero_hf.models.running import running_layout
from tests.support.families import FAMILIES, tiny_model
from tests.support.small_configs import small_config


def one(*_: Tensor) -> Tensor:
    return torch.tensor(1.0)


W, G, A = (Reduction("linear", (letter,), one) for letter in "WGA")
H, S = Reduction("mixer", ("H",), one), Reduction("attention", ("S",), one)
NORM = Reduction("linear", ("A", "mask"), lambda A, mask: A[mask].double().norm())
SMALL = {
    "funnel": dict(block_sizes=[2, 1], num_decoder_layers=1, d_head=8, vocab_size=4200, d_model=32, n_head=4,
                   d_inner=48),
    "flaubert": dict(emb_dim=32, n_layers=3, n_heads=4, vocab_size=4200, max_position_embeddings=64, n_langs=1,
                     pad_index=0, mask_index=1),
    "longformer": dict(FAMILIES["bert"], attention_window=8, bos_token_id=2, eos_token_id=2, sep_token_id=2),
    "prophetnet": dict(vocab_size=4200, hidden_size=32, num_encoder_layers=2, num_decoder_layers=2,
                       num_encoder_attention_heads=4, num_decoder_attention_heads=4, encoder_ffn_dim=48,
                       decoder_ffn_dim=48, max_position_embeddings=64),
    "jetmoe": dict(FAMILIES["llama"], num_local_experts=4, kv_channels=8),
}  # fmt: skip


def model_of(family: str) -> PreTrainedModel:
    if family in FAMILIES:
        return tiny_model(family)
    return build_model(AutoConfig.for_model(family, **SMALL[family]))


def captured(model: PreTrainedModel, reductions: list[Reduction], batch_size: int = 3) -> Captured:
    batch = minibatch(model, batch_size=batch_size, seq_len=16)
    made = capture(model, batch, reductions, running_layout(model, layout_of(model), batch, 42))
    assert not made.failures
    return made


@pytest.mark.parametrize("family", [*FAMILIES, *SMALL])
def test_every_statistic_of_a_layer_is_counted_for_one_block(family: str) -> None:
    model = model_of(family)
    layout = layout_of(model)
    values = captured(model, [W, G, A, H, S]).values
    owner = {name: site.block for site in layout.sites for name in site.names}
    for reduction in (W, G, A):
        assert {v.site: v.block for v in values[reduction]} == {v.site: owner[v.site] for v in values[reduction]}
    holder = {m.name: i for i, b in zip(layout.indices, layout.blocks, strict=True) for m in b.mixers}
    for reduction in (H, S):
        assert {v.site: v.block for v in values[reduction]} == {v.site: holder[v.site] for v in values[reduction]}


@pytest.mark.parametrize("family", ["longformer", "prophetnet", "deepseek_v3", "funnel", "flaubert"])
def test_the_outputs_of_all_linear_layers_that_run_are_read_as_they_are(family: str) -> None:
    """Time first, [B, 1, T, d], or the decoder's several streams: the norm is that of the layer's output."""
    model = model_of(family)
    layout = layout_of(model)
    batch = minibatch(model, batch_size=3, seq_len=16)
    norms: dict[str, float] = {}
    handles = [
        site.module.register_forward_hook(
            lambda _, __, out, name=site.name: norms.update({name: float(out.detach().double().norm())})
        )
        for site in layout.linears
        if site.module is not None
    ]
    with torch.no_grad():
        run_model(model, with_labels(model, batch, 42))
    for handle in handles:
        handle.remove()
    made = capture(model, batch, [NORM], layout)
    read = {v.site: float(v.value) for v in made.values[NORM]}
    assert read == {name: pytest.approx(norms[name], rel=1e-4) for name in read}
    if family != "funnel":  # whose second half runs on pooled tokens
        assert read.keys() == norms.keys()
        assert "rows" not in made.notes.get(NORM, "")
    else:
        assert "their rows are not the tokens" in made.notes[NORM]


def test_a_layer_that_runs_time_first_is_read_so_even_where_the_minibatch_is_square() -> None:
    model = model_of("longformer")
    batch = minibatch(model, batch_size=16, seq_len=16)
    batch["attention_mask"][1:, 10:] = 0
    layout = running_layout(model, layout_of(model), batch, 42)
    query = "longformer.encoder.layer.1.attention.self.query"
    outputs: list[Tensor] = []
    handle = model.get_submodule(query).register_forward_hook(lambda _, __, out: outputs.append(out.detach().clone()))
    with torch.no_grad():
        run_model(model, with_labels(model, batch, 42))
    handle.remove()
    real = outputs[0].transpose(0, 1)[batch["attention_mask"].bool()]
    read = {v.site: float(v.value) for v in capture(model, batch, [NORM], layout).values[NORM]}
    assert read[f"{query}.weight"] == pytest.approx(float(real.double().norm()), rel=1e-4)


def test_a_composite_model_scores_as_its_text_part_alone() -> None:
    text = Gemma3TextConfig(**FAMILIES["gemma3_text"])
    vision = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=28,
                  patch_size=14)  # fmt: skip
    torch.manual_seed(0)
    whole = Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=vision)).eval()
    alone = Gemma3ForCausalLM(text).eval()
    weights = {name.replace("language_model.", ""): weight for name, weight in whole.state_dict().items()}
    alone.load_state_dict({name: weights[name] for name in alone.state_dict()})
    batch = minibatch(alone, batch_size=2, seq_len=16)
    with torch.no_grad():
        assert torch.equal(whole(**batch).logits, alone(**batch).logits)
    here, there = score(whole, batch, "all"), score(alone, batch, "all")
    different = {name for name in here if here[name].value != there[name].value}
    assert different == {"params", "w_pca", "w_pca_code", "lpzero-any"}
    said = "2 blocks of model.vision_tower.encoder.layers were not run"
    assert all(row.reason.startswith(said) for row in here.rows if row.status == "ok")
    assert here["snip"].reason == f"{said} and not counted"
    assert not any("not run" in row.reason for row in there.rows)


class Backwards(GPT2LMHeadModel):
    """Runs its blocks in reverse order; the second, never."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.order = (2, 0)

    def forward(self, input_ids: Tensor, attention_mask: Any = None, labels: Any = None, **_: Any) -> Any:
        held, self.transformer.h = self.transformer.h, nn.ModuleList(self.transformer.h[i] for i in self.order)
        try:
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels, use_cache=False)
        finally:
            self.transformer.h = held


GPT2 = GPT2Config(n_layer=3, n_embd=32, n_head=4, vocab_size=4200, n_positions=64, bos_token_id=2, eos_token_id=2)


def test_blocks_that_run_in_another_order_keep_their_statistics() -> None:
    torch.manual_seed(0)
    model = Backwards(GPT2).eval()
    batch = minibatch(model, batch_size=2, seq_len=8)
    made = capture(model, batch, [W, A, H], layout_of(model))
    ran = {v.site.split(".")[2]: v.block for v in made.values[A]}
    assert ran == {"2": 2, "0": 0}
    assert {v.site: v.block for v in made.values[H]} == {"transformer.h.2.attn": 2, "transformer.h.0.attn": 0}
    expected = {v.site: v.block for v in made.values[W]}
    assert all(expected[v.site] == v.block for v in made.values[A])


class OnlyParts(GPT2LMHeadModel):
    """Calls the parts of its blocks, and never a block itself."""

    def forward(self, input_ids: Tensor, labels: Any = None, **_: Any) -> Any:
        held, self.transformer.h = self.transformer.h, nn.ModuleList(Parts(block) for block in self.transformer.h)
        try:
            return super().forward(input_ids=input_ids, labels=labels, use_cache=False)
        finally:
            self.transformer.h = held


class Parts(nn.Module):
    """Does what a block of GPT-2 does."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.held = [block]

    def forward(self, hidden: Tensor, *_: Any, **keywords: Any) -> Tensor:
        block: Any = self.held[0]
        hidden = hidden + block.attn(block.ln_1(hidden), attention_mask=keywords.get("attention_mask"))[0]
        return hidden + block.mlp(block.ln_2(hidden))


def test_blocks_that_are_never_called_themselves_are_read() -> None:
    torch.manual_seed(0)
    parts, plain = OnlyParts(GPT2).eval(), GPT2LMHeadModel(GPT2).eval()
    plain.load_state_dict(parts.state_dict())
    batch = minibatch(plain, batch_size=2, seq_len=8)
    with torch.no_grad():
        assert torch.allclose(parts(**batch).logits, plain(**batch).logits, atol=1e-5)
    names = ["snip", "fisher", "nwot", "v_pca", "attention_confidence", "head_importance", "lpzero-any-0.1.0"]
    here, there = score(parts, batch, names), score(plain, batch, names)
    assert {n: row.require() for n, row in here.items()} == {
        n: pytest.approx(row.require(), rel=1e-4) for n, row in there.items()
    }


class MyDense(nn.Module):
    """A linear layer of a class of its own."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.kernel, self.offset = nn.Parameter(like.weight.detach().clone()), like.bias

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.kernel.T


def test_a_linear_layer_of_an_unknown_class_is_said_to_be_unread() -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.up_proj = MyDense(model.model.layers[1].mlp.up_proj)
    scores = score(model, minibatch(model, batch_size=2, seq_len=8), ["snip", "fisher", "head_importance"])
    for name in ("snip", "fisher"):
        assert "1 of 14 linear layers" in scores[name].reason
        assert "model.layers.1.mlp.up_proj.kernel" in scores[name].reason
    assert scores["head_importance"].reason == ""


def test_a_layer_that_is_read_less_often_than_it_runs_is_said_to_be_unread(gpt2: PreTrainedModel) -> None:
    layout, reduction = find_layout(gpt2), Reduction("linear", ("A", "mask"), lambda A, mask: A.sum())
    names = [site.name for site in layout.sites]
    values = [Reduced(site.block, site.name, torch.zeros(())) for site in layout.sites]
    ran = Ran(layers=Counter(names), blocks={0, 1})
    assert left_out(reduction, values, layout, ran, LOSS) == ""
    ran.layers[names[5]] += 1
    assert f"A of 1 of {len(names)} linear layers" in left_out(reduction, values, layout, ran, LOSS)
    assert left_out(reduction, [*values, values[5]], layout, ran, LOSS) == ""


def test_the_context_is_what_attention_gives_where_experts_project_it() -> None:
    """JetMoe's experts project queries and context; its only linear layer in the mixer gives keys and values."""
    model = model_of("jetmoe")
    batch = minibatch(model, batch_size=2, seq_len=8)
    contexts: list[Tensor] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def record(*args: Any, **keywords: Any) -> Tensor:
        contexts.append(attend(*args, **keywords))
        return contexts[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
        with torch.no_grad():
            run_model(model, with_labels(model, batch, 42))
    read = Reduction("mixer", ("H",), lambda H: H.double().norm())
    values = captured(model, [read], batch_size=2).values[read]
    assert len(values) == len(contexts) == 2
    again = capture(model, batch, [read], layout_of(model)).values[read]
    assert [float(v.value) for v in again] == pytest.approx([float(c.double().norm()) for c in contexts], rel=1e-4)


def test_landmarks_are_no_tokens() -> None:
    """Nystromformer's softmax has a column per landmark, which is no attention of tokens to tokens."""
    model = build_model(small_config("nystromformer", num_landmarks=4, segment_means_seq_len=16))
    row = score(model, minibatch(model, batch_size=2, seq_len=16), "attention_confidence")["attention_confidence"]
    assert row.status == "not applicable"


def test_layers_that_only_see_images_are_not_counted() -> None:
    model = MllamaForCausalLM(small_config("mllama_text_model", cross_attention_layers=[1])).eval()
    batch = minibatch(model, batch_size=2, seq_len=8)
    scores = score(model, batch, ["num_layers", "l2_norm", "snip"])
    assert scores["num_layers"].value == 1
    assert all("1 block of model.layers was not run" in row.reason for row in scores.rows)


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_keys_and_values_of_cross_attention_are_rows_of_the_encoder(family: str) -> None:
    """Both sides are of one length here, and padded differently."""
    model = model_of(family)
    batch = minibatch(model, batch_size=2, seq_len=8)
    batch["attention_mask"][0, 5:] = 0
    batch["labels"] = batch["input_ids"].clone()
    batch["labels"][1, 6:] = -100
    real = Reduction("linear", ("A", "mask"), lambda A, mask: mask.sum(1).double())
    found = {v.site: v.value.tolist() for v in capture(model, batch, [real], layout_of(model)).values[real]}
    cross = {name: rows for name, rows in found.items() if "encoder_attn" in name or "EncDecAttention" in name}
    keys = {name for name in cross if name.split(".")[-2] in ("k", "v", "k_proj", "v_proj")}
    assert len(keys) == 4
    assert all(rows == ([5, 8] if name in keys else [8, 6]) for name, rows in cross.items())
