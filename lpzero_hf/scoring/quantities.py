"""Quantities with units, as people write them (50M, 20ms, 1.5GiB) and as they are shown."""

from __future__ import annotations

import math
import re

from lpzero_hf.errors import UsageError, did_you_mean

COUNT, FLOPS, BYTES, SECONDS = "parameters", "FLOPs", "bytes", "seconds"
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15}
_DECIMAL = {f"{prefix}b": factor for prefix, factor in _COUNTS.items() if prefix not in ("b", "")}
_BINARY = {f"{prefix}ib": 2.0 ** (10 * power) for power, prefix in enumerate("kmgtp", 1)}
_TIMES = {"ns": 1e-9, "us": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
SUFFIXES: dict[str, dict[str, float]] = {  # in lower case
    COUNT: _COUNTS,
    FLOPS: _COUNTS | {f"{prefix}flops": factor for prefix, factor in _COUNTS.items()},
    BYTES: {"": 1.0, "b": 1.0} | _DECIMAL | _BINARY,
    SECONDS: _TIMES,
}
WRITTEN = {
    COUNT: "5000000, 5M, 1.5B or 5e6",
    FLOPS: "2e9, 2G or 2GFLOPs",
    BYTES: "4096, 4KiB, 500MB or 1.5GiB",
    SECONDS: "20ms, 1.5s or 300us",
}
NUMBER = re.compile(r"([0-9][0-9_]{0,19}(?:\.[0-9]{1,15})?|\.[0-9]{1,15})(?:e([+-]?[0-9]{1,2}))?", re.IGNORECASE)


def parse_quantity(text: str, unit: str) -> float:
    """A quantity in its base unit.

    Args:
        text: a number, and a suffix of the unit where there is one.
        unit: "parameters", "FLOPs", "bytes", "seconds", or any other, which takes plain numbers.

    Raises:
        UsageError: it is no such quantity, or not above 0; a time has no unit.

    Example:
        >>> parse_quantity("50M", "parameters"), parse_quantity("4KiB", "bytes"), parse_quantity("20ms", "seconds")
        (50000000.0, 4096.0, 0.02)
    """
    written = text.strip()
    suffixes = SUFFIXES.get(unit, {"": 1.0, unit.lower(): 1.0})
    how = WRITTEN.get(unit, f"a plain number of {unit}")
    number = NUMBER.match(written)
    if number is None:
        raise UsageError(f"'{text[:40]}' is no number of {unit}; write {how}")
    suffix = written[number.end() :].strip().lower().replace("\u00b5", "μ")  # two characters look like mu
    if suffix not in suffixes:
        if not suffix:
            raise UsageError(f"'{text[:40]}' has no unit of {unit}; write {how}")
        near = did_you_mean(suffix, [one for one in suffixes if one])
        raise UsageError(f"'{written[number.end() :].strip()[:20]}' is no unit of {unit}{near}; write {how}")
    value = float(f"{number[1].replace('_', '')}e{number[2] or 0}") * suffixes[suffix]
    if not math.isfinite(value) or value <= 0:
        raise UsageError(f"'{text[:40]}' is not above 0; write {how}")
    return value


def show_quantity(value: float, unit: str) -> str:
    """A quantity for people.

    Example:
        >>> show_quantity(112962, "parameters"), show_quantity(3 * 2**20, "bytes"), show_quantity(0.00321, "seconds")
        ('112,962', '3.00 MiB', '3.21 ms')
    """
    if unit == SECONDS:
        return _scaled(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")))
    if unit == BYTES:
        steps = tuple(
            (2.0 ** (10 * power), f"{letter}iB") for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K"))
        )
        return f"{value:,.0f} B" if value < 2**10 else _scaled(value, steps)
    if unit == FLOPS and value >= 1e6:
        return _scaled(value, ((1e15, "PFLOPs"), (1e12, "TFLOPs"), (1e9, "GFLOPs"), (1e6, "MFLOPs")))
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    factor, name = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    number = value / factor
    return f"{number:.3g} {name}" if 100 <= number < 1000 else f"{number:,.2f} {name}"
