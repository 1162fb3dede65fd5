"""Choices of the fields of a configuration: lists of values, ranges, and these for every layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lpzero_hf.errors import did_you_mean
from lpzero_hf.spaces.base import Value, listed
from lpzero_hf.spaces.places import Path, SpaceProblem

MOST_VALUES = 100_000  # of one choice
LARGEST = 2**63  # of a number
RANGE = ("from", "to", "step", "times")
LAYERED = ("per_layer", "length")


@dataclass(frozen=True)
class FieldChoice:
    """The possible values of one field.

    Args:
        name: as the user calls it.
        field: the path of the field in the configuration, "text_config.hidden_size" for example.
        values: in the order written; lists are tuples.
        per_layer: whether every layer has one of the values, so that the field is a list.
        length: the path of the field that holds the number of layers, for one per layer; else "".
        shown: the values for people.
    """

    name: str
    field: str
    values: tuple[Value, ...]
    per_layer: bool
    length: str
    shown: str


def read_choice(spec: Any, path: Path) -> tuple[tuple[Value, ...], bool, str, str]:
    """The values of a choice as it was written, whether it is made per layer, the `length` given, and it for people.

    Args:
        spec: a list of values, `{"from": ..., "to": ..., "step": ...}` or with "times", or
            `{"per_layer": list or range, "length": field}`.
        path: of the choice, for messages.

    Raises:
        SpaceProblem: it is none of these, or empty, or without end.
    """
    if isinstance(spec, Mapping) and "per_layer" in spec:
        _only(spec, LAYERED, path)
        length = spec.get("length", "")
        if not isinstance(length, str):
            raise SpaceProblem((*path, "length"), "the length is the name of the field with the number of layers")
        inner = spec["per_layer"]
        if isinstance(inner, Mapping) and "per_layer" in inner:
            raise SpaceProblem((*path, "per_layer"), "a choice per layer holds a list or a range")
        values, _, _, shown = read_choice(inner, (*path, "per_layer"))
        return values, True, length, shown
    if isinstance(spec, Mapping):
        return *_ranged(spec, path), False, "", _range_for_people(spec)
    if not isinstance(spec, Sequence) or isinstance(spec, str):
        raise SpaceProblem(
            path, f"{_short(spec)} is no choice; give a list of values, or a range {{from: 64, to: 512, step: 64}}"
        )
    if not spec:
        raise SpaceProblem(path, "the choice is empty; give at least one value")
    if len(spec) > MOST_VALUES:
        raise SpaceProblem(path, f"the choice has {len(spec):,} values, and at most {MOST_VALUES:,} are taken")
    values = tuple(plain(value, (*path, place)) for place, value in enumerate(spec))
    seen: dict[Value, int] = {}
    for place, value in enumerate(values):
        if value in seen:
            raise SpaceProblem((*path, place), f"{_short(value)} stands in the choice twice; remove one")
        seen[value] = place
    return values, False, "", listed([_short(value) for value in values])


def plain(value: Any, path: Path) -> Value:
    """A value as plain, hashable data: lists are tuples. Raises `SpaceProblem` if it is something else."""
    if isinstance(value, list | tuple):
        if len(path) > 40:
            raise SpaceProblem(path[:3], "the value is nested too deeply")
        return tuple(plain(item, (*path, place)) for place, item in enumerate(value))
    if isinstance(value, Mapping):
        raise SpaceProblem(
            path, "a value is a number, a text, true, false, null or a list; choose nested fields by dots"
        )
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) < LARGEST:
        return value
    raise SpaceProblem(path, f"{_short(value)} is no number, text, true, false, null or list of these")


def unfrozen(value: Value) -> Any:
    """A value of a choice as a configuration holds it: tuples are lists."""
    return [unfrozen(item) for item in value] if isinstance(value, tuple) else value


def _only(spec: Mapping[Any, Any], known: Sequence[str], path: Path) -> None:
    for key in spec:
        if key not in known:
            near = did_you_mean(str(key), known)
            raise SpaceProblem((*path, str(key)), f"unknown key '{key}'{near} (there are {', '.join(known)})")


def _ranged(spec: Mapping[Any, Any], path: Path) -> tuple[tuple[Value, ...]]:
    _only(spec, RANGE, path)
    for key in ("from", "to"):
        if key not in spec:
            raise SpaceProblem(path, f"the range lacks '{key}'; write {{from: 64, to: 512, step: 64}}")
    for key, value in spec.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SpaceProblem((*path, key), f"{_short(value)} is no number")
        if abs(value) >= LARGEST:
            raise SpaceProblem((*path, key), f"{_short(value)} is too large")
    if "step" in spec and "times" in spec:
        raise SpaceProblem(path, "a range has a step or a factor, 'step' or 'times', not both")
    first, last = (Decimal(repr(spec[key])) for key in ("from", "to"))
    if first > last:
        raise SpaceProblem(
            path, f"the range is empty: it begins at {spec['from']} and ends at {spec['to']}; exchange them"
        )
    whole = isinstance(spec["from"], int)
    values: list[Decimal] = []
    if "times" in spec:
        factor = Decimal(repr(spec["times"]))
        if factor <= 1 or first <= 0:
            raise SpaceProblem((*path, "times"), "a range by a factor begins above 0, and the factor is above 1")
        number = math.floor(math.log(last / first) / math.log(factor) + 1e-9) + 1
        _bounded(number, path)
        values = [value for place in range(number) if (value := first * factor**place) <= last]
    else:
        step = Decimal(repr(spec.get("step", 1)))
        if step <= 0:
            raise SpaceProblem((*path, "step"), f"the step is {spec['step']}; give a number above 0")
        number = int((last - first) / step) + 1
        _bounded(number, path)
        values = [first + step * place for place in range(number)]
        whole = whole and isinstance(spec.get("step", 1), int)
    if whole and any(value != int(value) for value in values):
        odd = next(value for value in values if value != int(value))
        raise SpaceProblem(
            (*path, "times"), f"the range holds {odd}, which is no integer; give a list, or begin at {first}.0"
        )
    return (tuple(int(value) if whole else float(value) for value in values),)


def _bounded(number: int, path: Path) -> None:
    if number > MOST_VALUES:
        raise SpaceProblem(
            path, f"the range has {number:,} values, and at most {MOST_VALUES:,} are taken; step further"
        )


def _range_for_people(spec: Mapping[str, Any]) -> str:
    how = f"by a factor of {spec['times']}" if "times" in spec else f"in steps of {spec.get('step', 1)}"
    return f"{spec['from']} to {spec['to']}" + ("" if how == "in steps of 1" else f" {how}")


def _short(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else str(unfrozen(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
