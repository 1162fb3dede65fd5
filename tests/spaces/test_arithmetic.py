"""Arithmetic over fields: the values of Python, one by one and all at once; nothing else is, all is bounded."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest

from lpzero_hf.spaces.arithmetic import DEEPEST, LONGEST, Formula, FormulaError, Undefined
from lpzero_hf.spaces.vectorised import NotVectorised, satisfied

VALUES: dict[str, list[Any]] = {
    "a": [0, 1, 2, 3, 64, 97],
    "b.c": [-3, 0, 2, 5],
    "x": [0.5, 1, 2.25, -1.5],
    "flag": [True, False],
    "word": ["silu", "gelu", None],
}


def grown(rng: random.Random, depth: int, *, condition: bool) -> str:
    """A random expression over `VALUES`."""
    if condition:
        if depth == 0:
            return rng.choice(["flag", "a > 1", "word == 'silu'", "word in ['gelu', 'relu']", "word is None", "x != 1"])
        one, other = (grown(rng, depth - 1, condition=True) for _ in range(2))
        left, right, last = (grown(rng, depth - 1, condition=False) for _ in range(3))
        return rng.choice([
            f"({one} and {other})", f"({one} or {other})", f"not {one}", f"{left} < {right} <= {last}",
            f"{left} == {right}", f"({one} if {other} else {left} > {last})", f"{left} in [{right}, {last}]",
        ])  # fmt: skip
    if depth == 0:
        return rng.choice(["a", "b.c", "x", "2", "7", "0.75", "flag"])
    left, right = (grown(rng, depth - 1, condition=False) for _ in range(2))
    test = grown(rng, depth - 1, condition=True)
    return rng.choice([
        f"({left} + {right})", f"({left} - {right})", f"({left} * {right})", f"({left} / {right})",
        f"({left} // {right})", f"({left} % {right})", f"{rng.choice(['a', 'b.c'])} ** 2", f"-{left}",
        f"abs({left})", f"min({left}, {right})", f"max({left}, {right})", f"int({left})", f"round({left})",
        f"float({left})", f"sum([{left}, {right}])", f"({left} if {test} else {right})",
    ])  # fmt: skip


def by_eval(text: str, fields: dict[str, Any]) -> Any:
    """What Python's own `eval` gives; None for a division by zero."""
    try:
        return eval(text.replace("b.c", "bc"), {}, {name.replace(".", ""): value for name, value in fields.items()})
    except ZeroDivisionError:
        return None


@pytest.mark.parametrize("seed", range(8))
def test_values_are_those_of_python_one_by_one_and_all_at_once(seed: int) -> None:
    rng = random.Random(seed)
    shape = tuple(map(len, VALUES.values()))
    for _ in range(40):
        text = grown(rng, rng.randint(1, 3), condition=True)
        rule, expected = Formula(text), []
        for combination in itertools.product(*VALUES.values()):
            fields = dict(zip(VALUES, combination, strict=True))
            wanted = by_eval(text, fields)
            expected.append(bool(wanted))
            if wanted is None:
                with pytest.raises(Undefined):
                    rule(fields)
            else:
                assert rule(fields) == wanted, (text, fields)
        table = satisfied(rule, {}, VALUES, {})
        assert np.array_equal(table, np.array(expected).reshape(shape)), text


def test_most_expressions_are_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpzero_hf.spaces.vectorised.ONE_BY_ONE", 0)
    numbers = {name: VALUES[name] for name in ("a", "b.c", "flag", "word")}
    for text in (
        "a % b.c == 0 and flag",
        "2 <= a ** 2 < 10 or word == 'silu'",
        "(a if flag else b.c) / 2 > 1",
        "not a",
    ):
        assert satisfied(Formula(text), {}, numbers, {}).shape == (6, 4, 2, 3)
    with pytest.raises(NotVectorised):
        satisfied(Formula("len(word) > 2"), {}, {"word": ["silu", "gelu"]}, {})


def test_integers_beyond_64_bits_are_exact() -> None:
    large = [2**31 - 1, 2**31 - 2, 3]
    table = satisfied(Formula("a * a * a - (a * a * a - 1) == 1"), {}, {"a": large}, {})
    assert table.tolist() == [True, True, True]
    assert Formula("a * a * a")({"a": 2**31 - 1}) == (2**31 - 1) ** 3


def test_derived_fields_are_computed_at_once_too() -> None:
    derived = {"inner": Formula("4 * a"), "share": Formula("inner / b.c")}
    table = satisfied(Formula("share > fixed"), derived, {"a": [1, 2, 3], "b.c": [0, 1, 4]}, {"fixed": 2})
    assert table.tolist() == [[False, True, False], [False, True, False], [False, True, True]]


def test_undefined_is_read_only_where_python_would_read_it() -> None:
    table = satisfied(Formula("a == 0 or 6 % a == 0"), {}, {"a": [0, 1, 4, 6]}, {})
    assert table.tolist() == [True, True, False, True]
    with pytest.raises(Undefined):
        Formula("6 % a == 0 or a == 0")({"a": 0})


CODE = [
    "__import__('os').system('touch /tmp/x')", "().__class__.__bases__", "a.__class__", "open('x')", "eval('1')",
    "exec('1')", "print(1)", "(lambda: 1)()", "[i for i in a]", "{1: 2}", "{1}", "f'{a}'", "a := 1", "a; b",
    "import os",
    "a.b()", "a[0]()", "getattr(a, 'b')", "*a", "min(*a)", "min(a, key=len)", "a[1:2]", "b'x'", "1j", "await a",
    "yield", "a @ b", "a << 2", "a & b", "~a", "...", "'a'.upper()", "lambda: 1", "a if b", "", "   ", "a b", "(",
    "_a.__b",
]  # fmt: skip


@pytest.mark.parametrize("text", CODE)
def test_code_is_refused_in_one_line_when_it_is_read(text: str) -> None:
    with pytest.raises(FormulaError) as caught:
        Formula(text)
    assert "\n" not in str(caught.value)


def test_an_error_names_the_character() -> None:
    with pytest.raises(FormulaError, match="character 13"):
        Formula("a + b + c * open('x')")
    with pytest.raises(FormulaError, match="did you mean 'min'"):
        Formula("mn(a, b)")


@pytest.mark.parametrize(
    "text",
    ["9 ** 9 ** 9", "2 ** 10000", "10.0 ** 400", "(2 ** 99) ** 99", "1e20 * 1e20", "a ** a ** a", "1 / (a - a)",
     "(-8) ** 0.5", "-1 ** 0.5 + (a - a) ** -1", "[1, 2][5]", "max([])"],
)  # fmt: skip
def test_what_has_no_bounded_value_is_undefined(text: str) -> None:
    with pytest.raises(Undefined):
        Formula(text)({"a": 50})


@pytest.mark.parametrize(
    "text", ["'a' * 10", "'a' + 1", "[1] * 3", "len(a)", "-'a'", "a < 'b'", "sum(['a'])", "1 in 2"]
)
def test_wrong_kinds_of_values_are_errors(text: str) -> None:
    with pytest.raises(FormulaError, match="character"):
        Formula(text)({"a": 1})


@pytest.mark.parametrize(
    "text",
    ["(" * 300 + "1" + ")" * 300, "-" * 1000 + "1", "1" + "+1" * LONGEST, "9" * 400, "not " * 400 + "a",
     "a." * 400 + "a", "[" * 100 + "]" * 100, "\0", "1" + " if a else 1" * 100],
)  # fmt: skip
def test_long_deep_and_large_texts_are_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        Formula(text)


def test_fields_lists_and_words_are_read() -> None:
    fields = {"text_config.layers": ("full", "full", "window"), "n": 3}
    assert Formula("text_config.layers[-1] == 'window' and len(text_config.layers) == n")(fields)
    assert Formula("'other' not in text_config.layers and true and null is None")(fields)
    assert Formula("sum(widths) / len(widths)")({"widths": (1, 2, 6)}) == 3
    assert Formula("a.b + n * a.b").names == ("a.b", "n")
    renamed = Formula("min(a.b, n) + 1").renamed({"a.b": "c.d.e"})
    assert renamed.names == ("c.d.e", "n")
    assert renamed({"c.d.e": 1, "n": 5}) == 2
    assert math.isclose(Formula("1e-3 * 2")({}), 0.002)
    assert DEEPEST < 100
