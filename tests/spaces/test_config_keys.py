"""Keys that a configuration's class does not know are told, and no others."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from transformers import AutoConfig

from lpzero_hf import load_model
from lpzero_hf.errors import ModelWarning
from tests.support.families import FAMILIES

PUBLISHED = {
    "_name_or_path": "someone/model", "transformers_version": "4.28.0", "torch_dtype": "float16", "use_cache": True,
    "architectures": ["X"], "task_specific_params": {"a": {"b": 1}}, "temperature": 0.7,
    "gradient_checkpointing": False,    "tokenizer_class": "X", "attn_implementation": None, "_commit_hash": None,
}  # fmt: skip


def told(folder: Path, config: object) -> list[str]:
    """The warnings of loading a configuration."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_model(str(folder), lazy=True)
    return [str(one.message) for one in caught if issubclass(one.category, ModelWarning)]


@pytest.mark.parametrize(
    ("unknown", "near"),
    [
        ("n_layers", "num_hidden_layers"),
        ("hiden_size", "hidden_size"),
        ("num_heads", "num_attention_heads"),
        ("zzz", ""),
    ],
)
def test_unknown_keys_are_told_with_the_nearest_known_one(unknown: str, near: str, tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, unknown: 3}
    (message,) = told(tmp_path, config)
    assert "LlamaConfig" in message
    assert f"'{unknown}'" in message
    assert (f"'{near}'" in message) if near else ("did you mean" not in message)


def test_many_unknown_keys_are_one_warning(tmp_path: Path) -> None:
    (message,) = told(tmp_path, {"model_type": "gpt2", "n_layer": 2} | {f"zz{i}": i for i in range(9)})
    assert "4 more" in message


def test_unknown_keys_of_nested_configurations_are_told(tmp_path: Path) -> None:
    text = {key: value for key, value in FAMILIES["gemma3_text"].items() if key != "head_dim"}
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    config = {"model_type": "gemma3", "text_config": text | {"n_layerz": 3}, "vision_config": small}
    assert any("'text_config.n_layerz'" in message for message in told(tmp_path, config))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_configurations_as_they_are_published_give_no_warning(family: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model(family, **FAMILIES[family])
    config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert told(tmp_path, saved) == []
    assert told(tmp_path, json.loads(config.to_json_string(use_diff=False)) | PUBLISHED | {"architectures": None}) == []
    assert told(tmp_path, PUBLISHED | {"model_type": family} | FAMILIES[family] | {"architectures": None}) == []
