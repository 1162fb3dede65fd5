"""Damaged results, tables, run folders and gradings: each is read, or refused with one line, and nothing else happens.

The same inputs each time; a hang is found by the time limit of the runner.
"""

from __future__ import annotations

import copy
import json
import random
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lpz_nas import Budget, find_architecture
from lpz_report import report

from lpzero_hf import search
from lpzero_hf.benchmarks.benchmark import describe, load_benchmark
from lpzero_hf.benchmarks.grade import grade
from lpzero_hf.errors import LpzError
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.export import artifact_of
from lpzero_hf.searching.result import read_result

QUICK, SLOW = 12, 400  # of each kind: 2,000 in all
SMALL = Setting(2, 8)
BRIEF: dict[str, Any] = {"strategy": "evolution", "iterations": 8, "population": 6, "train": 10, "limit": 20}
ODD: list[Any] = [
    None, True, -1, 0, 3, 1e308, -0.5, 10**30, 10**400, float("nan"), float("inf"), "", "x", "\x1b]0;x\x07", "\ud800",
    "a" * 100_000, [], {}, [[]], {"a": 1}, [1, "x", None], list(range(1000)),
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document; of a long list, of a few at its start."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else list(enumerate(value))[:3]:
            yield from places(inner, (*path, key))


def odd(rng: random.Random) -> Any:
    """One of `ODD`, and a copy, since a document that holds it may be changed once more."""
    return copy.deepcopy(rng.choice(ODD))


def damaged(text: str, rng: random.Random) -> bytes:
    """A document with one to three values replaced, removed or added, or with its bytes changed or cut off."""
    if rng.random() < 0.2:
        content = bytearray(text.encode())
        for _ in range(rng.randint(1, 5)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content[: rng.randrange(len(content))] if rng.random() < 0.4 else content)
    document = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        *way, last = rng.choice([path for path in places(document) if path] or [(0,)])
        home = document
        try:
            for key in way:
                home = home[key]
            deed = rng.choice(["replace", "replace", "replace", "remove", "add"])
            if deed == "remove":
                del home[last]
            elif deed == "add" and isinstance(home, dict):
                home[rng.choice(["a", "", "0", "\x1b[31m"])] = odd(rng)
            elif deed == "add":
                home.append(odd(rng))
            else:
                home[last] = odd(rng)
        except (LookupError, TypeError):
            continue
    if rng.random() < 0.05:
        document = odd(rng)
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search."""
    out = tmp_path_factory.mktemp("searched") / "run"
    search("tiny-gpt2", out=out, **BRIEF)
    return out


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search for an architecture."""
    out = tmp_path_factory.mktemp("found") / "nas"
    find_architecture("tiny-gpt2", "params", Budget(10**6), trials=2, out=out, setting=SMALL)
    return out


def of_result(folder: Path) -> None:
    result = read_result(folder)
    report([folder])
    artifact_of(result, "mine")


def of_run(folder: Path) -> None:
    (folder / "result.json").unlink(missing_ok=True)
    search("tiny-gpt2", out=folder, resume=True, **BRIEF)


def of_nas(folder: Path) -> None:
    find_architecture("tiny-gpt2", "params", Budget(10**6), trials=2, out=folder, resume=True, setting=SMALL)


def of_benchmark(folder: Path) -> None:
    benchmark = load_benchmark(folder / "benchmark.json")
    describe(benchmark)
    grade(benchmark, "params", SMALL)


def of_grading(folder: Path) -> None:
    report([folder / "grading.json"])


KINDS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "result": (of_result, ("result.json", "split-00/history.jsonl")),
    "run": (of_run, ("plan.json", "split-00/checkpoint.json", "split-00/history.jsonl")),
    "nas": (of_nas, ("nas.json",)),
    "benchmark": (of_benchmark, ("benchmark.json",)),
    "grading": (of_grading, ("grading.json",)),
}


def table() -> str:
    """A small benchmark as `lpz bench train` writes it."""
    made = load_benchmark("tiny-gpt2").document
    assert made is not None
    document = json.loads(json.dumps(dict(made())))
    document["trained"] = document["trained"][:5]
    return json.dumps(document)


def try_all(kind: str, count: int, start: int, run: Path, nas: Path, place: Path) -> list[str]:
    """Read `count` damaged folders; what was neither read nor refused in one line."""
    work, files = KINDS[kind]
    graded = json.dumps(grade("tiny-gpt2", "params", SMALL, limit=5).to_dict()) if kind == "grading" else ""
    texts = {"benchmark.json": table() if kind == "benchmark" else "", "grading.json": graded}
    wrong: list[str] = []
    for seed in range(start, start + count):
        rng, folder = random.Random(f"{kind} {seed}"), place / str(seed)
        shutil.copytree(nas if kind == "nas" else run, folder)
        file = folder / rng.choice(files)
        if file.suffix == ".jsonl":
            lines = file.read_text().splitlines()
            at = rng.randrange(len(lines))
            file.write_bytes(b"\n".join([*map(str.encode, lines[:at]), damaged(lines[at], rng)]))
        else:
            file.write_bytes(damaged(texts.get(file.name) or file.read_text(), rng))
        try:
            work(folder)
        except LpzError as error:
            if len(str(error).splitlines()) != 1 or len(str(error)) > 3000:
                wrong.append(f"{seed}: {file.name}: {str(error)[:300]}")
        except Exception as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            wrong.append(f"{seed}: {file.name}: {type(error).__name__} {str(error)[:200]} at {where}")
        shutil.rmtree(folder)
    return wrong


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_documents(kind: str, run: Path, nas: Path, tmp_path: Path) -> None:
    assert not try_all(kind, QUICK, 0, run, nas, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_damaged_documents(kind: str, run: Path, nas: Path, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert not try_all(kind, SLOW, QUICK, run, nas, tmp_path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 2 * 2**30
