"""What a configuration asks for and cannot be had here works under another name, or is one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoConfig, LlamaForSequenceClassification

from lpzero_hf import Setting, load_model, minibatch, rank, score
from lpzero_hf.errors import ModelError, ModelWarning, UsageError
from lpzero_hf.models.build import build_model
from lpzero_hf.models.config_repairs import repaired
from lpzero_hf.scoring.cache_key import identity
from tests.support.families import FAMILIES

Lpz = Callable[..., tuple[int, str, str]]
LLAMA = FAMILIES["llama"]
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


def write(folder: Path, **changes: object) -> str:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | LLAMA | changes), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"type": "su"} | FACTORS, {"rope_type": "longrope", "original_max_position_embeddings": 64} | FACTORS),
        ({"type": "mrope", "mrope_section": [1, 1, 2]}, {"rope_type": "default"}),
        ({"rope_type": "mrope", "mrope_section": [1, 1, 2]}, None),
    ],
)
def test_old_names_of_position_scaling_mean_the_new_ones(old: object, new: object, tmp_path: Path) -> None:
    scores = []
    for scaling in (old, new):
        model = load_model(write(tmp_path, rope_scaling=scaling)).model
        scores.append(score(model, minibatch(model, batch_size=2, seq_len=8), "snip")["snip"].require())
    assert scores[0] == scores[1]


@pytest.mark.parametrize("scaling", [{"type": "foo"}, {"rope_type": "long_rope"}, {"rope_type": 7}])
def test_an_unknown_position_scaling_is_refused_with_the_known_ones(scaling: object, tmp_path: Path) -> None:
    for lazy in (True, False):
        with pytest.raises(ModelError, match="longrope"):
            load_model(write(tmp_path, rope_scaling=scaling), lazy=lazy)


def test_a_missing_key_of_position_scaling_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="factor"):
        load_model(write(tmp_path, rope_scaling={"type": "yarn"}))


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention", "nobody/kernel", "foo"])
def test_counts_need_no_kernel_and_the_rest_names_the_remedy(attention: str, tmp_path: Path, lpz: Lpz) -> None:
    source = write(tmp_path, attn_implementation=attention)
    lazy = load_model(source, lazy=True).model
    scores = score(lazy, minibatch(lazy, batch_size=1, seq_len=8), ["params", "flops"])
    assert all(row.status == "ok" for row in scores.rows)
    code, _, err = lpz("score", source, "-p", "snip", "--batch-size", "2", "--seq-len", "8")
    assert (code, err.count("\n")) == (1, 1)
    assert attention in err
    assert "--attn" in err
    assert lpz("score", source, "-p", "snip", "--batch-size", "2", "--seq-len", "8", "--attn", "eager")[0] == 0


def test_attention_is_part_of_the_setting() -> None:
    plain = Setting(batch_size=2, seq_len=8)
    assert len({plain.key(1), *(Setting(2, 8, attention=name).key(1) for name in ("eager", "sdpa"))}) == 3
    assert "attention" not in plain.to_json()  # as older versions wrote it
    assert Setting(attention="eager").to_json()["attention"] == "eager"
    config = AutoConfig.for_model("llama", **LLAMA)
    for name in ("eager", "sdpa"):
        for model in (Setting(attention=name).model(config), build_model(config, attention=name)):
            assert identity(model.config)["attn_implementation"] == name
    with pytest.raises(UsageError, match="eager"):
        build_model(config, attention="flash")
    assert identity(config).get("attn_implementation") is None


def test_a_quantisation_is_said_to_be_ignored_and_changes_nothing(tmp_path: Path) -> None:
    plain = build_model(AutoConfig.for_model("llama", **LLAMA))
    source = write(tmp_path, quantization_config={"quant_method": "fp8"})
    with pytest.warns(ModelWarning, match="quantization_config"):
        model = load_model(source).model
    batch = minibatch(model, batch_size=2, seq_len=8)
    assert score(model, batch, "snip")["snip"].require() == score(plain, batch, "snip")["snip"].require()
    plain.save_pretrained(tmp_path)
    write(tmp_path, quantization_config={"quant_method": "fp8"})
    with pytest.raises(ModelError, match="fp8"):
        load_model(source, pretrained=True)


def test_a_classifier_without_a_padding_token_gets_one() -> None:
    config = AutoConfig.for_model("llama", **LLAMA | {"pad_token_id": None})
    config.architectures = [LlamaForSequenceClassification.__name__]
    with pytest.warns(ModelWarning, match="padding"):
        model = build_model(config)
    assert model.config.pad_token_id == config.eos_token_id
    assert score(model, minibatch(model, batch_size=2, seq_len=8), "snip")["snip"].status == "ok"
    assert config.pad_token_id is None


def test_the_given_configuration_is_not_changed() -> None:
    config = AutoConfig.for_model("llama", **LLAMA | {"rope_scaling": {"type": "su"} | FACTORS})
    before = json.dumps(config.to_dict(), default=str)
    repaired(config, "eager")
    assert json.dumps(config.to_dict(), default=str) == before


def test_rank_takes_configurations_without_names_and_equal_ones() -> None:
    config = AutoConfig.for_model("llama", **LLAMA)
    deeper = AutoConfig.for_model("gpt2", **FAMILIES["gpt2"] | {"n_layer": 3})
    ranked = rank([config, config, deeper], "num_layers")
    assert [(one.name, one.rank) for one in ranked] == [("gpt2 3", 1.0), ("llama 1", 2.5), ("llama 2", 2.5)]
    with pytest.raises(UsageError, match="is a space"):
        rank([config, "gpt2"], "num_layers")
