"""How many CPU threads torch uses for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` CPU threads inside the context, and the former number afterwards.

    The number decides how sums are rounded. Thousands of small operations are fastest on one thread: several threads
    wait for each other after each operation, and longer if other processes use the cores too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
