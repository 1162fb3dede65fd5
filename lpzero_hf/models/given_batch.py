"""Makes a minibatch of what callers have: tokenizer output, a data loader, rows of a dataset."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from lpzero_hf.errors import MinibatchError, MinibatchWarning
from lpzero_hf.models.isolation import random_numbers
from lpzero_hf.models.objective import head_kind, padding_token
from lpzero_hf.models.padding import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GivenBatch = Mapping[str, Any] | Iterable[Any]
SHAPE = "a minibatch is a dict with 'input_ids' [batch, tokens], tensors or lists; a DataLoader; or rows of a dataset"
MOST_ROWS = 4096  # of a dataset that is given as a whole
ALWAYS = ("input_ids", "attention_mask")  # which tells padding, also to a model that takes no mask
OWN_CODE = "transformers."  # where the signature of `forward` says all that a model takes


def as_batch(given: GivenBatch, model: PreTrainedModel) -> dict[str, Any]:
    """What a caller gives as a minibatch, as a dict of tensors with the entries that `model` takes.

    Lists become tensors, those of unequal length padded on the right. The rest (other columns of a dataset, texts,
    `labels` or `token_type_ids` that the model does not take) is left out, with one `MinibatchWarning` that names it.

    Args:
        given: a mapping (a tokenizer's `BatchEncoding`, a dict of tensors, arrays or lists), a `DataLoader`, of which
            the first batch is taken, drawn by a fixed seed; a row of a dataset, a list of rows, or a whole dataset.
        model: that it is for.

    Raises:
        MinibatchError: it is nothing of these, or is no rectangle of numbers.
    """
    columns = _columns(given, model)
    if _is_row(columns.get("input_ids")):
        columns = {name: value[None] if hasattr(value, "shape") else [value] for name, value in columns.items()}
    made = {name: _tensor(name, value, model) for name, value in columns.items() if _numbers(value)}
    if isinstance(ids := made.get("input_ids"), Tensor) and "attention_mask" not in made:
        made |= _padding(columns["input_ids"], ids)
    left = [name for name in columns if name not in made or not _fits(model, name, made[name])]
    if left:
        named = ", ".join(f"'{name}'" for name in left)
        warnings.warn(
            f"{type(model).__name__} does not take {named} of this minibatch; it is scored without",
            MinibatchWarning,
            stacklevel=4,
        )
    return {name: value for name, value in made.items() if name not in left}


def _columns(given: GivenBatch, model: PreTrainedModel) -> dict[str, Any]:
    """The entries by name."""
    if isinstance(given, DataLoader):
        first = _first_of(given, model)
        if first is None:
            raise MinibatchError("the data loader is empty; give one with a batch")
        return _columns(first, model)
    if isinstance(given, Mapping):
        return {name: _plain(value) for name, value in given.items()}
    if hasattr(given, "iloc") and hasattr(given, "columns"):  # a data frame
        frame: Any = given
        return {str(name): _plain(frame[name]) for name in frame.columns}
    if isinstance(given, Sized) and hasattr(given, "column_names"):  # a dataset
        if len(given) > MOST_ROWS:
            raise MinibatchError(f"a dataset of {len(given):,} rows is no minibatch; give some of them: dataset[:16]")
        plain = given.with_format(None) if hasattr(given, "with_format") else given
        return dict(plain[:])  # type: ignore[index]  # every dataset has it
    if isinstance(given, Sequence) and given and all(isinstance(row, Mapping) for row in given):
        names = dict.fromkeys(name for row in given for name in row)
        return {name: [row.get(name) for row in given] for name in names}
    raise MinibatchError(f"{SHAPE}; this is a {type(given).__name__}")


def _plain(value: Any) -> Any:
    """A column of a dataset or of a data frame as a list; anything else as it is."""
    if isinstance(value, str | bytes | list | tuple | Tensor) or not isinstance(value, Iterable):
        return value
    value = value.to_numpy() if hasattr(value, "to_numpy") else value
    objects = getattr(getattr(value, "dtype", None), "kind", "") == "O"
    return list(value) if objects or isinstance(value, Sequence) else value


def _first_of(loader: DataLoader[Any], model: PreTrainedModel) -> Any:
    """The first batch of a loader, None if there is none, drawn by a fixed seed; its random numbers stay as they are.

    Torch's default way to put rows of lists together makes a list of columns, [T] tensors [B]; these become [B, T].
    """
    own = {id(g): g for g in (loader.generator, getattr(loader.sampler, "generator", None)) if g is not None}
    states = {key: generator.get_state() for key, generator in own.items()}
    try:
        for generator in own.values():
            generator.manual_seed(42)
        with random_numbers(model, seed=42):
            first = next(iter(_without_workers(loader)), None)
    finally:
        for key, generator in own.items():
            generator.set_state(states[key])
    if loader.collate_fn is default_collate and isinstance(first, Mapping):
        return {name: _of_columns(value) for name, value in first.items()}
    return first


def _without_workers(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The same loader in this process: workers that persist would go on from here when they are used next."""
    if not loader.num_workers:
        return loader
    here = copy.copy(loader)
    vars(here).update(num_workers=0, persistent_workers=False, prefetch_factor=None, timeout=0, _iterator=None)
    return here


def _of_columns(value: Any) -> Any:
    columns = isinstance(value, list) and all(isinstance(one, Tensor) and one.dim() == 1 for one in value)
    return torch.stack(value, dim=1) if columns and value else value


def _is_row(ids: Any) -> bool:
    """Whether the tokens are those of one sequence."""
    if hasattr(ids, "shape"):
        return len(ids.shape) == 1
    return isinstance(ids, list | tuple) and bool(ids) and all(isinstance(token, int) for token in ids)


def _numbers(value: Any) -> bool:
    """Whether an entry can be a tensor of numbers: it is one, or a list of numbers, or of such lists."""
    if isinstance(value, Tensor) or (hasattr(value, "dtype") and hasattr(value, "shape")):
        return isinstance(value, Tensor) or value.dtype.kind in "iufb"
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_numbers, value))
    return isinstance(value, bool | int | float)


def _tensor(name: str, value: Any, model: PreTrainedModel) -> Any:
    """An entry as a tensor; a list of rows of unequal length is padded."""
    if isinstance(value, Tensor | bool | int | float):
        return value
    if hasattr(value, "dtype"):
        made = torch.as_tensor(value)
    else:
        try:
            rows = [torch.as_tensor(row) for row in value]
        except (TypeError, ValueError) as error:
            raise MinibatchError(f"'{name}' is no rectangle of numbers; {SHAPE}") from error
        filler = {"labels": IGNORED, "input_ids": padding_token(model)}.get(name, 0)
        if not all(row.dim() == rows[0].dim() for row in rows):
            raise MinibatchError(f"'{name}' is no rectangle of numbers; {SHAPE}")
        if rows[0].dim() == 1:
            made = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler)
        elif all(row.shape == rows[0].shape for row in rows):
            made = torch.stack(rows)
        else:
            raise MinibatchError(f"'{name}' is no rectangle of numbers; {SHAPE}")
    return made


def _padding(given: Any, ids: Tensor) -> dict[str, Tensor]:
    """The mask [B, T] of rows that were padded here; nothing where none was."""
    if hasattr(given, "dtype") or not hasattr(given[0], "__len__"):
        return {}
    lengths = torch.tensor([len(row) for row in given])
    mask = torch.arange(ids.shape[1]) < lengths[:, None]
    return {} if bool(mask.all()) else {"attention_mask": mask.long()}


def _fits(model: PreTrainedModel, name: str, value: Any) -> bool:
    if name == "labels" and head_kind(model) != "other" and isinstance(value, Tensor) and value.dim() < 2:
        return False  # a class of each sequence, to a model that predicts tokens
    return takes(model, name)


def takes(model: PreTrainedModel, name: str) -> bool:
    """Whether the forward of `model` takes an entry; a class of somebody's that takes anything is not judged."""
    if name in ALWAYS:
        return True
    parameters = inspect.signature(model.forward).parameters
    if name in parameters:
        return True
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if not open_ended:
        return False
    from transformers.utils.generic import TransformersKwargs

    known = "input_ids" in parameters and type(model).__module__.startswith(OWN_CODE)
    return not known or name in TransformersKwargs.__annotations__
