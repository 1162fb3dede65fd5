"""`lpz zoo new-space` writes a file that is a space around the given model, which the model takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf import load_space
from lpzero_hf.errors import UsageError
from lpzero_hf.models.member_check import refused
from lpzero_hf.packaging.space_template import propose

Lpz = Callable[..., tuple[int, str, str]]
MODELS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "llama": (
        dict(model_type="llama", hidden_size=96, num_hidden_layers=4, num_attention_heads=6, num_key_value_heads=2,
             intermediate_size=256, vocab_size=100),
        {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
         "tie_word_embeddings"},
    ),
    "t5": (
        dict(model_type="t5", d_model=64, d_ff=128, num_layers=2, num_decoder_layers=4, num_heads=4, d_kv=16),
        {"d_model", "d_ff", "num_layers", "num_decoder_layers", "num_heads"},
    ),
    "mixtral": (
        dict(model_type="mixtral", hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             intermediate_size=128, num_local_experts=4, vocab_size=100),
        {"hidden_size", "num_local_experts"},
    ),
    "mamba2": (
        dict(model_type="mamba2", hidden_size=64, num_heads=8, head_dim=16, expand=2, state_size=16, n_groups=1,
             num_hidden_layers=4, vocab_size=100),
        {"hidden_size", "state_size", "expand", "num_hidden_layers"},
    ),
    "gemma3": (
        dict(
            model_type="gemma3",
            text_config=dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                             intermediate_size=128, head_dim=16, vocab_size=100),
            vision_config=dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
                               image_size=28, patch_size=14),
        ),
        {"text_config.hidden_size", "text_config.num_hidden_layers", "text_config.intermediate_size"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", MODELS)
def test_a_proposal_is_a_space_around_the_model_that_the_model_takes(family: str, tmp_path: Path) -> None:
    fields, expected = MODELS[family]
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "config.json").write_text(json.dumps(fields))
    file = tmp_path / "elsewhere" / "mine.yaml"
    proposal = propose(file, str(tmp_path / "given"))
    file.parent.mkdir()
    file.write_text(proposal.text)
    space = load_space(file)
    names = {str(row["name"]) for row in space.described()}
    assert expected <= names
    assert space.name == "mine"
    assert space.count() == proposal.space.count()
    assert not proposal.refused
    assert not refused(space, space.samples(3, 7))
    own = space.assemble(lambda name, values: _own(fields, name, values))
    assert all(str(fields.get(name, "")) in space.text(own) for name in expected if "." not in name)


def _own(fields: dict[str, Any], name: str, values: Any) -> Any:
    holder: Any = fields
    for part in name.split("."):
        holder = holder.get(part, values[0]) if isinstance(holder, dict) else values[0]
    return holder if holder in values else values[0]


@pytest.mark.integration
def test_a_file_is_written_once_and_every_command_takes_it(lpz: Lpz, tmp_path: Path) -> None:
    file = tmp_path / "my-space.yaml"
    made = json.loads(lpz("zoo", "new-space", "llama-mini", "--out", str(file), "--json")[1])
    shown = json.loads(lpz("zoo", "show", str(file), "--json")[1])
    assert made["size"] == shown["size"] > 100
    assert shown["refused"] == {}
    code, _, message = lpz("zoo", "new-space", "llama-mini", "--out", str(file))
    assert (code, "exists already" in message) == (2, True)
    assert lpz("zoo", "new-space", "llama-mini", "--out", str(tmp_path / "space.txt"))[0] == 2
    code, _, message = lpz("zoo", "new-space", "lama-mini", "--out", str(tmp_path / "b.yaml"))
    assert (code, "llama-mini" in message) == (2, True)
    assert not (tmp_path / "b.yaml").exists()


def test_a_model_without_a_known_field_is_refused(tmp_path: Path) -> None:
    smallest = dict(hidden_size=1, num_hidden_layers=1, num_attention_heads=1, intermediate_size=1)
    images = dict(model_type="vit", image_size=2, patch_size=1, **smallest)
    (tmp_path / "config.json").write_text(json.dumps(images))
    with pytest.raises(UsageError, match="no field"):
        propose(tmp_path / "a.yaml", str(tmp_path))
