"""Everything that a model's own objects hold: found by walking them, exchanged for a while, put back.

The objects are the model's modules (also those that it hides in plain lists), the built-in containers in their
attributes, and instances of classes from transformers or from a package that a module comes from, such as
configurations and caches. Other objects (loggers, compilers, kernels) belong to somebody else and are not entered.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from enum import Enum
from operator import is_
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

Exchange = Callable[[Tensor], Tensor]
ATOMS = {type(None), bool, int, float, str, bytes, FunctionType, MethodType, Tensor, nn.Parameter}  # hold nothing
PLAIN = {dict, list, set, OrderedDict, deque}


class Snapshot:
    """The contents of all containers that can be reached from `model`, by reference.

    Args:
        model: to walk.
    """

    def __init__(self, model: nn.Module) -> None:
        registered = list(model.modules())
        self.packages = {_package(module) for module in registered} - {"torch"} | {"transformers"}
        self.saved: list[tuple[Any, list[Any]]] = []
        self.empty: list[Any] = []
        self._seen: set[int] = set()
        waiting: list[Any] = [*reversed(registered)]
        while waiting:
            waiting.extend(self._enter(waiting.pop()))

    def _enter(self, value: Any) -> Iterable[Any]:
        """Save what `value` holds, and return the part of it that may hold something, too."""
        if id(value) in self._seen:
            return ()
        found: list[Any] = []
        if isinstance(value, tuple):
            return [item for item in value if type(item) not in ATOMS]
        for part in self._containers(value):
            if not part:
                self.empty.append(part)
                continue
            self.saved.append((part, _contents(part)))
            found += [item for item in (part.values() if isinstance(part, dict) else part) if type(item) not in ATOMS]
        self._seen.add(id(value))
        return found

    def _containers(self, value: Any) -> tuple[Any, ...]:
        """The containers of `value`: itself, its attributes, both or none."""
        if type(value) in PLAIN:
            return (value,)
        if isinstance(value, type | Enum | Tensor):
            return ()
        own = (value,) if isinstance(value, dict | list | set | deque) else ()
        inside = isinstance(value, nn.Module) or _package(value) in self.packages
        attributes = getattr(value, "__dict__", None) if inside else None
        return own if not isinstance(attributes, dict) else (*own, attributes)

    def exchange(self, replacement: Exchange) -> None:
        """Put the replacement of every tensor, also inside tuples, in the tensor's place."""
        for container, contents in self.saved:
            if isinstance(container, list | deque):
                for index, item in enumerate(contents):
                    if (new := _exchanged(item, replacement)) is not item:
                        container[index] = new
            elif isinstance(container, dict):
                for key, item in contents:
                    if (new := _exchanged(item, replacement)) is not item:
                        _dict_of(container).__setitem__(container, key, new)

    def restore(self) -> None:
        """Put back what every container held, in its order; containers that hold it still are not touched."""
        for container in self.empty:
            if container:
                _fill(container, [])
        for container, contents in self.saved:
            if not _same(_contents(container), contents):
                _fill(container, contents)


def _package(value: Any) -> str:
    return str(type(value).__module__).partition(".")[0]


def _contents(container: Any) -> list[Any]:
    return list(container.items() if isinstance(container, dict) else container)


def _exchanged(item: Any, replacement: Exchange) -> Any:
    if isinstance(item, Tensor):
        return replacement(item)
    if isinstance(item, tuple):
        new = [_exchanged(part, replacement) for part in item]
        if any(a is not b for a, b in zip(new, item, strict=True)):
            return type(item)(*new) if hasattr(item, "_fields") else type(item)(new)
    return item


def _same(now: list[Any], before: list[Any]) -> bool:
    """Whether two lists of items, or of pairs of a key and an item, hold the same objects."""
    if len(now) != len(before):
        return False
    for a, b in zip(now, before, strict=True):
        if a is not b and not (type(a) is type(b) is tuple and len(a) == len(b) and all(map(is_, a, b))):
            return False
    return True


def _dict_of(container: dict[Any, Any]) -> type[dict[Any, Any]]:
    """The built-in class whose methods fill `container` without the side effects that a subclass may add."""
    return OrderedDict if isinstance(container, OrderedDict) else dict


def _fill(container: Any, contents: list[Any]) -> None:
    if isinstance(container, dict):
        of = _dict_of(container)
        of.clear(container)
        for key, item in contents:
            of.__setitem__(container, key, item)
    else:
        container.clear()
        (container.update if isinstance(container, set) else container.extend)(contents)
