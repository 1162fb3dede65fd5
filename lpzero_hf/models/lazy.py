"""Lazy models: they have shapes but no memory for weights; a weight is made or read when it is needed.

Proxies that need only shapes run on the meta device, and those that need only weights get one weight at a time, which
is freed before the next. For any other proxy the whole model is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from lpzero_hf.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


Reader = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Source:
    """Where the weights of a lazy model come from.

    Args:
        whole: builds the whole model.
        reader: makes `read`, when a weight is wanted for the first time.
        device: where the model goes, and each weight.
    """

    whole: Callable[[], PreTrainedModel]
    reader: Callable[[], Reader | None] = lambda: None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @cached_property
    def read(self) -> Reader | None:
        """Makes one parameter of the lazy model, with the values that the whole model has; None if that is not
        possible for this model."""
        return self.reader()


_sources: WeakKeyDictionary[nn.Module, Source] = WeakKeyDictionary()


def make_lazy(model: PreTrainedModel, source: Source) -> PreTrainedModel:
    """`model`, registered as a lazy model."""
    _sources[model] = source
    return model


def source_of(model: nn.Module) -> Source | None:
    """Where the weights of `model` come from; None if it has them."""
    return _sources.get(model)


class NotInCheckpoint(LookupError):
    """Weights are missing by their names, or have another shape, unless loading converts them."""


class Checkpoint:
    """The weights of a model in safetensors files, in one or several shards, read one by one.

    Args:
        location: a folder or a Hub id.
        model: the model whose parameters are read.
        device: where they go.

    Raises:
        NotInCheckpoint: a parameter is missing, or has another shape.
        LookupError: the checkpoint cannot be read one by one.
    """

    def __init__(self, location: str | Path, model: PreTrainedModel, device: torch.device) -> None:
        self.device = device
        keys = {key: file for file in _files(location) for key in _keys(file)}
        if _converted(model):
            raise LookupError("transformers converts checkpoints of this family while it loads them")
        self.places: dict[int, tuple[Path, str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            for key in (name, f"{model.base_model_prefix}.{name}", name.removeprefix(f"{model.base_model_prefix}.")):
                if key in keys and id(parameter) not in self.places:
                    self._place(parameter, keys[key], key)
        if missing := [name for name, p in model.named_parameters() if id(p) not in self.places]:
            raise NotInCheckpoint(f"'{missing[0]}' is not in the checkpoint")

    def _place(self, parameter: Tensor, file: Path, key: str) -> None:
        with _opened(file) as opened:
            if tuple(opened.get_slice(key).get_shape()) != tuple(parameter.shape):
                raise NotInCheckpoint(f"'{key}' has another shape in the checkpoint")
        self.places[id(parameter)] = file, key

    def read(self, parameter: Tensor) -> Tensor:
        """The stored values, in the type of `parameter`."""
        file, key = self.places[id(parameter)]
        with _opened(file) as opened:  # closed at once, so that the mapped file leaves the memory
            stored: Tensor = opened.get_tensor(key)
            return stored.to(self.device, parameter.dtype, copy=True)


def _opened(file: Path):  # type: ignore[no-untyped-def]  # safetensors leaves it untyped
    from safetensors import safe_open

    return safe_open(file, framework="pt")


def _keys(file: Path) -> list[str]:
    with _opened(file) as opened:
        return list(opened.keys())


def _files(location: str | Path) -> list[Path]:
    """The safetensors files of a checkpoint, downloaded where they are not here yet."""
    from transformers.utils.hub import cached_file

    def find(name: str) -> Path | None:
        found = cached_file(str(location), name, _raise_exceptions_for_missing_entries=False)
        return None if found is None else Path(found)

    if single := find(SINGLE):
        return [single]
    index = find(INDEX)
    if index is None:
        raise LookupError("the checkpoint is not in safetensors files")
    shards = dict.fromkeys(read_json(index, "download it again")["weight_map"].values())
    found = [find(shard) for shard in shards]
    if None in found:
        raise LookupError("a shard of the checkpoint is missing")
    return [file for file in found if file is not None]


def _converted(model: PreTrainedModel) -> bool:
    """Whether loading does more than copy: weights merged or renamed, or kept in another precision."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
    except ImportError:
        return True
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters())
    kept = getattr(model, "_keep_in_fp32_modules", None) or getattr(model, "_keep_in_fp32_modules_strict", None)
    return bool(get_model_conversion_mapping(model, add_legacy=False)) or (half and bool(kept))
