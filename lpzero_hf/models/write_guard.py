"""Weights that a model overwrites while it runs: their contents are saved before the first write, and put back.

RWKV divides weights in place in its first pass in eval mode; `nn.Embedding(max_norm=...)` renormalises the rows that
it looks up. Few models do so, hence weights are not copied beforehand: a call that writes is noticed through torch's
function protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lpzero_hf.errors import CaptureError

Storage = torch.UntypedStorage
IN_PLACE = {"__setitem__", "set_", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__ipow__",
            "__imod__", "__iand__", "__ior__", "__ixor__"}  # fmt: skip
HARMLESS = {"requires_grad_", "detach_", "share_memory_", "rename_"}  # they leave the values


class WriteGuard(TorchFunctionMode):
    """While it is active, weights that share memory with their originals are saved before anything writes into them."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, Storage] = {}  # by address
        self.saved: dict[int, tuple[Storage, Storage]] = {}
        self.shared: list[tuple[nn.Parameter, int, int]] = []  # the replacement, its version, its address
        self.writes: dict[Any, bool] = {}  # by function

    def watch(self, original: nn.Parameter, replacement: nn.Parameter) -> None:
        """Guard the memory of `original`; `replacement` is what the model has in its place."""
        address = _address(original)
        if address and address == _address(replacement):
            self.storages[address] = original.untyped_storage()
            self.shared.append((replacement, replacement._version, address))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for target in self._targets(func, args, kwargs):
            self._save(target)
        return func(*args, **kwargs)

    def _targets(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
        """The tensors that a call writes into."""
        writes = self.writes.get(func)
        if writes is None:
            name = str(getattr(func, "__name__", ""))
            ends = name.endswith("_") and not name.endswith("__")
            writes = self.writes[func] = name in IN_PLACE or (ends and name not in HARMLESS)
        if writes or kwargs.get("inplace"):
            yield from _tensors(args[:1] or list(kwargs.values())[:1])
        if kwargs:
            yield from _tensors(kwargs.get("out"))
        if func is F.embedding and (kwargs.get("max_norm") is not None or len(args) > 3):
            yield from _tensors(kwargs.get("weight", args[1:2]))

    def _save(self, target: Tensor) -> None:
        address = _address(target)
        if address in self.storages and address not in self.saved:
            storage = self.storages[address]
            self.saved[address] = storage, storage.clone()

    def undo(self) -> None:
        """Put back what the weights held."""
        for storage, content in self.saved.values():
            storage.copy_(content)

    def check(self, model: nn.Module) -> None:
        """Raise `CaptureError` if a weight was written into unnoticed."""
        for replacement, version, address in self.shared:
            if replacement._version != version and address not in self.saved:
                raise CaptureError(
                    f"{type(model).__name__} wrote into its weights in a way that cannot be undone; load it again"
                )


def _address(tensor: Tensor) -> int:
    """Where the memory of `tensor` begins; 0 for a tensor without memory of its own."""
    try:
        return 0 if tensor.is_meta else tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # a tensor subclass
        return 0


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
