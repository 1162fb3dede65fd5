"""Benchmarks of listed architectures: their order, a time limit, a process that is killed, and bad lists."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf.benchmarks.benchmark import describe, made_benchmark
from lpzero_hf.benchmarks.make import BenchmarkSpec, make_benchmark
from lpzero_hf.benchmarks.train import Recipe
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.models.text_source import read_text
from lpzero_hf.models.text_tokens import token_stream, tokenizer_for
from lpzero_hf.spaces.named import load_space

Lpz = Callable[..., tuple[int, str, str]]
SPACE = load_space("tiny-lm")
NAMES = tuple(
    f"hidden_size=16,num_hidden_layers={depth},num_attention_heads=2,intermediate_size={inner}"
    for depth, inner in ((1, 24), (2, 16), (1, 16), (1, 32))
)
RECIPE = Recipe(steps=3, batch_size=2, seq_len=8, learning_rate=1e-2, warmup=1, windows=4, evaluations=1)
SPEC = BenchmarkSpec("tiny-lm", n=4, repeats=2, seeds=3, recipe=RECIPE, listed=NAMES)


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    """A text to train on and one to validate on."""
    text = read_text(None)
    files = tmp_path / "train.txt", tmp_path / "validation.txt"
    files[0].write_text(text[:8000], encoding="utf-8")
    files[1].write_text(text[-3000:], encoding="utf-8")
    return files


@pytest.fixture
def make(texts: tuple[Path, Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Make a benchmark in a folder of this test, and read its document."""

    def call(spec: BenchmarkSpec = SPEC, out: str = "run", **changes: Any) -> dict[str, Any]:
        given = {"name": "listed", "text": texts[0], "validation": texts[1]} | changes
        document: dict[str, Any] = json.loads(make_benchmark(spec, SPACE, tmp_path / out, **given).read_text())
        return document

    return call


def ran(document: dict[str, Any]) -> list[tuple[str, int]]:
    return [(row["architecture"], row["seed"]) for row in document["trained"]]


def losses(document: dict[str, Any]) -> list[float]:
    return [row["loss"] for row in document["trained"]]


def test_those_with_several_seeds_come_first(make: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    document = make()
    seeds = (42, 43, 44)
    assert ran(document) == [*((n, s) for n in NAMES[:2] for s in seeds), *((n, 42) for n in NAMES[2:])]
    assert document["plan"]["listed"] == list(NAMES)
    assert "missing" not in document
    again = BenchmarkSpec(**document["plan"] | {"recipe": Recipe(**document["plan"]["recipe"])})
    assert again == SPEC
    assert [entry.key for entry in made_benchmark(tmp_path / "run" / "benchmark.json").trained()] == list(NAMES)


def test_the_text_is_read_with_the_models_vocabulary(
    make: Callable[..., dict[str, Any]], texts: tuple[Path, Path]
) -> None:
    tokens = make(replace(SPEC, n=1, repeats=0))["corpus"]["text"]["tokens"]
    assert tokens == len(token_stream(texts[0], tokenizer_for(384)))


def test_stacked_seeds_end_where_single_ones_do(make: Callable[..., dict[str, Any]]) -> None:
    single, stacked = make(), make(out="stacked", stack=True)
    assert ran(stacked) == ran(single)
    assert losses(stacked) == pytest.approx(losses(single), abs=1e-4)
    assert (stacked["stack"], "stack" in single) == (True, False)
    with pytest.raises(UsageError, match="stack"):
        make(stack=True)  # the rounding of the two is not the same


def test_what_a_time_limit_leaves_out_is_named_and_trained_later(
    make: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = iter(range(0, 10_000, 20))  # seconds: the limit of a minute is over after three looks at the clock
    monkeypatch.setattr("lpzero_hf.benchmarks.make.time.time", lambda: next(clock))
    part = make(minutes=1)
    monkeypatch.undo()
    assert ran(part) == [(NAMES[0], 42), (NAMES[0], 43), (NAMES[0], 44)]
    missing = [(row["architecture"], row["seed"]) for row in part["missing"]]
    assert sorted(missing + ran(part)) == sorted(SPEC.runs(SPACE))
    benchmark = made_benchmark(tmp_path / "run" / "benchmark.json")
    assert [entry.key for entry in benchmark.trained()] == [NAMES[0]]
    assert describe(benchmark)["not_trained"] == len(missing)
    whole = make()
    assert ran(whole) == SPEC.runs(SPACE)
    assert losses(whole)[:3] == losses(part)
    assert "missing" not in whole
    assert "not_trained" not in describe(made_benchmark(tmp_path / "run" / "benchmark.json"))


def test_a_time_limit_that_leaves_nothing_is_an_error(make: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(LpzError, match="minutes="):
        make(minutes=0)
    assert not (tmp_path / "run" / "benchmark.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listed": (NAMES[0], NAMES[0]), "n": 2}, "twice"),
        ({"listed": ("hidden_size=17",), "n": 1}, "tiny-lm"),
        ({"n": 5}, "4 are listed"),
        ({"max_parameters": 100}, "to 100"),
    ],
)
def test_bad_lists_are_refused(
    change: dict[str, Any], message: str, make: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        make(replace(SPEC, **change))
    assert not (tmp_path / "run").exists()


def command(texts: tuple[Path, Path], listed: Path, out: Path) -> list[str]:
    return [
        "bench", "train", "tiny-lm", "--text", str(texts[0]), "--validation", str(texts[1]), "--architectures",
        str(listed), "--repeats", "2", "--seeds", "3", "--steps", "3", "--batch-size", "2", "--seq-len", "8",
        "--windows", "4", "--evaluations", "1", "--device", "cpu", "--workers", "1", "--out", str(out),
    ]  # fmt: skip


def test_bad_files_of_architectures_are_refused(lpz: Lpz, texts: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    for file, word in (("empty.txt", "no architecture"), ("none.txt", "--architectures")):
        code, out, err = lpz(*command(texts, tmp_path / file, tmp_path / "run"))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert word in err
    assert not (tmp_path / "run").exists()


@pytest.mark.integration
def test_a_run_that_was_killed_goes_on(lpz: Lpz, texts: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "grid.txt").write_text("\n".join(NAMES) + "\n\n")
    arguments = command(texts, tmp_path / "grid.txt", tmp_path / "killed")
    process = subprocess.Popen(
        [sys.executable, "-c", "from lpz_cli.main import main; main()", *arguments, "--stack"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        while len(done := sorted((tmp_path / "killed" / "trained").glob("*.json"))) < 3:  # one architecture
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
    finally:
        process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = {file: file.read_bytes() for file in done}
    assert lpz(*arguments, "--stack")[0] == 0
    assert {file: file.read_bytes() for file in done} == before
    document = json.loads((tmp_path / "killed" / "benchmark.json").read_text())
    assert len(document["trained"]) == 8
