"""The memory that tensors take while code runs, from their sizes: with values or on shapes alone."""

from __future__ import annotations

import weakref
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class FusedAttention(TorchFunctionMode):
    """Attention on shapes as the kernels of torch do it, without the matrix of scores; they take as many heads of
    queries as of keys, or are told that there are fewer of these."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            names = ("query", "key", "value")
            query, key, value = (args[i] if i < len(args) else kwargs[name] for i, name in enumerate(names))
            if query.shape[:-2] != key.shape[:-2] and not kwargs.get("enable_gqa"):
                return func(*args, **kwargs)
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **kwargs)


class PeakMemory(TorchDispatchMode):
    """Follows the storages that operations make inside the context, until they are freed.

    Attributes:
        peak: the most bytes at a time. Workspace inside of kernels is not seen.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves its modes untyped
        self.peak = self._now = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._free, key, size).atexit = False

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
