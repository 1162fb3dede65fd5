"""What the functions of one pass share: memory, from site to site, and intermediate results, at one site."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_current = threading.local()


class Workspace:
    """The buffers of one pass, the largest so far by their name, type and device, and the results of one site."""

    def __init__(self) -> None:
        self.buffers: dict[object, Tensor] = {}
        self.results: dict[object, tuple[tuple[Tensor, ...], Tensor]] = {}  # with the tensors they were made of

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, `buffer` takes memory from here."""
        before, _current.workspace = getattr(_current, "workspace", None), self
        try:
            yield
        finally:
            _current.workspace = before

    def next_site(self) -> None:
        """Free the results of the site before."""
        self.results.clear()

    def clear(self) -> None:
        """Free everything."""
        self.buffers.clear()
        self.results.clear()


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


def once(compute: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`compute(*tensors)`, which the reductions of one site that ask for it with the same tensors share.

    Args:
        compute: a function of its module, whose result is small beside the tensors; nobody may write into it.
        tensors: as the reduction got them.
    """
    workspace: Workspace | None = getattr(_current, "workspace", None)
    if workspace is None:
        return compute(*tensors)
    key = (compute, *map(id, tensors))
    if key not in workspace.results:
        workspace.results[key] = tensors, compute(*tensors)  # the tensors are held, so that their ids stay theirs
    return workspace.results[key][1]
