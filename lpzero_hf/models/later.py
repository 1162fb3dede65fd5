"""Libraries that take seconds to import, imported when code first uses them, so that a listing never does.

A module that only declares things (proxies, operations, reductions) takes them from here, and imports what they build
on inside its functions. Classes cannot derive from what is imported later.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LaterModule(ModuleType):
    """A module in name, which is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return LaterModule, (self.__name__,)  # a proxy that holds one goes to another process


if TYPE_CHECKING:
    import torch as torch
else:
    torch = LaterModule("torch")
