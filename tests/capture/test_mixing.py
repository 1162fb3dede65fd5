"""Which tensor of a running mixer is the context of its heads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lpzero_hf.capture.mixing import RunningMixer
from lpzero_hf.capture.tokens import TokenRows
from lpzero_hf.models.layout import find_layout


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_context_is_what_the_first_layer_after_attention_takes_that_takes_as_much_as_that_gives(
    gpt2: PreTrainedModel, batch: dict[str, Tensor], place: int
) -> None:
    layout = find_layout(gpt2)
    rows = TokenRows(batch, layout).of_block(layout.blocks[0].name)
    running = RunningMixer(layout.mixers[0], [], {}, rows)
    running.on_linear(torch.zeros(4, 12, 32))  # queries, keys and values
    running.on_attention(4, None, torch.zeros(4, 4, 12, 8))
    inputs = [torch.zeros(4, 12, 4), torch.zeros(4, 12, 64)]  # of a gate, of something wider
    inputs.insert(place, torch.ones(4, 12, 32))
    for tensor in [*inputs, torch.zeros(4, 12, 32)]:
        running.on_linear(tensor)
    context, split = running.context(None)
    assert context is inputs[place]
    assert not split
