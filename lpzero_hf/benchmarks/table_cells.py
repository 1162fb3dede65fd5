"""The cells of a table: whether they are empty, and the values that they give."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lpzero_hf.benchmarks.table_files import BadCell
from lpzero_hf.errors import LpzError, UsageError, did_you_mean, one_line
from lpzero_hf.files import parse_json
from lpzero_hf.scoring.cache_key import NOT_ARCHITECTURE
from lpzero_hf.spaces.config_keys import nearest_key


def column_of(wanted: str, columns: Sequence[str], source: str) -> str:
    """The column called `wanted`. Raises `UsageError` if there is none; the message lists those there are."""
    if wanted in columns:
        return wanted
    raise UsageError(f"{source} has no column '{wanted}'{near_column(wanted, columns)} (it has {listing(columns)})")


def near_column(wanted: str, columns: Sequence[str]) -> str:
    """`"; did you mean 'loss'?"` for the column that is probably meant by a name, in other letters or by another name
    of the same field of a configuration; or an empty text."""
    same = next((name for name in columns if name.lower() == wanted.lower()), None)
    same = same or nearest_key(wanted, frozenset(columns))
    return f"; did you mean '{same}'?" if same else did_you_mean(wanted, columns)


def missing(cell: Any) -> bool:
    """Whether a cell is empty: None, a blank text, or the NaN that data frames put there."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and math.isnan(cell))


def json_cell(text: str, column: str) -> Any:
    """The JSON value that a cell spells. Raises `BadCell` if it does not."""
    try:
        return parse_json(text, f"'{column}'", "", strict="\\u" in text)
    except LpzError as error:
        hint = "; JSON has double quotes, as json.dumps writes them" * ("'" in text and '"' not in text)
        raise BadCell("with broken JSON", str(error).removesuffix("; ") + hint) from None


def fitting(field: str, cell: Any, usual: Any) -> Any:
    """The value of a field that a cell gives.

    Args:
        field: its name.
        cell: as read; numbers may be written with or without a decimal point, lists and objects as JSON text.
        usual: the value of the base, whose type it must have; None allows any.

    Raises:
        BadCell: it has another type, or is not finite.
    """
    if hasattr(cell, "item") and not isinstance(cell, int | float):  # of NumPy
        cell = cell.item()
    if isinstance(cell, str):
        cell = cell.strip()
        cell = json_cell(cell, field) if cell.startswith(("{", "[")) else cell
    if isinstance(cell, float) and not math.isfinite(cell):
        raise BadCell("with a field that is no finite number", f"'{field}' is {cell}")
    if isinstance(usual, bool):
        if cell in (0, 1):
            return bool(cell)
        expected = "true or false"
    elif isinstance(usual, int) or usual is None:
        if isinstance(cell, float) and cell.is_integer():
            return int(cell)
        if usual is None or (isinstance(cell, int) and not isinstance(cell, bool)):
            return cell
        expected = "a whole number"
    elif isinstance(usual, float):
        if isinstance(cell, int | float) and not isinstance(cell, bool):
            return float(cell)
        expected = "a number"
    else:
        kinds: dict[type, str] = {str: "a text", list: "a list", tuple: "a list", dict: "an object"}
        expected = kinds.get(type(usual), "an object")
        if isinstance(cell, {"a text": str, "a list": list, "an object": dict}[expected]):
            return cell
    raise BadCell("with a field of another type", f"'{field}' is {shown(cell)}, and {expected} is expected")


def canonical(data: Mapping[str, Any], column: str) -> str:
    """The JSON text that equal architectures share. Raises `BadCell` if a value is no plain data."""
    try:
        return json.dumps({key: data[key] for key in data if key not in NOT_ARCHITECTURE}, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadCell("with no plain data", f"'{column}' holds what JSON cannot ({one_line(error)})") from None


def shown(value: Any) -> str:
    """A value for messages, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def listing(names: Sequence[str], most: int = 20) -> str:
    """Names of columns, for people."""
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])
