"""How many CPU threads torch uses for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Use so many threads inside, and as many as before afterwards.

    Their number decides how sums are rounded. Thousands of small operations are fastest on one: several threads wait
    for each other after each of them, for long where other processes want the cores too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
