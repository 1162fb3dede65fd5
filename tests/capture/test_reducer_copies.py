"""Reductions of one site read its tensors, and leave them to the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import CaptureError
from lpzero_hf.models.layout import layout_of
from lpzero_hf.scoring.score import score
from tests.support.families import tiny_model

BATCH = {"input_ids": torch.arange(5, 45).view(4, 10)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_reduction_that_writes_fails_and_others_read_what_is_there(dtype: torch.dtype) -> None:
    model = tiny_model("gpt2").to(dtype)
    writer = Reduction("linear", ("W",), lambda W: W.mul_(0).sum())
    reader = Reduction("linear", ("W",), lambda W: W.abs().sum())
    alone = capture(model, BATCH, [reader], layout_of(model))
    both = capture(model, BATCH, [writer, reader], layout_of(model))
    assert isinstance(both.failures[writer], CaptureError)
    if dtype == torch.bfloat16:  # what is widened for reductions is not the model's
        assert [float(one.value) for one in both.values[reader]] == [float(one.value) for one in alone.values[reader]]


def test_a_layer_that_is_called_with_keywords_alone_costs_no_other_proxy() -> None:
    model = tiny_model("gpt2")
    assert isinstance(model, GPT2LMHeadModel)
    for block in model.transformer.h:
        layer = block.mlp.c_fc

        def by_keyword(hidden: Tensor, mlp: torch.nn.Module = block.mlp, layer: torch.nn.Module = layer) -> Tensor:
            return mlp.dropout(mlp.c_proj(mlp.act(layer(x=hidden))))

        block.mlp.forward = by_keyword
    rows = score(model, BATCH, ["snip", "w_pca", "w_pca_code"])
    assert {row.status for row in rows.rows} == {"ok"}, [row.reason for row in rows.rows]
