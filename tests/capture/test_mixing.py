"""Which tensor of a running mixer is the context of its heads."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lpzero_hf.capture.mixing import RunningMixer
from lpzero_hf.capture.tokens import TokenRows
from lpzero_hf.models.layout import find_layout


def test_the_context_is_what_the_last_layer_after_attention_takes_else_what_attention_gives(
    gpt2: PreTrainedModel, batch: dict[str, Tensor]
) -> None:
    layout = find_layout(gpt2)
    rows = TokenRows(batch, layout).of_block(layout.blocks[0].name)
    running = RunningMixer(layout.mixers[0], 0, [], {}, rows)
    product = torch.zeros(4, 4, 12, 8)
    running.on_linear(torch.zeros(4, 12, 32), "in")  # queries, keys and values
    running.on_attention(4, None, product)
    context, split = running.context(None)
    assert context is product
    assert split
    for taken in (torch.zeros(4, 12, 4), torch.zeros(4, 12, 32)):  # of a gate, of the projection
        running.on_linear(taken, "out")
        context, split = running.context(None)
        assert context is taken
        assert not split
