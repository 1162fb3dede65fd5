"""SynFlow runs in double precision on every family, whatever it keeps or makes in single precision."""

from __future__ import annotations

import pytest
import torch
from lpz_proxies.synflow import ordinary_token
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf import score
from tests.support.families import FAMILIES, RARE, tiny_model

NAMES = ["synflow", "logsynflow", "logsynflow_lpzero"]
SOME = ("gpt2", "llama", "roberta", "xlm", "t5", "mixtral", "mamba", "rwkv")


REST = [pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES if family not in SOME]


@pytest.mark.parametrize("family", [*SOME, *(f for f in RARE if f != "reformer"), *REST])
def test_synflow_runs(family: str, batch: dict[str, Tensor]) -> None:
    rows = score(tiny_model(family), batch, NAMES)
    assert {name: row.reason for name, row in rows.items() if row.status != "ok"} == {}
    assert all(row.require() > 0 for row in rows.values())


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("family", ["mbart", "roberta", "xglm"])
def test_the_id_of_padding_does_not_matter(family: str, padding: int, batch: dict[str, Tensor]) -> None:
    model = tiny_model(family, pad_token_id=padding)
    assert ordinary_token(model) != padding
    assert score(model, batch, "synflow")["synflow"].status == "ok"


class Stubborn(nn.Module):
    """Keeps constants in attributes, makes others, and asks for single precision wherever it can."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [torch.ones(32, 32)]
        self.pair = (torch.ones(32), 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x @ self.hidden[0] * self.pair[0]
        x = x + torch.zeros(32) + torch.ones(32, dtype=torch.float32).to(torch.float32)
        return x.float().to(torch.float32).type(torch.float32) @ torch.eye(32)


def test_constants_are_double_wherever_they_are_kept_or_made(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    gpt2.transformer.h[0].mlp.dropout = Stubborn()
    row = score(gpt2, batch, "synflow")["synflow"]
    assert (row.status, row.reason) == ("ok", "")
    assert torch.get_default_dtype() == torch.float32
