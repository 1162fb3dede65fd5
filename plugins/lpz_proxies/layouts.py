"""Layouts of families that generic detection recognises only in part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from transformers import PreTrainedModel

from lpzero_hf.models.layout import ModelLayout, WeightSite, find_layout


def xlnet(model: PreTrainedModel) -> ModelLayout:
    """XLNet runs time first, and projects with `einsum` on weights [d_model, h, d_head]; the one of the
    output projection, `o`, is used transposed."""
    layout = find_layout(model)
    projections = [
        WeightSite(
            f"{mixer.name}.{name}",
            index,
            "mixer",
            getattr(mixer.module, name),
            "out_in" if name == "o" else "in_out",
        )
        for index, block in enumerate(layout.blocks)
        for mixer in block.mixers
        for name in ("q", "k", "v", "o", "r")
    ]
    return replace(layout, sites=(*projections, *layout.sites), time_major=True)


def albert(model: PreTrainedModel) -> ModelLayout:
    """ALBERT applies its few blocks `num_hidden_layers` times over."""
    layout = find_layout(model)
    depth = model.config.num_hidden_layers * model.config.inner_group_num
    return replace(layout, depth=depth, repeats=depth / len(layout.blocks))


def xlm(model: PreTrainedModel) -> ModelLayout:
    """XLM and FlauBERT keep attention and feed-forward halves of a block in two lists."""
    return replace(find_layout(model), depth=model.config.n_layers)


LAYOUTS: dict[str, Callable[[PreTrainedModel], ModelLayout]] = {
    "albert": albert,
    "flaubert": xlm,
    "xlm": xlm,
    "xlnet": xlnet,
}
