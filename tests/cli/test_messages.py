"""Messages of `lpz`: one line for wrong usage, help by task, completion, tracebacks, and how to go on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from lpz_cli.entry import how_to_go_on
from lpz_cli.main import app, limit_integers

from tests.support.families import tiny_model

Lpz = Callable[..., tuple[int, str, str]]
SMALL = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu")
HUGE = str(10**40)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("score", "gpt2-variant", "--seed", HUGE), "--seed"),
        (("score", "gpt2-variant", "--seed", "-1"), "--seed"),
        (("score", "gpt2-variant", "--dtype", "int3"), "--dtype"),
        (("score", "gpt2-variant", "--wrong"), "--wrong"),
        (("scor", "gpt2-variant"), "Did you mean 'score'"),
        (("rank",), "SPACE"),
        (("bench", "evil"), "evil"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], told: str, lpz: Lpz) -> None:
    code, out, err = lpz(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert told in err


def whole_numbers() -> Iterator[tuple[str, ...]]:
    """Each command with each of its options that takes a whole number."""

    def of(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, inner in vars(command).get("commands", {}).items():
            yield from of(inner, (*words, name))
        for parameter in getattr(command, "params", ()):
            bare = getattr(parameter, "bare_type", "")
            kind = f"{bare() if callable(bare) else bare} {getattr(parameter, 'type', '')}"
            if re.search(r"\bint\b|IntRange|IntParam", kind) and parameter.opts[0].startswith("--"):
                needed = [one for one in command.params if one.required and not one.opts[0].startswith("--")]
                yield (*words, *["x"] * len(needed), parameter.opts[0])

    limit_integers(app)
    yield from of(typer.main.get_command(app), ())


def test_every_whole_number_has_an_end(lpz: Lpz) -> None:
    found = []
    for *words, option in whole_numbers():
        code, out, err = lpz(*words, option, HUGE)
        assert (code, out, err.count("\n")) == (2, "", 1), (words, option, err)
        assert option in err, (words, err)
        found.append(option)
    assert {"--seed", "--batch-size", "--seq-len", "--n", "--limit", "--repeats", "--init-seed", "--trials"} <= set(
        found
    )


def test_help_is_by_task_with_an_example_of_each(lpz: Lpz) -> None:
    code, out, _ = lpz("--help")
    assert code == 0
    panels = [line for line in out.splitlines() if line.startswith("╭") and ": lpz " in line]
    assert len(panels) == 5
    assert "╭─ Commands" not in out


def test_nothing_at_all_gets_the_help(lpz: Lpz) -> None:
    code, out, err = lpz("bench")
    assert (code, "Usage" in out + err) == (2, True)


@pytest.mark.integration
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered(shell: str) -> None:
    env = os.environ | {"_LPZ_COMPLETE": f"source_{shell}"}
    code = "import sys; sys.argv = ['lpz']; from lpz_cli.entry import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "_LPZ_COMPLETE" in done.stdout


@pytest.mark.integration
def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "lpz_cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lpzero-hf ")


def test_debug_shows_tracebacks_of_what_is_one_line_without(
    lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model("gpt2").config.save_pretrained(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text('{"model_type": "gpt2", "n_head": 7}')
    asked = ("score", str(tmp_path / "b"), str(tmp_path / "a"), "-p", "snip", *SMALL)
    code, _, err = lpz(*asked)
    assert (code, "Traceback" in err) == (1, False)
    code, out, err = lpz(*asked, "--debug")
    assert code == 1
    assert "Traceback" in err
    assert "snip" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("search tiny-gpt2 --out run", "add --resume"),
        ("bench transfer a b -o run", "add --resume"),
        ("nas tiny-gpt2 --out=run", "add --resume"),
        ("search tiny-gpt2 --out run --resume", "the same command"),
        ("bench eval tiny-gpt2", "the same command"),
        ("bench train tiny-gpt2 --out x", "the same command"),
        ("rank tiny-gpt2 -p snip", "the same command"),
        ("search tiny-gpt2", ""),
        ("bench eval tiny-gpt2 --no-cache", ""),
        ("score gpt2-variant", ""),
        ("", ""),
    ],
)
def test_after_an_interrupt_it_is_told_how_to_go_on(words: str, told: str) -> None:
    said = how_to_go_on(words.split())
    assert told in said
    assert bool(said) == bool(told)


def test_given_proxies_are_listed_in_full(lpz: Lpz) -> None:
    code, out, _ = lpz("proxies", "snip", "params")
    assert code == 0
    assert "at equal size" in out
    assert "nwot" not in out
    assert lpz("proxies", "snipp")[2] == "error: unknown proxy 'snipp'; did you mean 'snip'?\n"
