"""The width of a model: what its configuration says, and what its blocks show where that says nothing."""

from __future__ import annotations

import copy

import pytest
from transformers import AutoConfig, PreTrainedConfig

from lpzero_hf import score
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.width import hidden_width, width_of_layout
from lpzero_hf.spaces.named import load_space
from tests.support.families import FAMILIES, RARE, tiny_model

SORTED = ("depth_then_width", "depth_width2", "num_layers", "hidden_size")


class Silent(PreTrainedConfig):
    """A configuration of a family with names of its own."""

    model_dim = 24


@pytest.mark.parametrize("family", [*FAMILIES, *RARE])
def test_the_blocks_show_the_width_that_the_configuration_says(family: str) -> None:
    model = tiny_model(family)
    layout = layout_of(model)
    shown = 16 if family == "mobilebert" else 32  # its attention, which comes first, lies behind a bottleneck
    assert hidden_width(model.config, layout) == 32
    assert hidden_width(Silent(), layout) == width_of_layout(layout) == shown


def test_a_width_that_is_no_whole_number_is_not_believed() -> None:
    model = tiny_model("gpt2")
    for wrong in (True, 0, -1, [32, 64], "32", None):
        config = copy.deepcopy(model.config)
        config.hidden_size = wrong
        assert hidden_width(config, layout_of(model)) == 32


def test_a_composite_model_has_the_width_of_its_text_part() -> None:
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(
        "llava", text_config={"model_type": "llama", **text}, vision_config={"hidden_size": 24}
    )
    assert hidden_width(config, layout_of(tiny_model("llama"))) == 32


@pytest.mark.parametrize("space", ["tiny-gpt2", "flexibert"])
def test_one_number_sorts_by_depth_and_then_by_width(space: str) -> None:
    members = load_space(space)
    rows = []
    for seed in range(8):
        model = build_model(members.config(members.samples(1, seed)[0]), lazy=True)
        rows.append([score(model, None, SORTED)[name].require() for name in SORTED])
    for combined, product, depth, width in rows:
        assert product == depth * width**2
        assert combined == pytest.approx(depth + width / 10**6, abs=1e-12)
    by_number = sorted(rows, key=lambda row: row[0])
    assert [row[2:] for row in by_number] == sorted(row[2:] for row in rows)


@pytest.mark.slow
def test_widths_next_to_each_other_stay_apart_at_any_depth() -> None:
    for depth in (1, 3, 96, 500):
        narrow, wide, deeper = (build_gpt2(*shape) for shape in ((depth, 4), (depth, 5), (depth + 1, 1)))
        assert narrow < wide < deeper


def build_gpt2(depth: int, width: int) -> float:
    config = AutoConfig.for_model("gpt2", n_layer=depth, n_embd=width, n_head=1, vocab_size=50, n_positions=8)
    return score(build_model(config, device="meta"), None, "depth_then_width")["depth_then_width"].require()
