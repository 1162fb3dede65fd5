"""Layouts of families whose mixers use their weights outside linear layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from transformers import PreTrainedModel

from lpzero_hf.layout import ModelLayout, WeightSite, find_layout


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


LAYOUTS: dict[str, Callable[[PreTrainedModel], ModelLayout]] = {"xlnet": xlnet}
