"""Zoo names, folders, config.json files and Hub ids become models; nothing runs that was not allowed to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from lpzero_hf import load_model, minibatch, score
from lpzero_hf.errors import ModelError, UsageError
from lpzero_hf.models.minibatch import embedded_tokenizer
from tests.support.hub import serve_hub


@pytest.fixture
def saved(gpt2: PreTrainedModel, tmp_path: Path) -> Path:
    """A folder with a checkpoint."""
    gpt2.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_random_weights_come_from_the_seed_alone() -> None:
    first = load_model("gpt2-variant", seed=1).model.transformer.wte.weight
    torch.rand(5)
    before = torch.get_rng_state()
    assert torch.equal(first, load_model("gpt2-variant", seed=1).model.transformer.wte.weight)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, load_model("gpt2-variant", seed=2).model.transformer.wte.weight)


def test_a_folder_gives_random_weights_unless_pretrained_is_asked_for(gpt2: PreTrainedModel, saved: Path) -> None:
    weight = gpt2.transformer.h[0].mlp.c_fc.weight
    assert not torch.equal(load_model(str(saved)).model.transformer.h[0].mlp.c_fc.weight, weight)
    loaded = load_model(str(saved), pretrained=True)
    assert torch.equal(loaded.model.transformer.h[0].mlp.c_fc.weight, weight)
    assert loaded.tokenizer is None


def test_a_config_json_is_enough(saved: Path) -> None:
    loaded = load_model(str(saved / "config.json"))
    assert type(loaded.model).__name__ == "GPT2LMHeadModel"
    with pytest.raises(UsageError, match="pretrained=True"):
        load_model(str(saved / "config.json"), pretrained=True)


def test_the_models_own_tokenizer_is_used(saved: Path) -> None:
    embedded_tokenizer().save_pretrained(saved)
    loaded = load_model(str(saved))
    assert loaded.tokenizer is not None
    assert loaded.tokenizer("In the beginning")["input_ids"] == embedded_tokenizer()("In the beginning")["input_ids"]


def test_the_precision_is_single_unless_asked_otherwise(saved: Path, gpt2: PreTrainedModel) -> None:
    gpt2.to(torch.bfloat16).save_pretrained(saved)
    assert load_model(str(saved), pretrained=True).model.dtype == torch.float32
    assert load_model(str(saved), dtype=torch.bfloat16).model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "gpt2", ', "JSON"),
        ("[1, 2]", "'model_type'"),
        ("{}", "'model_type'"),
        ('{"model_type": "no-such-family"}', "no-such-family"),
        ('{"model_type": "gpt2", "n_embd": 30, "n_head": 4}', "30"),
    ],
)
def test_a_bad_config_json_is_a_clear_error(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path / "config.json"))


def test_an_empty_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is empty"):
        load_model(str(tmp_path))


def test_an_impossible_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'gpt2-variant'"):
        load_model("gpt2 varian")


def test_remote_code_runs_only_when_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "ran"
    folder = tmp_path / "remote"
    folder.mkdir()
    (folder / "modeling_own.py").write_text(
        f"open({str(marker)!r}, 'w').close()\n"
        "from transformers import GPT2Config, GPT2LMHeadModel\n"
        "class OwnConfig(GPT2Config):\n    model_type = 'own'\n"
        "class OwnForCausalLM(GPT2LMHeadModel):\n    config_class = OwnConfig\n",
        encoding="utf-8",
    )
    auto_map = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    config = {"model_type": "own", "auto_map": auto_map, "n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 4200}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    with pytest.raises(ModelError, match="trust_remote_code=True"):
        load_model(str(folder))
    assert not marker.exists()
    model = load_model(str(folder), trust_remote_code=True).model
    assert marker.exists()
    assert score(model, minibatch(model, batch_size=2, seq_len=8), "snip")["snip"].status == "ok"


HUB_SCRIPT = """
import sys
from lpzero_hf import load_model
from lpzero_hf.errors import LpzError
for name in sys.argv[1:]:
    try:
        print(type(load_model(name).model).__name__)
    except LpzError as error:
        print(type(error).__name__, error)
"""


DISK_SCRIPT = """
import sys
from pathlib import Path
from huggingface_hub.constants import HF_HUB_CACHE
from lpzero_hf import load_model
from lpzero_hf.models import disk_space as downloads
from lpzero_hf.errors import LpzError
assert downloads.free_disk(Path(HF_HUB_CACHE) / "not" / "made") > 2**20
for free in (1, 2**40, 1):
    downloads.free_disk = lambda folder: free
    try:
        print(type(load_model("someone/tiny", pretrained=True).model).__name__)
    except LpzError as error:
        print(type(error).__name__, error, list(Path(HF_HUB_CACHE).rglob("*.safetensors")))
print(downloads.missing_bytes("someone/parts"), downloads.missing_bytes("someone/old"))
print(type(load_model("someone/again", pretrained=True, force=True).model).__name__)
"""


@pytest.mark.integration
def test_a_checkpoint_that_the_disk_has_no_room_for_is_not_downloaded(saved: Path, tmp_path: Path) -> None:
    """It is refused, loaded where there is room, and needs no room once it is in the cache."""
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    parts, old = tmp_path / "parts", tmp_path / "old"
    for folder, weights, files in (
        (parts, "model.safetensors", ("model-1.safetensors", "model-2.safetensors", "consolidated.safetensors")),
        (old, "pytorch_model.bin", ("pytorch_model-1.bin", "training_args.bin", "other.safetensors")),
    ):
        folder.mkdir()
        for file in files:
            (folder / file).write_bytes(bytes(1000))
        named = {"weight_map": {"a": files[0], "b": files[0], "c": files[1] if folder == parts else files[0]}}
        (folder / f"{weights}.index.json").write_text(json.dumps(named))
    (parts / "model.fp16.safetensors").write_bytes(bytes(1000))
    folders = {"someone/tiny": saved, "someone/again": saved, "someone/parts": parts, "someone/old": old}
    with serve_hub(folders) as endpoint:
        command = [sys.executable, "-W", "ignore", "-c", DISK_SCRIPT]
        done = subprocess.run(
            command, env=environment | {"HF_ENDPOINT": endpoint}, capture_output=True, text=True, check=True
        )
    refused, *loaded = done.stdout.splitlines()
    assert refused.startswith("ModelError")
    assert all(word in refused for word in ("'someone/tiny'", "HF_HOME", "pretrained=", "force="))
    assert refused.endswith(" []")
    assert loaded == ["GPT2LMHeadModel", "GPT2LMHeadModel", "2000 1000", "GPT2LMHeadModel"]


@pytest.mark.integration
def test_hub_ids_are_fetched_cached_and_missed_clearly(saved: Path, tmp_path: Path) -> None:
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}

    def run(endpoint: str, *names: str) -> list[str]:
        command = [sys.executable, "-W", "ignore", "-c", HUB_SCRIPT, *names]
        done = subprocess.run(
            command, env=environment | {"HF_ENDPOINT": endpoint}, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    with serve_hub({"someone/tiny": saved}) as endpoint:
        found, missing = run(endpoint, "someone/tiny", "someone/missing")
    assert found == "GPT2LMHeadModel"
    assert missing.startswith("UsageError")
    assert "'someone/missing'" in missing
    cached, unreachable = run(endpoint, "someone/tiny", "someone/other")  # the server is gone
    assert cached == "GPT2LMHeadModel"
    assert "reached" in unreachable
