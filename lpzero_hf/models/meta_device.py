"""Runs a model whose weights have no memory: tensors that depend on them have only shapes, all others have values.

The control flow of models depends on token ids, masks and positions, so a pass on the meta device fails where it reads
them. Here such tensors keep their values, unless they are huge. A pass that reads values computed from weights (a
router that sends tokens to experts) still fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

LARGEST = 2**28  # bytes of a tensor that is made with values; a mask of a long sequence, for example, is smaller


class Pretence(TorchFunctionMode):
    """Tensors without memory report that they are on the CPU, so that code which checks the device runs as on a CPU.

    Args:
        about: which tensors.
    """

    def __init__(self, about: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.about = about
        self.answers: dict[Any, Any] = {
            Tensor.is_meta.__get__: False,  # type: ignore[attr-defined]  # stub gap
            Tensor.is_cpu.__get__: True,  # type: ignore[attr-defined]
            Tensor.device.__get__: torch.device("cpu"),
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self.answers and self.about(args[0]):
            return self.answers[func]
        return func(*args, **(kwargs or {}))


class ShapesOnly(TorchDispatchMode):
    """Enter it around a pass of a model with parameters on the meta device; inputs and buffers may be real.

    Args:
        floats: whether floating-point tensors that depend on nothing have values: not where they are written to, as
            the state of a cache is.

    Raises:
        RuntimeError: the pass reads a value that does not exist.

    Example:
        >>> import torch
        >>> from lpzero_hf.models.meta_device import ShapesOnly
        >>> layer = torch.nn.Linear(3, 2, device="meta")
        >>> with ShapesOnly():
        ...     layer(torch.ones(4, 3)).shape
        torch.Size([4, 2])
    """

    def __init__(self, floats: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves its modes untyped
        self.floats = floats
        self.pretence = Pretence(lambda tensor: tensor.is_meta)

    def __enter__(self) -> Self:
        self.pretence.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.pretence.__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            if not tensors and any(argument.name == "device" for argument in func._schema.arguments):
                made = func(*args, **kwargs | {"device": torch.device("meta")})
                if isinstance(made, Tensor) and (
                    made.numel() * made.element_size() > LARGEST or (not self.floats and made.is_floating_point())
                ):
                    return made
            if not any(t.is_meta for t in tensors):
                return func(*args, **kwargs)
            for place, argument in enumerate(func._schema.arguments):
                written = argument.alias_info is not None and argument.alias_info.is_write
                target = args[place] if place < len(args) else kwargs.get(argument.name)
                if written and isinstance(target, Tensor) and not target.is_meta:
                    raise RuntimeError(f"{func} writes unknown values into a tensor that has values")
            args, kwargs = tree_map_only(Tensor, lambda t: t.to("meta"), (args, kwargs))
            if kwargs.get("device") is not None:
                kwargs = kwargs | {"device": torch.device("meta")}
            return func(*args, **kwargs)
