"""What `lpz` prints: nothing reaches a terminal or a spreadsheet that it would obey."""

from __future__ import annotations

import csv
import io
import json
import logging
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
from lpz_cli.output import csv_text, print_csv, print_json, print_table, say, tell
from lpz_cli.progress import counting
from lpz_report import report

from lpzero_hf.errors import printable
from lpzero_hf.plugins import PluginRegistry
from tests.support.families import tiny_model

Lpz = Callable[..., tuple[int, str, str]]
EVIL = "\x1b]0;pwned\x07\x1b[2J\r\x9b31m\u202e\x7f"
SMALL = ("--batch-size", "2", "--seq-len", "16", "--device", "cpu")


def raw(text: str) -> list[str]:
    """The characters that a terminal might obey."""
    return [letter for letter in text if letter != "\n" and not letter.isprintable()]


@pytest.mark.parametrize(
    "show",
    [
        lambda: say(EVIL, f"a\n{EVIL}"),
        lambda: tell(f"error: {EVIL}"),
        lambda: print_table(EVIL, [EVIL, "b"], [[EVIL, "[red]x[/red]"]]),
        lambda: print_csv([EVIL], [[EVIL], [1.5]]),
        lambda: print_json({EVIL: EVIL}),
    ],
)
def test_control_characters_are_shown_and_not_sent(
    show: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    show()
    out, err = capsys.readouterr()
    assert raw(out + err) in ([], ["\x7f"] * 2)  # JSON leaves DEL as it is, and terminals ignore it
    assert r"\x1b" in out + err or r"\u001b" in out + err
    assert "pwned" in out + err


def test_a_line_of_a_message_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    tell("warning: a\nname\r\nwith lines")
    say("a\nname")
    out, err = capsys.readouterr()
    assert (out, err) == ("a\\nname\n", "warning: a name with lines\n")
    tell("x" * 10**6)
    assert len(capsys.readouterr().err) < 3000


def test_progress_shows_names_without_obeying_them(capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen, before = Terminal(), sys.stderr
    sys.stderr = screen
    try:
        with counting("[bold]\x1b]0;x") as progress:
            progress(1, 2)
    finally:
        sys.stderr = before
    assert "\x1b]0;" not in screen.getvalue()
    assert r"[bold]\x1b]0;x" in screen.getvalue()


@pytest.mark.parametrize("name", ["gpt2-\x1b]0;x\x07", "no\x9b2J"])
def test_names_that_users_and_files_give_are_shown_harmlessly(name: str, lpz: Lpz, tmp_path: Path) -> None:
    folder = tmp_path / name
    tiny_model("gpt2").config.save_pretrained(folder)
    document = json.loads((folder / "config.json").read_text())
    for arguments in (("score", str(folder), "-p", "params", *SMALL), ("score", name), ("score", "x", "-p", name),
                      ("report", name), ("bench", "show", name), ("zoo", "show", name)):  # fmt: skip
        _, out, err = lpz(*arguments)
        assert raw(out + err) == [], arguments
    (folder / "config.json").write_text(json.dumps(document | {"n_head": EVIL}))
    code, out, err = lpz("score", str(folder), "-p", "params", *SMALL)
    assert (code, raw(out + err), err.count("\n")) == (1, [], 1)


def test_what_plugins_say_and_libraries_log_is_shown_harmlessly(
    lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = f"import logging\nlogging.getLogger('odd').error('%s', {EVIL!r})\nraise RuntimeError({EVIL!r})"
    (tmp_path / "odd_plugin.py").write_text(source, encoding="utf-8")
    points = [*entry_points(group="lpzero_hf"), EntryPoint(f"odd{EVIL}", "odd_plugin", "lpzero_hf")]
    monkeypatch.setattr("lpz_cli.listing.load_plugins", lambda off: PluginRegistry(off, points))
    handler = logging.StreamHandler()
    logging.getLogger("odd").addHandler(handler)
    try:
        code, out, err = lpz("plugins")
    finally:
        logging.getLogger("odd").removeHandler(handler)
    assert (code, raw(out + err)) == (0, [])
    assert r"\x1b" in out
    assert r"\x1b" in err


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\tx", "\rx", "  =1+1", "\uff1d1"]
)
def test_a_cell_that_a_spreadsheet_would_compute_is_text(cell: str) -> None:
    ((shown,),) = csv.reader(io.StringIO(csv_text([cell], [])))
    assert shown == f"'{printable(cell)}"


@pytest.mark.parametrize("cell", ["-1.5", "+3", "-1e-07", "nan", "snip", "a=b", "", -2.5, 7, None])
def test_numbers_and_other_cells_stay_as_they_are(cell: object) -> None:
    ((_,), (shown,)) = csv.reader(io.StringIO(csv_text(["x"], [[cell, ]])))  # fmt: skip
    assert shown == ("" if cell is None else str(cell))


def test_a_model_whose_name_is_a_formula_is_text_in_csv(
    lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_model("gpt2").config.save_pretrained("=cmd")
    _, out, _ = lpz("score", "=cmd", "-p", "params", "--csv", *SMALL)
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["model"] == "'=cmd"
    assert float(row["score"]) > 0


def test_a_report_escapes_what_names_hold(tmp_path: Path) -> None:
    script = "</script><script>alert(1)</script>"
    why = {script: 1}
    agreement = {"n": 3, "spearman": None, "kendall": None, "top": 0.0}
    grading = {
        "benchmark": script, "chance": 0.1, "architectures": [script, "b", "c"], "truth": [1.0, 2.0, 3.0],
        "scores": {script: [1.0, 2.0, 3.0]}, "setting": {script: script},
        "grades": [{"proxy": script, "orientation": 1, "agreement": agreement, "seconds": 0.1, "unscored": why}],
    }  # fmt: skip
    file = tmp_path / "<img src=x>.json"
    file.write_text(json.dumps(grading))
    page, _ = report([file], title=script)
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img" not in page
