"""Quantities are read and shown with their units."""

from __future__ import annotations

import pytest

from lpzero_hf.errors import UsageError
from lpzero_hf.scoring.quantities import parse_quantity, show_quantity


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("50M", "parameters", 50e6), ("1e6", "parameters", 1e6), ("1_000_000", "parameters", 1e6),
        ("1.5b", "parameters", 1.5e9), (" 7 k ", "parameters", 7000), ("2GFLOPs", "FLOPs", 2e9), ("3t", "FLOPs", 3e12),
        ("4096", "bytes", 4096), ("4KiB", "bytes", 4096), ("4kB", "bytes", 4000), ("1.5GiB", "bytes", 1.5 * 2**30),
        ("12 B", "bytes", 12), ("20ms", "seconds", 0.02), ("1.5s", "seconds", 1.5), ("300us", "seconds", 3e-4),
        ("300\u00b5s", "seconds", 3e-4), ("300\u03bcs", "seconds", 3e-4),
        ("2min", "seconds", 120), (".5ms", "seconds", 5e-4),
        ("3", "layers", 3), ("3 layers", "layers", 3),
    ],
)  # fmt: skip
def test_a_quantity_is_read(text: str, unit: str, value: float) -> None:
    assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit", "word"),
    [
        ("20", "seconds", "20ms"), ("20mz", "seconds", "mz"), ("20kg", "bytes", "kg"), ("5Q", "parameters", "Q"),
        ("", "bytes", "bytes"), ("ms", "seconds", "20ms"),
        ("0", "parameters", "above 0"), ("0ms", "seconds", "above 0"),
        ("-3M", "parameters", "-3M"), ("nan", "bytes", "nan"), ("inf", "bytes", "inf"), ("1e99", "bytes", ""),
        ("1M2", "parameters", "M2"), ("20ms", "parameters", "ms"), ("5 ms", "layers", "ms"), ("1" * 400, "bytes", ""),
        ("\u0661M", "parameters", "5M"),
    ],
)  # fmt: skip
def test_what_is_no_quantity_is_refused_with_how_to_write_it(text: str, unit: str, word: str) -> None:
    if text == "1e99":
        assert parse_quantity(text, unit) == 1e99
        return
    with pytest.raises(UsageError) as told:
        parse_quantity(text, unit)
    assert word in str(told.value)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (112962, "parameters", "112,962"), (512, "bytes", "512 B"), (2**20, "bytes", "1.00 MiB"),
        (3.5 * 2**30, "bytes", "3.50 GiB"), (150 * 2**30, "bytes", "150 GiB"), (0.0123, "seconds", "12.30 ms"),
        (2.5, "seconds", "2.50 s"), (4e-7, "seconds", "0.40 us"), (1.25e9, "FLOPs", "1.25 GFLOPs"),
        (900, "FLOPs", "900"),
        (0, "bytes", "0 B"), (0.5, "layers", "0.5"),
    ],
)  # fmt: skip
def test_a_quantity_is_shown(value: float, unit: str, shown: str) -> None:
    assert show_quantity(value, unit) == shown
