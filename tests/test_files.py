"""Folders in which one process works at a time, and documents that are read within bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lpz_nas import Budget, find_architecture

from lpzero_hf import search
from lpzero_hf.benchmarks.make import BenchmarkSpec, make_benchmark
from lpzero_hf.benchmarks.train import Recipe
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.files import only_process, read_text
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.spaces.named import load_space

SMALL = Setting(2, 8)


def nas(out: Path) -> Any:
    return find_architecture("tiny-gpt2", "params", Budget(10**6), trials=2, out=out, setting=SMALL)


def made(out: Path) -> Any:
    text = Path(__file__)
    spec = BenchmarkSpec("tiny-gpt2", 1, 0, 1, recipe=Recipe(steps=1, batch_size=1, seq_len=8, windows=1))
    return make_benchmark(spec, load_space("tiny-gpt2"), out, name="mine", text=text, validation=text)


WORKS: dict[str, Callable[[Path], Any]] = {
    "search": lambda out: search("tiny-gpt2", strategy="random", iterations=5, train=10, limit=20, out=out),
    "nas": nas,
    "bench train": made,
}


@pytest.mark.parametrize("what", WORKS)
def test_a_folder_in_which_another_works_is_refused_and_left_alone(what: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with only_process(out):
        (out / "theirs").touch()
        with pytest.raises(UsageError, match="another `out=`"):
            WORKS[what](out)
        assert sorted(path.name for path in out.iterdir()) == [".lock", "theirs"]


def test_what_a_killed_process_held_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from lpzero_hf.files import only_process\nwith only_process(pathlib.Path(sys.argv[1])):"
    )
    command = [sys.executable, "-c", f"{code} print('held', flush=True); input()", str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError), only_process(tmp_path / "out"):
            pass
        other.kill()
    with only_process(tmp_path / "out"):
        pass
    assert not list(tmp_path.glob("out/*"))


def test_a_folder_to_which_nothing_was_written_is_removed(tmp_path: Path) -> None:
    with only_process(tmp_path / "deep" / "out"):
        pass
    assert not (tmp_path / "deep" / "out").exists()
    with pytest.raises(LpzError, match="choose another"), only_process(Path("/dev/null/out")):
        pass


@pytest.mark.integration
def test_of_two_searches_for_an_architecture_on_one_folder_one_goes_on_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from lpz_cli.entry import main; main()", "nas", "tiny-gpt2", "-p", "params"]
    command += ["--max-params", "900000", "--trials", "20", "--out", str(tmp_path / "nas"), "--device", "cpu"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    ends = sorted((process.communicate()[1].strip(), process.returncode) for process in both)
    codes = sorted(code for _, code in ends)
    assert codes == [0, 2], ends
    (refused,) = (err for err, code in ends if code == 2)
    assert refused.count("\n") == 0
    assert str(tmp_path / "nas") in refused
    assert len(json.loads((tmp_path / "nas" / "result.json").read_text())["trials"]) == 20
    assert os.path.exists(tmp_path / "nas" / "winner" / "config.json")


def test_a_file_with_a_nul_byte_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"some words\0 and more")
    with pytest.raises(LpzError, match="byte 10 is NUL"):
        read_text(tmp_path / "text.txt", "give a text")
