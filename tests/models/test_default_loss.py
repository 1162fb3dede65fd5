"""The loss that transformers falls back to is named, so that it logs nothing of one that nobody has set."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, modeling_utils

from lpzero_hf import load_model, minibatch, score
from lpzero_hf.models.build import build_model
from tests.support.families import FAMILIES, tiny_model


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What transformers says of losses; each line would be logged once a process."""
    said: list[str] = []
    monkeypatch.setattr(modeling_utils.logger, "warning_once", lambda message, *_: said.append(message))
    return said


def saved(folder: Path) -> Path:
    tiny_model("gpt2").save_pretrained(folder)
    return folder


WAYS: dict[str, Callable[[Path], PreTrainedModel]] = {
    "a name": lambda _: load_model("gpt2-variant").model,
    "a name, lazy": lambda _: load_model("gpt2-variant", lazy=True).model,
    "a configuration": lambda _: build_model(tiny_model("gpt2").config),
    "a checkpoint": lambda folder: load_model(saved(folder), pretrained=True).model,
    "a lazy checkpoint": lambda folder: load_model(saved(folder), pretrained=True, lazy=True).model,
    "drawn alike": lambda _: build_model(tiny_model("gpt2").config, init_std=0.02),
}


@pytest.mark.parametrize("way", WAYS)
def test_models_that_are_built_here_have_a_named_loss(way: str, tmp_path: Path, logged: list[str]) -> None:
    model = WAYS[way](tmp_path)
    batch = minibatch(model, batch_size=2, seq_len=8)
    score(model, batch, ["snip", "flops", "grasp"])
    ids = batch["input_ids"].to(model.device)
    assert model(input_ids=ids, labels=ids).loss is not None
    assert logged == []


@pytest.mark.parametrize("family", FAMILIES)
def test_scoring_a_model_of_the_user_logs_nothing_and_leaves_it(family: str, logged: list[str]) -> None:
    model = tiny_model(family)
    before = copy.copy(vars(model))
    score(model, minibatch(model, batch_size=2, seq_len=8), ["snip", "flops"])
    assert logged == []
    assert model.loss_type == before["loss_type"]


def test_the_loss_is_the_one_of_transformers(
    gpt2: PreTrainedModel, batch: dict[str, Tensor], logged: list[str]
) -> None:
    built = build_model(gpt2.config)
    built.load_state_dict(gpt2.state_dict())
    ids = batch["input_ids"]
    here, there = built(input_ids=ids, labels=ids).loss, gpt2(input_ids=ids, labels=ids).loss
    assert torch.equal(here, there)
    assert len(logged) == 1  # of the one that was not built here
