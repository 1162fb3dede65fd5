"""Blocks that run twice to keep less: the same scores, and less memory."""

from __future__ import annotations

import pytest
import torch

from lpzero_hf import minibatch, score
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import StatisticProxy
from lpzero_hf.proxies.resolve import installed_proxies
from tests.support.families import tiny_model

PROXIES = [name for name, claim in installed_proxies(load_plugins()).items() if isinstance(claim.item, StatisticProxy)]


@pytest.mark.parametrize("family", ["gpt2", "llama", "albert", "mixtral", "t5", "mamba", "xlnet"])
def test_scores_are_the_same_with_checkpointing(family: str) -> None:
    model = tiny_model(family)
    batch = minibatch(model, batch_size=3, seq_len=16)
    forwards = [module.__dict__.get("forward") for module in model.modules()]
    kept, again = score(model, batch, PROXIES), score(model, batch, PROXIES, checkpointing=True)
    assert [(r.proxy, r.value, r.status) for r in again.rows] == [(r.proxy, r.value, r.status) for r in kept.rows]
    assert [module.__dict__.get("forward") for module in model.modules()] == forwards


def test_every_block_runs_twice() -> None:
    model = tiny_model("llama")
    batch = minibatch(model, batch_size=3, seq_len=16)
    runs = [0]
    inner = type(model.model.layers[0].mlp)
    original = inner.forward

    def counted(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        runs[0] += 1
        return original(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner, "forward", counted)
        score(model, batch, "fisher")
        assert runs[0] == 2
        score(model, batch, "fisher", checkpointing=True)
    assert runs[0] == 2 + 4


def test_a_block_that_cannot_run_twice_says_so() -> None:
    model = tiny_model("xlm")
    row = score(model, minibatch(model, batch_size=2, seq_len=16), "snip", checkpointing=True)["snip"]
    assert row.status == "failed"
    assert "without checkpointing" in row.reason
