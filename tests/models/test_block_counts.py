"""The operations of a model are those of each kind of block times how often it runs, exactly."""

from __future__ import annotations

import pytest
import torch
from lpz_proxies import size
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from lpzero_hf.models import flop_count
from lpzero_hf.models.block_counts import KindsCounted, kind_of
from lpzero_hf.models.build import build_model
from lpzero_hf.models.isolation import isolated
from lpzero_hf.models.kernels import plain_kernels
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.meta_device import ShapesOnly
from lpzero_hf.models.minibatch import minibatch
from lpzero_hf.models.objective import run_model, with_labels
from lpzero_hf.proxies.base import Subject
from tests.support.families import FAMILIES

DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers")
HYBRID = {  # families whose blocks are of several kinds, in an order of their own
    "jamba": dict(
        vocab_size=4200, hidden_size=32, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, attn_layer_period=3, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1,
        num_experts=4, num_experts_per_tok=2, mamba_d_state=8, use_mamba_kernels=False, pad_token_id=0, bos_token_id=2,
        eos_token_id=2,
    ),
    "lfm2": dict(
        vocab_size=4200, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, layer_types=["conv", "full_attention", "conv", "conv"], pad_token_id=0, bos_token_id=2,
        eos_token_id=2,
    ),
}  # fmt: skip


def deeper(family: str) -> dict[str, object]:
    """The tiny configuration of a family with six blocks."""
    if family in HYBRID:
        return HYBRID[family]
    changed = {key: 6 for key in DEPTHS if key in FAMILIES[family]}
    changed |= {"attention_types": [[["global", "local"], 3]]} if family == "gpt_neo" else {}
    return FAMILIES[family] | changed


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRID])
def test_flops_are_those_of_a_pass_with_values_layer_by_layer(family: str) -> None:
    model = build_model(AutoConfig.for_model(family, **deeper(family)))
    fed = with_labels(model, minibatch(model, batch_size=1, seq_len=16), 1)
    counter = FlopCounterMode(display=False)
    with isolated(model, trainable=lambda parameter: False), torch.no_grad(), plain_kernels(model), counter:
        run_model(model, fed)
    assert size.flops(Subject(model, fed, layout_of(model), 1)) == counter.get_total_flops() / 2 > 0
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize(("family", "kinds"), [("llama", 1), ("gemma3_text", 2), ("deepseek_v3", 2), ("albert", 1)])
def test_each_kind_of_block_runs_once(family: str, kinds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(AutoConfig.for_model(family, **deeper(family)), lazy=True)
    layout = layout_of(model)
    made: list[KindsCounted] = []
    monkeypatch.setattr(flop_count, "KindsCounted", lambda counter: made.append(KindsCounted(counter)) or made[-1])
    fed = minibatch(model, batch_size=1, seq_len=16)
    with ShapesOnly():
        size.flops(Subject(model, with_labels(model, fed, 1), layout, 1))
    assert [(len(counted.ran), counted.skipped > 0) for counted in made] == [(kinds, True)]


def test_blocks_of_other_widths_activations_or_settings_are_of_other_kinds() -> None:
    def block(width: int = 8, activation: nn.Module | None = None, **settings: object) -> nn.Module:
        made = nn.Sequential(nn.Linear(4, width), activation or nn.GELU())
        for name, value in settings.items():
            setattr(made, name, value)
        return made

    plain = kind_of(block())
    assert plain == kind_of(block()) == kind_of(block(layer_idx=3)) == kind_of(block(layer_id=4))
    assert len({plain, kind_of(block(width=9)), kind_of(block(activation=nn.ReLU())), kind_of(block(window=5))}) == 4
