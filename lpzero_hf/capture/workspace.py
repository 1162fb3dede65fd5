"""Memory that the functions of one pass reuse from site to site, and that is freed with the pass."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_current = threading.local()


class Workspace:
    """The buffers of one pass, the largest so far by their name, type and device."""

    def __init__(self) -> None:
        self.buffers: dict[object, Tensor] = {}

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, `buffer` takes memory from here."""
        before, _current.workspace = getattr(_current, "workspace", None), self
        try:
            yield
        finally:
            _current.workspace = before

    def clear(self) -> None:
        """Free everything."""
        self.buffers.clear()


def buffer(name: str, like: Tensor, rows: int, columns: int) -> Tensor:
    """An uninitialised matrix [rows, columns] of the type of `like`, valid until that name is taken again."""
    workspace: Workspace | None = getattr(_current, "workspace", None)
    if workspace is None:
        return like.new_empty(rows, columns)
    key, held = (name, like.dtype, like.device), workspace.buffers
    if key not in held or len(held[key]) < rows * columns:
        held.pop(key, None)  # first, so that there are never two at the same time
        held[key] = like.new_empty(rows * columns)
    return held[key][: rows * columns].view(rows, columns)
