"""Counts the operations of each kind of block once, however many blocks of that kind a model has."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MethodType
from typing import Any, Protocol

from torch import Tensor, nn

PLACE = re.compile(r"(layer|block)(_?(id|idx|index|number|num))?", re.IGNORECASE)  # attributes that only count blocks
PLAIN = (bool, int, float, str, type(None))


class Counter(Protocol):
    """What counts while a pass runs: `FlopCounterMode`, for example."""

    def get_total_flops(self) -> int:
        """The count so far."""


@dataclass
class KindsCounted:
    """Runs a block only if none of its kind has run on inputs of the same shapes; else its output is reused.

    For passes without values (`ShapesOnly`), where equal shapes are equal results. Two blocks are of one kind if they
    consist of modules of the same classes, with parameters of the same shapes and the same plain attributes; an
    attribute that only says the place of the block (`layer_idx`) does not count.

    Args:
        counter: counts the blocks that run: operations, or anything else that blocks of one kind have as much of.
        skipped: the operations of those that do not, as the counter counts them.
        ran: the operations and the output of each kind, by kind and signature of the inputs.
    """

    counter: Counter
    skipped: int = 0
    ran: dict[Hashable, tuple[int, Any]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The operations of the pass."""
        return int(self.counter.get_total_flops()) + self.skipped

    @contextmanager
    def watching(self, blocks: Iterable[nn.Module]) -> Iterator[None]:
        """Count the passes of these blocks inside the context."""
        replaced: list[nn.Module] = []
        try:
            for block in {id(block): block for block in blocks}.values():
                if "forward" not in vars(block):  # else somebody else's patch
                    block.forward = self._once(block)
                    replaced.append(block)
            yield
        finally:
            for block in replaced:
                del block.forward

    def _once(self, block: nn.Module) -> Any:
        kind, run = kind_of(block), block.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            key = (kind, _signature(args), _signature(kwargs))
            if key in self.ran:
                operations, output = self.ran[key]
                self.skipped += operations
                return output
            before = self.total
            output = run(*args, **kwargs)
            self.ran[key] = self.total - before, output
            return output

        return forward


def kind_of(block: nn.Module) -> Hashable:
    """Equal for two blocks that do the same operations on inputs of the same shapes."""
    return tuple(
        (
            name,
            type(module),
            tuple(
                (key, _signature(value))
                for key, value in sorted(vars(module).items())
                if not PLACE.fullmatch(key) and key not in ("_modules", "forward")
            ),
        )
        for name, module in block.named_modules()
    )  # fmt: skip


def _signature(value: Any) -> Hashable:
    """What the operations on a value can depend on: shapes of tensors, plain values, the identity of objects."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype, value.requires_grad
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, dict):
        return tuple((key if isinstance(key, str) else id(key), _signature(one)) for key, one in value.items())
    if isinstance(value, list | tuple | set):
        return type(value), tuple(_signature(one) for one in value)
    if isinstance(value, partial):
        return partial, _signature([value.func, value.args, value.keywords])
    if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):  # of a module whose kind counts already
        return MethodType, id(value.__func__)
    return type(value), id(value)
