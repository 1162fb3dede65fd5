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


def prophetnet(model: PreTrainedModel) -> ModelLayout:
    """ProphetNet's decoder runs on its tokens and, behind them, on a copy for every n-gram that it predicts."""
    return replace(find_layout(model), streams=model.config.ngram + 1)


LAYOUTS: dict[str, Callable[[PreTrainedModel], ModelLayout]] = {
    "albert": albert,
    "prophetnet": prophetnet,
    "xlm-prophetnet": prophetnet,
    "xlnet": xlnet,
}
