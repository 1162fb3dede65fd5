"""Commands that take a table where they take a benchmark."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pages import ROOT

Run = Callable[..., tuple[int, str, str]]
HOW = ("--metric", "val_loss", "--lower-is-better", "--base", '{"model_type": "llama", "vocab_size": 4096}')
SMALL = ("--batch-size", "2", "--seq-len", "8", "--workers", "1")
SEARCH = (*HOW, *SMALL, "--strategy", "random", "--iterations", "20", "--train", "6", "--limit", "12")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(ROOT / "docs" / "assets" / "runs.csv", "runs.csv"))


def test_a_table_is_shown_with_its_columns_and_its_noise(table: Path, lpz: Run) -> None:
    code, out, err = lpz("bench", "show", str(table), *HOW, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["architectures"], told["rows"], told["better"]) == (24, 30, "smaller")
    assert set(told["columns"]) == {"seed", "params", "tokens"}
    assert (told["noise"]["seeds"], told["noise"]["architectures_with_several_seeds"]) == (3, 3)


def test_the_better_end_is_told_by_a_well_known_name_and_that_is_said(table: Path, lpz: Run) -> None:
    code, out, err = lpz("bench", "show", str(table), *HOW[:2], *HOW[3:], "--json")
    assert (code, json.loads(out)["better"]) == (0, "smaller")
    assert "--lower-is-better" in err
    table.write_text(table.read_text().replace("val_loss", "score"))
    code, _, err = lpz("bench", "show", str(table), "--metric", "score", *HOW[3:])
    assert (code, len(err.splitlines())) == (2, 1)
    assert "--higher-is-better" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", "show", "runs.csv"),
        ("bench", "show", "tiny-gpt2", "--metric", "loss"),
        ("bench", "eval", "tiny-gpt2", "--lower-is-better"),
        ("bench", "eval", "tiny-gpt2", "--skip-bad-rows"),
        ("bench", "show", "runs.csv", *HOW, "--space", "tiny-gpt2"),
        ("bench", "show", "runs.csv", *HOW[:3]),
        ("bench", "show", "runs.csv", *HOW[:3], "--space", "none"),
        ("bench", "show", "none.csv", *HOW),
        ("search", "runs.csv"),
        ("nas", "--proxy", "params", "--max-params", "9", "--out", "nas"),
        ("nas", "tiny-gpt2", "--proxy", "params", "--max-params", "9", "--out", "nas", "--metric", "loss"),
        ("nas", "--among", "runs.csv", "--proxy", "params", "--max-params", "9", "--out", "nas"),
    ],
    ids=shlex.join,
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], table: Path, lpz: Run) -> None:
    code, out, err = lpz(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert not Path("nas").exists()


def test_bad_rows_are_named_or_counted(table: Path, lpz: Run) -> None:
    text = table.read_text()
    table.write_text(text + "64,2,4,100,42,1,1,nan\n65,2,4,100,42,1,1,5.5\n")
    code, _, err = lpz("bench", "eval", str(table), *HOW, *SMALL, "--proxy", "params")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "line 32 of 'runs.csv'" in err
    table.write_text(text + "65,2,4,100,42,1,1,5.5\n")  # 4 heads do not divide it
    code, _, err = lpz("bench", "eval", str(table), *HOW, *SMALL, "--proxy", "params")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "line 32 of 'runs.csv'" in err
    table.write_text(text + "64,2,4,100,42,1,1,nan\n65,2,4,100,42,1,1,5.5\n")
    code, out, err = lpz("bench", "eval", str(table), *HOW, *SMALL, "--proxy", "params", "--skip-bad-rows", "--json")
    assert code == 0
    assert len(json.loads(out)["architectures"]) == 24
    assert ["1 of 32 rows" in line or "1 of 25 architectures" in line for line in err.splitlines()].count(True) == 2


@pytest.mark.integration
def test_what_is_searched_on_a_table_is_resumed_exported_graded_and_reported(table: Path, lpz: Run) -> None:
    code, out, err = lpz("search", "runs.csv", *SEARCH, "--out", "found", "--json")
    assert code == 0, err
    searched = json.loads(out)
    assert searched["plan"]["table"]["metric"] == "val_loss"
    assert lpz("search", "runs.csv", *SEARCH, "--out", "found", "--resume")[0] == 0
    other = [word if word != "val_loss" else "params" for word in SEARCH]
    code, _, err = lpz("search", "runs.csv", *other, "--extra-column", "val_loss", "--out", "found", "--resume")
    assert code == 2
    assert "table.metric" in err

    assert lpz("export", "found", "--to", "artifact", "--name", "mine", "--out", "mine.json")[0] == 0
    renamed = Path(shutil.copy(table, "copy.csv"))
    code, out, err = lpz("bench", "eval", str(renamed), *HOW, *SMALL, "--proxy", "mine.json", "--json")
    assert code == 0, err
    graded = next(grade for grade in json.loads(out)["grades"] if grade["proxy"] == "mine")
    assert sum(n for why, n in graded["unscored"].items() if "searched on" in why) == 6
    Path("eval.json").write_text(out)

    code, out, err = lpz("nas", "--among", "copy.csv", *HOW, *SMALL, "--proxy", "mine.json", "--max-params", "700000",
                         "--out", "nas", "--json")  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert (found["request"]["space"], found["left_out"]) == ("copy", 6)
    assert Path("nas/winner/config.json").is_file()

    code, out, err = lpz("report", "found", "eval.json", "--out", "page.html", "--json")
    assert code == 0, err
    page = Path("page.html").read_text()
    assert "--metric val_loss --lower-is-better" in page

    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], lines[-1][:-1] + "9"]) + "\n")
    code, _, err = lpz("search", "runs.csv", *SEARCH, "--out", "found", "--resume")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "is not what it was" in err
