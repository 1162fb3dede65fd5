"""What all tests of searches share."""

from __future__ import annotations

import pytest

from lpzero_hf.searching import selection


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the resamples, which most of a short search would go to: they show the same."""
    monkeypatch.setattr(selection, "RESAMPLES", 100)
