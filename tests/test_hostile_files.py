"""Files that are no files, have no end, or are nested without end: one line with file and remedy, wherever they go."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lpz_nas import Budget, find_architecture
from lpz_report import report

from lpzero_hf import load_benchmark, search
from lpzero_hf.artifacts.artifact import read_artifact
from lpzero_hf.benchmarks.grade import grade
from lpzero_hf.errors import LpzError
from lpzero_hf.files import DEEPEST, parse_json
from lpzero_hf.models.load import load_model
from lpzero_hf.models.minibatch import minibatch
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.result import read_result
from tests.support.architectures import CONFIGS, SMALL
from tests.support.evaluated import evaluate

BRIEF: dict[str, Any] = {"strategy": "random", "iterations": 6, "population": 4, "train": 10, "limit": 20}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search."""
    out = tmp_path_factory.mktemp("searched") / "run"
    search("tiny-gpt2", out=out, **BRIEF)
    return out


def in_run(name: str, resume: bool = False) -> Callable[[Path, Path], Any]:
    """Reads a run folder in which `name` is the odd file."""

    def read(odd: Path, run: Path) -> Any:
        copy = odd.parent / "run"
        shutil.copytree(run, copy)
        (copy / name).unlink()
        (copy / name).symlink_to(odd)
        if resume:
            return search("tiny-gpt2", out=copy, resume=True, **BRIEF)
        return report([copy]) if name.endswith("jsonl") else read_result(copy)

    return read


def resumed_nas(odd: Path, run: Path) -> Any:
    (odd.parent / "nas").mkdir()
    (odd.parent / "nas" / "nas.json").symlink_to(odd)
    return find_architecture(
        "tiny-gpt2", "params", Budget(10**6), trials=1, out=odd.parent / "nas", resume=True, setting=Setting(2, 8)
    )


READERS: dict[str, Callable[[Path, Path], Any]] = {
    "text": lambda odd, run: minibatch(text=odd),
    "benchmark": lambda odd, run: load_benchmark(odd),
    "config": lambda odd, run: load_model(str(odd)),
    "artifact": lambda odd, run: read_artifact(odd),
    "grading": lambda odd, run: report([odd]),
    "result": in_run("result.json"),
    "plan": in_run("plan.json", resume=True),
    "history": in_run("split-00/history.jsonl"),
    "checkpoint": in_run("split-00/checkpoint.json", resume=True),
    "settings": resumed_nas,
}


def device(odd: Path) -> None:
    odd.symlink_to("/dev/zero")


def pipe(odd: Path) -> None:
    os.mkfifo(odd)


def huge(odd: Path) -> None:
    with odd.open("wb") as file:
        file.truncate(2**41)


def deep(odd: Path) -> None:
    odd.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def binary(odd: Path) -> None:
    odd.write_bytes(b"\xff\x00" * 100)


@pytest.mark.parametrize("make", [device, pipe, huge, deep, binary])
@pytest.mark.parametrize("reader", READERS)
def test_odd_files_are_told_in_one_line(reader: str, make: Callable[[Path], None], run: Path, tmp_path: Path) -> None:
    if reader == "text" and make is deep:
        pytest.skip("brackets are a text, too")
    odd = tmp_path / "odd"
    make(odd)
    with pytest.raises(LpzError) as told:
        READERS[reader](odd, run)
    assert str(tmp_path) in str(told.value)
    assert ";" in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("reader", ["text", "artifact", "result", "history", "plan"])
def test_a_folder_in_the_place_of_a_file_is_told(reader: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    with pytest.raises(LpzError, match="folder"):
        READERS[reader](tmp_path / "odd", run)


@pytest.mark.parametrize("opened", ['{"a":', "[", '[{"a":['])
def test_depth_is_bounded_and_brackets_in_strings_do_not_count(opened: str) -> None:
    closed = opened.replace('"a":', "")[::-1].translate(str.maketrans("{[", "}]"))
    times = DEEPEST // (opened.count("[") + opened.count("{"))
    assert parse_json(f"{opened * times}1{closed * times}", "it", "leave it")
    for text in (f"{opened * (times + 1)}1{closed * (times + 1)}", opened * 10**6):
        with pytest.raises(LpzError, match="deeply"):
            parse_json(text, "it", "leave it")
    assert parse_json(json.dumps(['[{"\\' * 100] * 100), "it", "leave it")


@pytest.mark.parametrize("text", ["NaN", "[1e999]", '{"a": 1, "a": 2}', '"\\ud800"', "-Infinity", "[", "", "1" * 5000])
def test_what_json_leaves_open_is_refused(text: str) -> None:
    with pytest.raises(LpzError, match="it is not readable"):
        parse_json(text, "it", "leave it")


# Tables of trained architectures ---------------------------------------------------------------------------

NAMES = [entry.key for entry in load_benchmark("tiny-gpt2").trained()[:6]]


def table(path: Path, rows: list[Any], **changed: Any) -> Path:
    """A benchmark with the given (architecture, loss)."""
    document = {
        "format": "lpzero-hf benchmark", "version": 1, "name": "mine", "space": "tiny-gpt2", "metric": "loss",
        "larger_is_better": False, "plan": {"seed": 42, "recipe": {"seq_len": 8}},
        "trained": [{"architecture": name, "seed": 42, "loss": loss} for name, loss in rows],
    }  # fmt: skip
    path.write_text(json.dumps(document | changed))
    return path


@pytest.mark.parametrize(
    ("losses", "what"),
    [
        ([float("nan")] * 6, "NaN"),
        ([1.0, 2.0, 3.0, 4.0, 5.0, float("inf")], "Infinity"),
        ([1.0] * 6, "equally good"),
        ([], "no trained"),
        ([None] * 6, "no trained"),
        (["1", 2.0, 3.0, 4.0, 5.0, 6.0], "'1'"),
        ([True, 2.0, 3.0, 4.0, 5.0, 6.0], "True"),
        ([[1.0], 2.0, 3.0, 4.0, 5.0, 6.0], "1.0"),
        ([{}, 2.0, 3.0, 4.0, 5.0, 6.0], "loss"),
        ([10**400, 2.0, 3.0, 4.0, 5.0, 6.0], "int"),
        ([1.0, 2.0], "2 architectures"),
    ],
)
def test_a_table_that_cannot_be_ranked_is_told_in_one_line(losses: list[Any], what: str, tmp_path: Path) -> None:
    path = table(tmp_path / "benchmark.json", list(zip(NAMES, losses, strict=False)))
    with pytest.raises(LpzError) as told:
        grade(path, "params", Setting(2, 8))
    assert what in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    with pytest.raises(LpzError):
        search(str(path), train=50)


def test_a_table_with_an_architecture_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LpzError, match="two"):
        load_benchmark(table(tmp_path / "benchmark.json", [(NAMES[0], 1.0), (NAMES[0], 2.0)]))


# The score cache -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda row: "[1, 2]",
        lambda row: "null",
        lambda row: "not JSON",
        lambda row: "[" * 100_000,
        lambda row: 7,
        lambda row: b"\xff\xfe",
        lambda row: json.dumps(row | {"value": "much"}),
        lambda row: json.dumps(row | {"value": [1.0]}),
        lambda row: json.dumps(row | {"value": True}),
        lambda row: json.dumps(row | {"value": None}),
        lambda row: json.dumps(row | {"value": float("nan")}),
        lambda row: json.dumps(row | {"status": "splendid"}),
        lambda row: json.dumps(row | {"seconds": None}),
        lambda row: json.dumps({"value": row["value"]}),
        lambda row: json.dumps(row | {"more": 1}),
    ],
)
def test_a_cached_row_of_another_shape_is_computed_again(change: Callable[[Any], Any], tmp_path: Path) -> None:
    configs, file = dict(list(CONFIGS.items())[:1]), tmp_path / "scores.sqlite"
    with ScoreCache(file) as cache:
        before = evaluate(configs, "params", SMALL, cache=cache)
    with sqlite3.connect(file) as connection:
        ((text,),) = connection.execute("SELECT row FROM scores").fetchall()
        connection.execute("UPDATE scores SET row = ?", [change(json.loads(text))])
    with ScoreCache(file) as cache:
        after = evaluate(configs, "params", SMALL, cache=cache)
    assert {name: rows["params"]["value"] for name, rows in after.items()} == {
        name: rows["params"]["value"] for name, rows in before.items()
    }
    with sqlite3.connect(file) as connection:  # and is whole again
        ((text,),) = connection.execute("SELECT row FROM scores").fetchall()
    assert json.loads(text)["value"] == next(iter(before.values()))["params"]["value"]


def other_columns(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE scores (subject TEXT, value REAL)")
        connection.execute("PRAGMA user_version = 1")


def no_table(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 1")


@pytest.mark.parametrize("make", [other_columns, no_table, device, pipe, binary, Path.mkdir])
def test_a_file_that_is_no_cache_is_told_in_one_line(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "scores.sqlite")
    with pytest.raises(LpzError, match="LPZ_CACHE"):
        ScoreCache(tmp_path / "scores.sqlite").get("subject", ["snip@1"])
