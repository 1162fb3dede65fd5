"""Builds a model without its weights, and records how to make each of them exactly as in the whole model.

Initialisation draws random numbers for every weight, one after the other, from one generator. While a model is built
under a `Ledger`, new tensors get no memory: the operations on them (`normal_`, `zero_`, ...) are recorded instead, in
order. A weight is made later by replaying its own entries. The draws of the entries before them are made on scratch
memory and discarded, so the numbers are the same, bit for bit, and no two weights need to be in memory at a time.
Made in the order of their last entries, the weights cost no more draws than the whole model; in any other order, an
earlier weight is drawn again from the saved state of the generator.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from lpzero_hf.models.meta_device import Pretence

aten = torch.ops.aten
FACTORIES = {
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
}
OVERWRITES = {
    aten.normal_.default,
    aten.uniform_.default,
    aten.zero_.default,
    aten.fill_.Scalar,
    aten.fill_.Tensor,
    aten.copy_.default,
}
RESHAPING = {"aten::set_", "aten::resize_", "aten::resize_as_"}  # give a tensor another storage


class NotDeferrable(Exception):
    """The construction of the model uses an operation that cannot be recorded; the message names it."""


@dataclass(eq=False)
class _Account:
    """A storage without memory, and its entries since it was last overwritten as a whole."""

    numel: int
    dtype: torch.dtype
    keep: Tensor  # keeps the storage, and so its key, alive
    entries: list[_Entry] = field(default_factory=list)


@dataclass(eq=False)
class _Entry:
    """One operation in place on (a view of) a storage; `state` is the generator's before it, once that is known."""

    function: Any
    account: _Account
    view: tuple[tuple[int, ...], tuple[int, ...], Any]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    random: bool
    state: Tensor | None = None

    def run(self, memory: Tensor, generator: torch.Generator) -> None:
        """Apply the operation to `memory`, the whole storage."""
        keywords = self.keywords | {"generator": generator} if self.random else self.keywords
        self.function(memory.as_strided(*self.view), *self.arguments, **keywords)


class Ledger(TorchDispatchMode):
    """Enter it to build a model whose weights are made later.

    Tensors created empty become tensors of the meta device with an account here; everything else (buffers, constants)
    is real. An operation that needs the values of a weight makes the weight for itself.

    Args:
        ordered: make the numbers of the whole model. Else no draw waits for those before it: a weight gets other
            numbers of the same distribution.

    Example:
        >>> import torch
        >>> from lpzero_hf.models.deferred_init import Ledger
        >>> with torch.random.fork_rng():
        ...     _ = torch.manual_seed(0)
        ...     with Ledger() as ledger:
        ...         layer = torch.nn.Linear(3, 2)
        >>> layer.weight.device.type, ledger.make(layer.weight).shape
        ('meta', torch.Size([2, 3]))
    """

    def __init__(self, ordered: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ordered = ordered
        self.accounts: dict[int, _Account] = {}
        self.pending: deque[_Entry] = deque()  # entries that draw random numbers, and have not been replayed
        self.generator = torch.Generator()
        self.generator.set_state(torch.get_rng_state())
        self.pretence = Pretence(self.knows)

    def __enter__(self) -> Self:
        self.pretence.__enter__()  # type: ignore[no-untyped-call]  # torch leaves its modes untyped
        self.truncated_normal, nn.init._no_grad_trunc_normal_ = nn.init._no_grad_trunc_normal_, self._trunc_normal
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        nn.init._no_grad_trunc_normal_ = self.truncated_normal
        self.pretence.__exit__(*error)  # type: ignore[no-untyped-call]

    # Building ----------------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunction():  # no pretence here
            return self._dispatch(func, args, kwargs or {})

    def _dispatch(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [t for t in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if any(t.device.type == "meta" and not self.knows(t) for t in tensors):
            raise NotDeferrable(f"{func} on a tensor made for the meta device")
        if func in FACTORIES:
            return self._create(func, args, kwargs)
        if any(self.knows(t) for t in tensors):
            return self._on_account(func, args, kwargs)
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        self._catch_up()
        torch.set_rng_state(self.generator.get_state())
        result = func(*args, **kwargs)
        self.generator.set_state(torch.get_rng_state())
        return result

    def _create(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        source = args[0] if args and isinstance(args[0], Tensor) else None
        if kwargs.get("device") is None and source is not None and not self.knows(source):
            kwargs = kwargs | {"device": source.device}
        if torch.device(kwargs.get("device") or "cpu").type not in ("cpu", "meta") or kwargs.get("pin_memory"):
            raise NotDeferrable(f"{func} on {kwargs.get('device')}")
        made: Tensor = func(*args, **kwargs | {"device": "meta"})
        storage = made.untyped_storage()
        self.accounts[storage._cdata] = _Account(storage.nbytes() // made.element_size(), made.dtype, made)
        return made

    def _on_account(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A view is taken, a change in place is recorded; anything else is computed on real values."""
        first = args[0] if args else None
        written = [a for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        views = any(r.alias_info is not None for r in func._schema.returns)
        if func._schema.name in RESHAPING:
            raise NotDeferrable(f"{func} on a weight")
        if (not written and views) or torch.Tag.inplace_view in func.tags:
            return func(*args, **kwargs)  # on the meta device; shares the storage and so the account
        if not written:
            real_args, real_kwargs = tree_map_only(Tensor, self._real, (args, kwargs))
            return tree_map_only(Tensor, self._enter, func(*real_args, **real_kwargs))
        in_place = written == [func._schema.arguments[0]]
        if not in_place or not isinstance(first, Tensor) or kwargs.get("generator") is not None:
            raise NotDeferrable(f"{func} on a weight")
        others, keywords = tree_map_only(Tensor, self._real, (args[1:], kwargs))  # the target is not made
        if not self.knows(first):
            return func(first, *others, **keywords)
        self._record(func, first, others, keywords)
        return first

    def _real(self, tensor: Tensor) -> Tensor:
        return self.make(tensor) if self.knows(tensor) else tensor

    def _enter(self, value: Tensor) -> Tensor:
        """A value computed from a weight may become a weight, so it gets an account too."""
        if not value.is_floating_point():
            return value
        made = self._create(aten.empty_like.default, (value,), {"device": "cpu"})
        self._record(aten.copy_.default, made, (value,), {})
        return made

    def _record(self, func: Any, target: Tensor, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        random = torch.Tag.nondeterministic_seeded in func.tags
        if random and not any(a.name == "generator" for a in func._schema.arguments):
            raise NotDeferrable(f"{func}, which takes no generator")
        arguments, keywords = tree_map_only(Tensor, lambda t: t.detach().clone(), (arguments, keywords))
        self._append(func, target, arguments, keywords, random, overwrites=func in OVERWRITES)

    def _append(
        self, func: Any, target: Tensor, arguments: tuple[Any, ...], keywords: dict[str, Any], random: bool,
        overwrites: bool,
    ) -> None:  # fmt: skip
        account = self.accounts[target.untyped_storage()._cdata]
        if target.dtype != account.dtype:
            raise NotDeferrable(f"{func} on a weight seen as another type")
        view = (tuple(target.shape), target.stride(), target.storage_offset())
        if overwrites and target.numel() == account.numel:
            account.entries.clear()
        entry = _Entry(func, account, view, arguments, keywords, random)
        account.entries.append(entry)
        if random:
            self.pending.append(entry)

    def _trunc_normal(
        self, tensor: Tensor, mean: float, std: float, a: float, b: float, generator: torch.Generator | None = None
    ) -> Tensor:
        """Recorded as one operation: some versions of torch draw until every value lies within the bounds."""
        with torch._C.DisableTorchFunction():
            if generator is None and self.knows(tensor):
                self._append(self.truncated_normal, tensor, (mean, std, a, b), {}, True, overwrites=True)
                return tensor
        return self.truncated_normal(tensor, mean, std, a, b, generator=generator)

    # Making weights ----------------------------------------------------------------------------------

    def knows(self, tensor: Tensor) -> bool:
        """Whether `tensor` is (a view of) a weight without memory."""
        return tensor.device.type == "meta" and tensor.untyped_storage()._cdata in self.accounts

    @torch.no_grad()
    def make(self, tensor: Tensor) -> Tensor:
        """`tensor` with its values, in its own memory; the values are undefined if nothing was written to it."""
        account = self.accounts[tensor.untyped_storage()._cdata]
        with torch._C._DisableTorchDispatch():  # also while a model is being built under this ledger
            memory = torch.empty(account.numel, dtype=account.dtype)
            for entry in account.entries:
                if not entry.random:
                    entry.run(memory, self.generator)
                elif entry.state is None:
                    self._catch_up(entry)
                    entry.state = self.generator.get_state()
                    entry.run(memory, self.generator)
                else:
                    generator = torch.Generator()
                    generator.set_state(entry.state)
                    entry.run(memory, generator)
            return memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def moments(self, tensor: Tensor) -> tuple[float, float]:
        """The mean and the variance of the numbers that are drawn for the storage of `tensor`; nothing is made.

        Raises:
            NotDeferrable: an operation on it does not draw independent numbers of a known distribution.
        """
        account = self.accounts[tensor.untyped_storage()._cdata]
        mean = square = 0.0  # the first and second moment
        for entry in account.entries:
            part = math.prod(entry.view[0]) / account.numel
            made = _moments(entry, mean, square)
            mean, square = (part * new + (1 - part) * old for new, old in zip(made, (mean, square), strict=True))
        return mean, square - mean**2

    def _catch_up(self, wanted: _Entry | None = None) -> None:
        """Make the draws that come before those of `wanted`, or all pending ones, on scratch memory."""
        if not self.ordered:
            return
        with torch._C._DisableTorchDispatch():
            while self.pending:
                entry = self.pending.popleft()
                if entry is wanted:
                    return
                entry.state = self.generator.get_state()
                entry.run(torch.empty(entry.account.numel, dtype=entry.account.dtype), self.generator)


def _moments(entry: _Entry, mean: float, square: float) -> tuple[float, float]:
    """The first and second moment of a storage after an operation on the whole of it, from those before."""
    function, arguments = entry.function, entry.arguments
    first = arguments[0] if arguments else None
    if isinstance(first, Tensor) and first.numel() == 1:
        first = first.item()
    if function is aten.normal_.default:
        centre, std = (*arguments, 0.0, 1.0)[:2] if len(arguments) != 1 else (first, 1.0)
        return centre, std**2 + centre**2
    if function is aten.uniform_.default:
        low, high = (*arguments, 0.0, 1.0)[:2] if len(arguments) != 1 else (first, 1.0)
        return (low + high) / 2, (low**2 + low * high + high**2) / 3
    if function is aten.zero_.default:
        return 0.0, 0.0
    if function in (aten.fill_.Scalar, aten.fill_.Tensor, aten.copy_.default) and isinstance(first, int | float):
        return first, first**2
    if isinstance(first, int | float) and function in (aten.mul_.Tensor, aten.mul_.Scalar):
        return mean * first, square * first**2
    if isinstance(first, int | float) and function in (aten.div_.Tensor, aten.div_.Scalar):
        return mean / first, square / first**2
    if len(arguments) == 4 and getattr(function, "__name__", "").endswith("trunc_normal_"):
        return _truncated(*arguments)
    raise NotDeferrable(f"{function} gives numbers that may depend on each other")  # an orthogonal matrix, for example


def _truncated(mean: float, std: float, low: float, high: float) -> tuple[float, float]:
    """The moments of a normal distribution that is cut off at `low` and `high`."""
    a, b = (low - mean) / std, (high - mean) / std

    def density(x: float) -> float:
        return math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)

    inside = (math.erf(b / math.sqrt(2)) - math.erf(a / math.sqrt(2))) / 2
    shift = (density(a) - density(b)) / inside
    centre = mean + std * shift
    return centre, std**2 * (1 + (a * density(a) - b * density(b)) / inside - shift**2) + centre**2
