"""Candidates come back from a checkpoint as they were, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from lpzero_hf.searching.archive import candidate_from


@pytest.mark.parametrize("orientation", [10**400, 0, 2, "x", None])
def test_a_candidate_is_ranked_up_or_down(orientation: Any) -> None:
    text = "sum(sum(product(abs(W), abs(G))))"
    assert candidate_from([text, 0.5, -1]).orientation == -1
    with pytest.raises(ValueError, match="orientation"):
        candidate_from([text, 0.5, orientation])
