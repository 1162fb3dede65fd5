"""An option that takes one value is refused where it is given two: neither is lost in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from lpz_cli.main import app

Lpz = Callable[..., tuple[int, str, str]]


def single(flags: bool) -> Iterator[tuple[str, ...]]:
    """Each command with each of its options that takes one value, or with both words of each pair of flags."""

    def of(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, inner in vars(command).get("commands", {}).items():
            yield from of(inner, (*words, name))
        for parameter in getattr(command, "params", ()):
            if not words or not parameter.opts[0].startswith("-") or parameter.opts[0] == "--help":
                continue
            if flags and parameter.secondary_opts:
                yield (*words, parameter.opts[0], parameter.secondary_opts[0])
            elif not flags and not parameter.multiple and not parameter.is_flag:
                yield (*words, parameter.opts[0], "1", parameter.opts[-1], "2")

    yield from of(typer.main.get_command(app), ())


def test_every_option_of_one_value_refuses_a_second(lpz: Lpz) -> None:
    tried = list(single(flags=False))
    assert len(tried) > 150
    assert {"--seed", "--out", "--text", "--max-params", "--fitness"} <= {words[-2] for words in tried}
    for words in tried:
        code, out, err = lpz(*words)
        assert (code, out, err.count("\n")) == (2, "", 1), (words, err)
        assert "two answers" in err, (words, err)


def test_flags_that_deny_each_other_are_refused(lpz: Lpz) -> None:
    tried = list(single(flags=True))
    assert tried
    for words in tried:
        code, out, err = lpz(*words)
        assert (code, out) == (2, ""), (words, err)
        assert all(flag in err for flag in words[-2:]), (words, err)


@pytest.mark.parametrize("more", [(), ("--batch-size", "2"), ("--json", "--json")])
def test_the_same_value_twice_is_taken_and_so_are_several_proxies(more: tuple[str, ...], lpz: Lpz) -> None:
    asked = ("score", "gpt2-variant", "--batch-size", "2", "-p", "params", "-p", "num_layers")
    code, out, err = lpz(*asked, *more)
    assert (code, err) == (0, "")
    assert "params" in out
    assert "num_layers" in out


def test_the_options_of_a_search_inside_a_transfer_too(lpz: Lpz) -> None:
    code, _, err = lpz("bench", "transfer", "tiny-lm", "tiny-gpt2", "--search", "--unary 1 --unary 2")
    assert (code, "two answers" in err) == (2, True)
