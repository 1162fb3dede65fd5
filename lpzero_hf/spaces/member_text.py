"""Text ids of members of spaces over configurations: `hidden_size=256,layer_types=full_attention|full_attention`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from lpzero_hf.errors import UsageError, did_you_mean
from lpzero_hf.spaces.base import Value
from lpzero_hf.spaces.field_choice import FieldChoice, unfrozen

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.+/-]*")
RESERVED = frozenset({"true", "false", "null", "nan", "inf", "infinity"})
LONGEST = 2**20  # characters of a text id
DECODER = json.JSONDecoder()


def written(value: Value) -> str:
    """A value in a text id: numbers and plain words as they are, all else as JSON."""
    if isinstance(value, str) and WORD.fullmatch(value) and value.lower() not in RESERVED:
        return value
    return json.dumps(unfrozen(value), separators=(",", ":"))


def member_text(choices: Sequence[FieldChoice], row: Sequence[Value]) -> str:
    """The text id of the member with these values."""
    return ",".join(
        f"{choice.name}={'|'.join(map(written, value)) if choice.per_layer else written(value)}"
        for choice, value in zip(choices, row, strict=True)
    )


def read_member(text: str, choices: Sequence[FieldChoice]) -> tuple[Value, ...]:
    """The values in a text id, in the order of the choices.

    Raises:
        UsageError: it is malformed, lacks a choice, or gives a value that its choice does not have.
    """
    if len(text) > LONGEST:
        raise UsageError(f"a text id of {len(text):,} characters is too long; at most {LONGEST:,} are read")
    by_name = {choice.name: choice for choice in choices}
    found: dict[str, Value] = {}
    place, text = 0, text.strip()
    while place < len(text):
        name, equals, _ = text[place:].partition("=")
        if not equals or name not in by_name:
            shown = name.partition(",")[0][:60]
            near = did_you_mean(shown, by_name)
            raise UsageError(f"'{shown}' is no choice of the space{near}; a text id is like {_example(choices)}")
        if name in found:
            raise UsageError(f"'{name}' stands in the text id twice; remove one")
        items, place = _items(text, place + len(name) + 1)
        choice = by_name[name]
        if not choice.per_layer and len(items) != 1:
            raise UsageError(f"'{name}' has one value, not {len(items)}")
        known = {written(value): value for value in choice.values}
        values = tuple(_known(item, known, choice) for item in items)
        found[name] = values if choice.per_layer else values[0]
    if missing := [name for name in by_name if name not in found]:
        raise UsageError(f"the text id lacks '{missing[0]}'; it should be like {_example(choices)}")
    return tuple(found[choice.name] for choice in choices)


def _example(choices: Sequence[FieldChoice]) -> str:
    row = [(choice.values[0],) * 2 if choice.per_layer else choice.values[0] for choice in choices]
    text = member_text(choices, row)
    return text if len(text) <= 150 else f"{text[:147]}..."


def _items(text: str, place: int) -> tuple[list[str], int]:
    """The values after an equals sign as they are written, and the place after the comma that ends them."""
    items: list[str] = []
    while True:
        end = place
        if text[place : place + 1] in ("[", '"'):
            try:
                _, end = DECODER.raw_decode(text, place)
            except (ValueError, RecursionError) as error:
                raise UsageError(
                    f"'{text[place : place + 60]}' is no readable JSON; write values as `lpz` does"
                ) from error
        rest = re.compile(r"[^,|]*").match(text, end)
        end = rest.end() if rest else end
        items.append(text[place:end].strip())
        place = end + 1
        if text[end : end + 1] != "|":
            return ([] if items == [""] else items), place


def _known(item: str, known: Mapping[str, Value], choice: FieldChoice) -> Value:
    if item in known:
        return known[item]
    value: Any = item
    with suppress(ValueError, RecursionError):
        value = json.loads(item, parse_constant=str)
    same = [mine for text, mine in known.items() if type(mine) is type(value) and text == written(_frozen(value))]
    if not same and isinstance(value, int | float) and not isinstance(value, bool):
        same = [mine for mine in known.values() if type(mine) in (int, float) and mine == value]
    if not same:
        raise UsageError(f"'{item[:60]}' is no value of {choice.name}; it has {choice.shown}")
    return same[0]


def _frozen(value: Any) -> Value:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
