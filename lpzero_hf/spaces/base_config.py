"""The configuration that the members of a space begin with: only what it really sets, so that all else follows.

A class of configurations computes some fields from others where they are left out: the width of a head, the types of
the layers. In a saved configuration, or an object, they stand beside those that somebody chose. So here every field is
left out in turn; where the class makes the same configuration without it, it is not kept.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import ModelError, UsageError, did_you_mean, one_line
from lpzero_hf.spaces.base import Value
from lpzero_hf.spaces.config_keys import known_keys, nearest_key, unknown_keys
from lpzero_hf.spaces.field_choice import plain, unfrozen
from lpzero_hf.spaces.model_types import model_types
from lpzero_hf.spaces.places import SpaceProblem
from lpzero_hf.spaces.size_limits import check_sizes

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

WRITTEN_BY_ITSELF = frozenset({"model_type", "transformers_version", "_name_or_path", "_commit_hash"})
LARGE = 60  # keys of a nested mapping that is kept or left out as a whole
NEVER = object()
TRIED = 3  # values of an undeclared field: one may be what the class sets


class BaseConfig:
    """A class of configurations with the fields that are set.

    Args:
        kind: the class.
        fields: plain data by field; nested ones inside.

    Raises:
        ModelError: the class refuses them.

    Example:
        >>> from transformers import LlamaConfig
        >>> from lpzero_hf.spaces.base_config import base_of
        >>> base = base_of(LlamaConfig(hidden_size=64, num_attention_heads=4))
        >>> base.fields, base.build({"hidden_size": 128}).head_dim
        ({'hidden_size': 64, 'num_attention_heads': 4}, 32)
    """

    def __init__(self, kind: type[PreTrainedConfig], fields: Mapping[str, Any]) -> None:
        self.kind, self.fields = kind, dict(fields)
        self.whole = self.build({})

    def build(self, chosen: Mapping[str, Value]) -> PreTrainedConfig:
        """The configuration with other values of some fields.

        Args:
            chosen: by path; lists are tuples.

        Raises:
            ModelError: the class refuses it, in its own words; or it is too large for any machine.
        """
        fields = copy.deepcopy(self.fields)
        for path, value in chosen.items():
            *outer, last = path.split(".")
            inner, whole = fields, getattr(self, "whole", None)
            for part in outer:
                whole = _part(whole, part)
                if not isinstance(inner.get(part), dict):
                    inner[part] = _start(whole)
                inner = inner[part]
            inner[last] = unfrozen(value)
        check_sizes(fields, f"{self.kind.__name__} cannot be built")
        with _quiet() if chosen else nullcontext():
            return _built(self.kind, fields)

    def resolve(self, name: str, values: Sequence[Value] = ()) -> str:
        """The path of a field, by the names that its class gives it.

        Args:
            name: of the field, other names of the class allowed; with dots for nested ones.
            values: that it gets; a name that the class does not declare is one of its fields if one of the first of
                them changes what it makes: `rope_theta` for example.

        Raises:
            SpaceProblem: the class has no such field; the message names the nearest.
        """
        if not name or any(not part or part.startswith("_") for part in name.split(".")):
            raise SpaceProblem((), f"'{name}' is no name of a field")
        *outer, last = name.split(".")
        holder: Any = self.whole
        path = []
        for part in outer:
            path.append(_own_name(holder, part))
            inner = _part(holder, path[-1])
            if not isinstance(inner, Mapping) and not _is_config(inner):
                nested = ", ".join(
                    sorted(key for key, one in _parts(holder) if _is_config(one) or isinstance(one, Mapping))
                )
                raise SpaceProblem((), f"'{'.'.join(path)}' holds no fields in {self._of(holder)} (these do: {nested})")
            holder = inner
        last = _own_name(holder, last)
        full = ".".join([*path, last])
        known = _known(holder, path)
        if last in WRITTEN_BY_ITSELF or (
            last not in known and not any(self._has_effect(full, value) for value in values[:TRIED])
        ):
            raise SpaceProblem((), f"{self._of(holder)} has no field '{last}'{self._hint(path, last, known)}")
        return full

    def value(self, path: str) -> Value:
        """The value of a field of the base, which no choice changes.

        Raises:
            SpaceProblem: the class computes it from other fields.
        """
        *outer, last = path.split(".")
        holder: Any = self.whole
        fields: Any = self.fields
        for part in outer:
            holder, fields = _part(holder, part), fields.get(part, {}) if isinstance(fields, Mapping) else {}
        found = _part(holder, last)
        if last not in fields and not (_is_config(holder) and _same(found, _declared(type(holder), last))):
            raise SpaceProblem(
                (), f"'{path}' is computed by {self._of(holder)} from other fields; give it in `derived` or in the base"
            )
        try:
            return plain(found, ())
        except SpaceProblem as problem:
            raise SpaceProblem((), f"'{path}' is {type(found).__name__} in the base, and no plain value") from problem

    def depth(self, path: str) -> str | None:
        """The field with the number of layers of the configuration that holds another field; None if it has none."""
        outer = path.split(".")[:-1]
        holder: Any = self.whole
        for part in outer:
            holder = _part(holder, part)
        own = _own_name(holder, "num_hidden_layers")
        if not _is_config(holder) or not isinstance(_part(holder, own), int):
            return None
        return ".".join([*outer, own])

    def definition(self) -> dict[str, Any]:
        """The base as plain data that makes it again."""
        return {"model_type": self.kind.model_type} | copy.deepcopy(self.fields)

    def _of(self, holder: Any) -> str:
        return type(holder).__name__ if _is_config(holder) else f"this part of {self.kind.__name__}"

    def _hint(self, path: list[str], name: str, known: set[str]) -> str:
        if name == "model_type":
            return "; the base has it: make a space for each family"
        near = nearest_key(name, frozenset(key for key in known if not key.startswith("_")) - WRITTEN_BY_ITSELF)
        found = self.deeper(name) or (".".join([*path, near]) if near else "")
        return f"; did you mean '{found}'?" if found else ""

    def deeper(self, name: str) -> str:
        """The path of a field of that name in a nested configuration, the outermost one; "" if there is none."""
        found = [path for path in _paths(plain_config(self.whole)) if len(path) > 1 and path[-1] == name]
        return min((".".join(path) for path in found), key=lambda path: path.count("."), default="")

    def _has_effect(self, path: str, value: Any) -> bool:
        try:
            made = self.build({path: value})
        except ModelError:
            return False
        return _without(plain_config(made), path) != _without(plain_config(self.whole), path)


def base_of(config: PreTrainedConfig) -> BaseConfig:
    """The base that a configuration is, with the fields that its class would not compute.

    Raises:
        ModelError: its class does not make it again.
    """
    kind = type(config)
    whole = plain_config(config)
    for name, _ in list(unknown_keys(whole, config)):
        whole = _without(whole, name)
    wanted = _made(kind, whole)
    if wanted is None:
        _built(kind, whole)  # raises
    kept = whole
    with _quiet():
        for path in list(_paths(whole)):
            less = _without(kept, ".".join(path))
            if less != kept and _made(kind, less) == wanted:
                kept = less
    return BaseConfig(kind, kept)


def base_from(fields: Mapping[str, Any]) -> BaseConfig:
    """The base that a mapping with `model_type` describes; every field in it is set.

    Raises:
        SpaceProblem: there is no such type, a field is unknown, or the class refuses them.
    """
    types, name = model_types(), fields.get("model_type")
    if not isinstance(name, str):
        raise SpaceProblem((), "the base lacks a 'model_type', such as llama")
    if name not in types:
        raise SpaceProblem(("model_type",), f"unknown model_type '{name[:60]}'{did_you_mean(name, types)}")
    own = {key: _plain_data(value, (key,)) for key, value in fields.items() if key != "model_type"}
    try:
        check_sizes(own, "the base cannot be built")
        base = BaseConfig(types[name], own)
    except (ModelError, UsageError) as error:
        raise SpaceProblem((), str(error)) from error
    for key, near in unknown_keys(own, base.whole):
        hint = f"; did you mean '{near}'?" if near else ""
        raise SpaceProblem(tuple(key.split(".")), f"{base.kind.__name__} has no field '{key}'{hint}")
    return base


def plain_config(config: PreTrainedConfig) -> dict[str, Any]:
    """A configuration as plain data, with the type of every nested one, without what is written by itself."""
    whole = config.to_dict()
    if config._attn_implementation is not None:
        whole["attn_implementation"] = config._attn_implementation
    return {key: value for key, value in whole.items() if key not in WRITTEN_BY_ITSELF}


def _plain_data(value: Any, path: tuple[str | int, ...]) -> Any:
    if len(path) > 40:
        raise SpaceProblem(path[:2], "the base is nested too deeply")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int):
                raise SpaceProblem(path, f"'{key}' is no name of a field")
        return {key: _plain_data(inner, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_data(inner, (*path, place)) for place, inner in enumerate(value)]
    return plain(value, path)


def _built(kind: type[PreTrainedConfig], fields: Mapping[str, Any]) -> PreTrainedConfig:
    try:
        return kind(**copy.deepcopy(dict(fields)))
    except Exception as error:  # the classes check their fields in many ways
        raise ModelError(f"{kind.__name__} refuses it: {one_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of transformers, which were given for the base."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _made(kind: type[PreTrainedConfig], fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a class makes of fields, as plain data; None if it refuses them."""
    try:
        return plain_config(kind(**copy.deepcopy(dict(fields))))
    except Exception:  # a field that is needed
        return None


def _paths(fields: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every field, the outer ones first; nested configurations keep their types."""
    for key, value in fields.items():
        if not isinstance(key, str) or "." in key or (before and key == "model_type"):
            continue
        yield (*before, key)
        if isinstance(value, Mapping) and len(value) <= LARGE:
            yield from _paths(value, (*before, key))


def _without(fields: Mapping[str, Any], path: str) -> dict[str, Any]:
    key, _, rest = path.partition(".")
    if not rest:
        return {name: value for name, value in fields.items() if name != key}
    inner = fields.get(key)
    return dict(fields) | {key: _without(inner, rest)} if isinstance(inner, Mapping) else dict(fields)


def _is_config(value: Any) -> bool:
    from transformers import PreTrainedConfig

    return isinstance(value, PreTrainedConfig)


def _part(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _parts(holder: Any) -> list[tuple[str, Any]]:
    return list((holder if isinstance(holder, Mapping) else vars(holder)).items())


def _own_name(holder: Any, name: str) -> str:
    return str(holder.attribute_map.get(name, name)) if _is_config(holder) else name


def _start(whole: Any) -> dict[str, Any]:
    """A nested configuration that the base leaves to its class, to be changed: its type; a mapping as it is."""
    if _is_config(whole):
        return {"model_type": whole.model_type} if whole.model_type else {}
    return copy.deepcopy(dict(whole)) if isinstance(whole, Mapping) else {}


def _known(holder: Any, path: list[str]) -> set[str]:
    if isinstance(holder, Mapping):
        known = {str(key) for key in holder}
        if "rope_theta" in known or "rope_type" in known:
            from transformers.modeling_rope_utils import RopeParameters

            known |= set(RopeParameters.__annotations__)
        return known
    unset = {name for of in type(holder).__mro__ for name, one in vars(of).items() if _is_read_only(one)}
    kind: Any = type(holder)
    return ({*known_keys(kind)} | {key for key in vars(holder) if not key.startswith("_")}) - unset


def _is_read_only(value: Any) -> bool:
    return isinstance(value, property) and value.fset is None


def _declared(kind: Any, name: str) -> Any:
    """The value of a field that its class declares for where it is left out."""
    if dataclasses.is_dataclass(kind):
        for one in dataclasses.fields(kind):
            if one.name == name:
                if one.default is not dataclasses.MISSING:
                    return one.default
                return one.default_factory() if one.default_factory is not dataclasses.MISSING else NEVER
    argument = inspect.signature(kind.__init__).parameters.get(name)
    return NEVER if argument is None else argument.default


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
