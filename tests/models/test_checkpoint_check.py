"""Random weights are never scored as those of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from lpzero_hf import load_model
from lpzero_hf.errors import ModelError, ModelWarning
from tests.support.families import tiny_model

Lpz = Callable[..., tuple[int, str, str]]
FIRST = "transformer.h.0.mlp.c_fc.weight"


@pytest.fixture
def saved(gpt2: PreTrainedModel, tmp_path: Path) -> Path:
    """A folder with a checkpoint, whose head is tied."""
    gpt2.save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("lazy", [True, False])
def test_a_checkpoint_that_lacks_weights_is_refused_with_their_names(saved: Path, lpz: Lpz, lazy: bool) -> None:
    change(saved, lambda weights: (weights.pop(FIRST), weights.update(foo=torch.ones(2))))
    with pytest.raises(ModelError, match="lacks 1 of") as caught:
        load_model(str(saved), pretrained=True, lazy=lazy)
    assert FIRST in str(caught.value)
    assert "foo" in str(caught.value)
    for proxy in ("params", "l2_norm", "snip"):
        code, out, err = lpz("score", str(saved), "--pretrained", "-p", proxy)
        assert (code, out) == (1, "")
        assert FIRST in err


@pytest.mark.parametrize("lazy", [True, False])
def test_weights_of_another_shape_are_refused(saved: Path, lazy: bool) -> None:
    change(saved, lambda weights: weights.update({FIRST: torch.ones(3, 3)}))
    with pytest.raises(ModelError):
        load_model(str(saved), pretrained=True, lazy=lazy)


def test_weights_that_the_model_does_not_use_are_told(saved: Path) -> None:
    change(saved, lambda weights: weights.update(foo=torch.ones(2)))
    with pytest.warns(ModelWarning, match="foo"):
        load_model(str(saved), pretrained=True)


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5", "bart", "llama", "albert", "mixtral", "xlnet", "electra"])
def test_tied_weights_and_buffers_are_not_missing(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), pretrained=True).model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    load_model(str(tmp_path), pretrained=True, lazy=True)


def test_a_headless_checkpoint_fits_a_model_with_a_tied_head(gpt2: PreTrainedModel, tmp_path: Path) -> None:
    gpt2.transformer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2LMHeadModel"]}), encoding="utf-8")
    assert type(load_model(str(tmp_path), pretrained=True).model).__name__ == "GPT2LMHeadModel"
