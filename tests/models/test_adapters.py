"""A model with adapters scores as what base and adapters compute together; a fresh adapter changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf import score
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import ModelError
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.plain_layers import plain_layers
from lpzero_hf.testing.model_state import changes, state
from tests.support.families import tiny_model

peft = pytest.importorskip("peft")
ATTENTION = dict(target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
TEXT = dict(num_virtual_tokens=4, task_type="CAUSAL_LM")
SAVED = ATTENTION | dict(modules_to_save=["lm_head"])

# Those that compute nothing new until they are trained.
FRESH: dict[str, Callable[[], Any]] = {
    "lora": lambda: peft.LoraConfig(r=8, **ATTENTION),
    "lora everywhere": lambda: peft.LoraConfig(r=4, target_modules="all-linear"),
    "lora of tied weights": lambda: peft.LoraConfig(r=4, target_modules=["q_proj", "embed_tokens", "lm_head"]),
    "lora with a saved head": lambda: peft.LoraConfig(r=4, **SAVED),
    "dora": lambda: peft.LoraConfig(r=8, use_dora=True, **ATTENTION),
    "ia3": lambda: peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "adalora": lambda: peft.AdaLoraConfig(total_step=10, **ATTENTION),
    "vera": lambda: peft.VeraConfig(target_modules=["q_proj", "o_proj"]),
    "loha": lambda: peft.LoHaConfig(**ATTENTION),
    "oft": lambda: peft.OFTConfig(oft_block_size=0, r=4, **ATTENTION),
    "norms": lambda: peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "tokens": lambda: peft.TrainableTokensConfig(token_indices=[1, 2]),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "prefix": lambda: peft.PrefixTuningConfig(**TEXT),
    "prompt": lambda: peft.PromptTuningConfig(**TEXT),
    "encoded prompt": lambda: peft.PromptEncoderConfig(**TEXT),
    "adaption prompt": lambda: peft.AdaptionPromptConfig(adapter_len=4, adapter_layers=2, task_type="CAUSAL_LM"),
    "poly": lambda: peft.PolyConfig(r=4, **ATTENTION),
}


def values(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, float | None]:
    return {name: row.value for name, row in score(model, batch, "all").items()}


def llama() -> PreTrainedModel:
    return tiny_model("llama", tie_word_embeddings=True)


def wrapped(config: Any) -> nn.Module:
    return peft.get_peft_model(llama(), config)


def added(config: Any) -> nn.Module:
    model = llama()
    model.add_adapter(config)
    return model


def trained(model: nn.Module, *words: str) -> nn.Module:
    """Adapter weights as after training: none is what it was."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if any(word in name for word in words or ("lora_", "hada_", "ia3_", "vera_lambda", "oft_")):
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def tokens() -> dict[str, Tensor]:
    ids = torch.randint(3, 4096, (3, 8), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture(scope="module")
def unadapted(tokens: dict[str, Tensor]) -> dict[str, float | None]:
    return values(llama(), tokens)


@pytest.mark.parametrize("how", [wrapped, added])
@pytest.mark.parametrize("kind", FRESH)
def test_a_fresh_adapter_changes_no_score(
    kind: str, how: Callable[[Any], nn.Module], tokens: dict[str, Tensor], unadapted: dict[str, float | None]
) -> None:
    if kind == "vera" and how is added:
        pytest.skip("transformers adds none of this kind")
    model = how(FRESH[kind]())
    inner = model.get_base_model() if how is wrapped else model
    before = state(inner, tokens)
    assert values(model, tokens) == unadapted
    assert changes(before, state(inner, tokens)) == []


@pytest.mark.parametrize("kind", ["lora", "lora everywhere", "dora", "ia3", "vera", "loha", "oft"])
def test_a_trained_adapter_scores_as_the_merged_model(
    kind: str, tokens: dict[str, Tensor], unadapted: dict[str, float | None]
) -> None:
    model = trained(wrapped(FRESH[kind]())).eval()
    merged = copy.deepcopy(model).merge_and_unload()
    assert not torch.allclose(merged(**tokens).logits, llama()(**tokens).logits, atol=1e-4)
    measured = values(model, tokens)
    assert measured == values(merged, tokens)
    assert measured["params"] == unadapted["params"]
    assert measured["snip"] != unadapted["snip"]


def test_what_is_active_and_merged_is_what_counts(
    tokens: dict[str, Tensor], unadapted: dict[str, float | None]
) -> None:
    model = wrapped(FRESH["lora"]())
    model.add_adapter("second", peft.LoraConfig(r=4, target_modules=["up_proj"]))
    trained(model)
    scores = {}
    for name, active in (("one", ["default"]), ("other", ["second"]), ("both", ["default", "second"])):
        model.base_model.set_adapter(active)
        scores[name] = values(model, tokens)["snip"]
    assert len({*scores.values(), unadapted["snip"]}) == 4
    with (
        model.base_model.disable_adapter() if hasattr(model.base_model, "disable_adapter") else model.disable_adapter()
    ):
        assert values(model, tokens) == unadapted
    model.merge_adapter()
    assert values(model, tokens)["snip"] == pytest.approx(scores["both"], rel=1e-4)
    with model.disable_adapter():  # merged, and yet switched off: a forward pass takes it out again
        assert values(model, tokens)["snip"] == pytest.approx(unadapted["snip"], rel=1e-4)


@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_outside_of_plain_layers_is_refused_in_one_line(kind: str, tokens: dict[str, Tensor]) -> None:
    model = wrapped(REFUSED[kind]())
    with pytest.raises(ModelError, match="adapter") as raised:
        score(model, tokens)
    assert "\n" not in str(raised.value)


def test_an_adapter_that_merges_into_something_else_is_refused(tokens: dict[str, Tensor]) -> None:
    model = trained(added(FRESH["lora"]()))
    layer = model.model.layers[0].self_attn.q_proj
    layer.merge = lambda *_, **__: None  # as a kind of adapter whose merging does nothing
    with pytest.raises(ModelError, match="q_proj"):
        score(model, tokens)


def test_capture_alone_reads_no_adapter(tokens: dict[str, Tensor]) -> None:
    shape = Reduction("mixer", ("H",), lambda H: torch.tensor(H.shape))
    model = added(FRESH["lora"]())
    with pytest.raises(ModelError, match="plain_layers"):
        capture(model, tokens, [shape], layout_of(model))
    with plain_layers(model):
        captured = capture(model, tokens, [shape], layout_of(model)).values[shape]
    assert [value.tolist() for _, _, value in captured] == [[3, 4, 8, 8]] * 2
