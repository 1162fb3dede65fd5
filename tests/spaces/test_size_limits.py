"""Sizes that no machine can build are refused from the numbers of the configuration, before anything is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, GPT2Config
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from lpzero_hf import Setting, load_model, rank, score
from lpzero_hf.errors import ModelError
from lpzero_hf.models.build import build_model
from lpzero_hf.models.memory import available_bytes
from lpzero_hf.spaces.size_limits import check_sizes, may_be_large
from tests.support.families import FAMILIES

Lpz = Callable[..., tuple[int, str, str]]
TINY = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 100, "n_positions": 64}
IMPOSSIBLE = [
    ("n_layer", 10**9), ("n_layer", -1), ("vocab_size", 10**12), ("n_head", 10**9), ("n_embd", 2**40), ("n_embd", -8),
    ("num_labels", 10**9), ("n_positions", 10**10), ("n_inner", 10**15), ("num_experts", 10**7), ("depths", [2, 10**9]),
]  # fmt: skip


def write(folder: Path, **changes: object) -> str:
    (folder / "config.json").write_text(json.dumps(TINY | changes), encoding="utf-8")
    return str(folder)


@pytest.fixture
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building any module fails."""

    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("a module was built")

    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)


@pytest.mark.usefixtures("nothing_built")
@pytest.mark.parametrize(("key", "value"), IMPOSSIBLE)
def test_an_impossible_size_is_refused_with_its_key_before_anything_is_built(
    lpz: Lpz, tmp_path: Path, key: str, value: object
) -> None:
    source = write(tmp_path, **{key: value})
    for lazy in (True, False):
        with pytest.raises(ModelError, match=f"'{key}'"):
            load_model(source, lazy=lazy)
    for flags in ([], ["--plan"]):
        code, out, err = lpz("score", source, "-p", "params", *flags)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert f"'{key}'" in err


@pytest.mark.usefixtures("nothing_built")
def test_rank_refuses_an_impossible_size_too() -> None:
    ranked = rank({"deep": GPT2Config(n_layer=10**6)}, "params")
    assert "'n_layer'" in ranked[0].rows["params"].reason
    with pytest.raises(ModelError, match="'n_layer'"):
        build_model(GPT2Config(n_layer=10**6))


def test_nested_configurations_are_read_too() -> None:
    with pytest.raises(ModelError, match="num_hidden_layers"):
        check_sizes({"text_config": {"num_hidden_layers": 10**6}}, "no")
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ModelError, match="nested"):
        check_sizes({"x": deep}, "no")


def test_the_default_of_every_family_is_possible() -> None:
    made = 0
    for family in CONFIG_MAPPING_NAMES:
        try:
            values = AutoConfig.for_model(family).to_dict()
        except Exception:
            continue
        check_sizes(values, family)
        made += 1
    assert made > 200


def test_numbers_that_are_no_sizes_may_be_anything() -> None:
    values = {
        "rope_theta": 10**12,
        "eos_token_id": -1,
        "seed": 10**18,
        "model_max_length": 10**30,
        "sliding_window": -1,
        "vision_feature_layers": [-2, -5],
    }
    check_sizes(values | {"time_step_limit": [0.0, float("inf")], "rms_norm_eps": -1e300}, "no")


def test_too_many_modules_stop_the_building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpzero_hf.models.module_limit.MODULES", 20)
    with pytest.raises(ModelError, match="20 modules"):
        build_model(AutoConfig.for_model("llama", **FAMILIES["llama"]), lazy=True)


def test_weights_that_the_memory_has_no_room_for_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AutoConfig.for_model("llama", **FAMILIES["llama"] | {"hidden_size": 2048, "intermediate_size": 20_000})
    assert may_be_large(config.to_dict())
    assert not may_be_large(AutoConfig.for_model("llama", **FAMILIES["llama"]).to_dict())
    monkeypatch.setattr("lpzero_hf.models.build.available_bytes", lambda device: 2**20)
    lazy = build_model(config, lazy=True)
    assert score(lazy, None, "params")["params"].require() > 10**8
    with pytest.raises(ModelError, match="proxies=params"):
        build_model(config)
    failed = rank({"wide": config}, "snip", setting=Setting(2, 16))[0].rows["snip"]
    assert failed.status == "failed"
    assert "GiB" in failed.reason


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_model_that_surely_is_small_is(family: str) -> None:
    config = AutoConfig.for_model(family, **FAMILIES[family])
    model = build_model(config, lazy=True)
    assert may_be_large(config.to_dict()) or sum(p.numel() for p in model.parameters()) < 2**28


def test_a_limit_of_the_process_counts_as_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**50, 2**50))
    assert available_bytes(torch.device("cpu")) < 2**50
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**20, 2**20))
    assert available_bytes(torch.device("cpu")) == 0
