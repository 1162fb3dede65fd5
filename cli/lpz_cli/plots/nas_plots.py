"""The figures of a search under budgets: score against parameters, or one objective against another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lpz_cli.plots.scatter import save

if TYPE_CHECKING:
    from lpzero_hf.scoring.display import Displayed


def draw_front(found: Displayed, file: Path) -> Path:
    """Draw the figure of a search.

    Args:
        found: its result.
        file: the PNG to write.

    Raises:
        LpzError: the file cannot be written.
    """
    return save(found.plot(), file)
