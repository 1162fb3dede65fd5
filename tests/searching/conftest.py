"""What all tests of searches share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.searches import few_resamples


@pytest.fixture(autouse=True)
def short_searches() -> Iterator[None]:
    """Searches take few resamples."""
    with few_resamples():
        yield
