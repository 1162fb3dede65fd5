"""The width of a model: how many features it has for each token between its blocks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lpzero_hf.models.layout import ModelLayout

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def hidden_width(config: PreTrainedConfig, layout: ModelLayout) -> int:
    """The hidden size, of the text part of a composite model: what the configuration says, else what the blocks read.

    Args:
        config: transformers maps its `hidden_size` to the family's own name, such as `n_embd` or `d_model`.
        layout: of the model.
    """
    for part in (config.get_text_config(), config):
        size = getattr(part, "hidden_size", None)
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
    return width_of_layout(layout)


def width_of_layout(layout: ModelLayout) -> int:
    """The inputs of the first linear layer of a block, of most blocks: it reads what goes from block to block."""
    first = {site.block: site for site in reversed(layout.sites)}.values()
    widths = Counter(site.matrices(site.parameter)[0].shape[1] for site in first)
    return widths.most_common(1)[0][0]
