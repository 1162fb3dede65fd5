"""A search that is killed or stopped goes on as if it had not been."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from lpzero_hf.searching import search as searching
from tests.support.commands import overriding
from tests.support.forks import forked, needs_fork
from tests.support.searches import OPTIONS, SHORT, few_resamples, timeless, write

Lpz = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve architectures; their tables are kept from test to test."""
    return write(tmp_path_factory.mktemp("benchmark") / "made")


def kill_when(process: BaseProcess, ready: Callable[[], bool], log: Path) -> bool:
    """Kill a process once something is so; whether it had not ended by itself."""
    while not ready() and process.exitcode is None:
        time.sleep(0.001)
    assert process.pid is not None
    if process.exitcode is None:
        os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
    return process.exitcode != 0


def length(file: Path) -> int:
    return len(file.read_bytes()) if file.exists() else 0


@pytest.mark.integration
@needs_fork
@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("evolution", ("--iterations", "150", "--preset", "paper", "--population", "20")),
        ("evolution", ("--iterations", "150", "--batch", "4")),
        pytest.param("exhaustive", (), marks=pytest.mark.slow),
    ],
)
def test_a_search_killed_again_and_again_is_that_of_an_undisturbed_one(
    strategy: str, more: tuple[str, ...], lpz: Lpz, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["search", made, *OPTIONS, "--train", "8", "--splits", "2", "--strategy", strategy, "--json", "--out"]
    command[-1:-1] = ["--seed", "3", *more]
    command[-1:-1] = ["--reduce", "sum", "--aggregate", "sum"]
    code, whole, _ = lpz(*command, str(tmp_path / "whole"))
    assert code == 0
    monkeypatch.setattr(searching, "CHECKPOINT_SECONDS", 0.005)
    rng = random.Random(8)
    run, log = tmp_path / "killed", tmp_path / "log"
    histories = [run / "split-00" / "history.jsonl", run / "split-01" / "history.jsonl"]
    kills = 0
    for _ in range(12):
        before = sum(map(length, histories))
        more, delay = rng.randint(1, 4000), rng.random() * 0.02
        resume = ["--resume"] if (run / "plan.json").exists() else []
        process = forked([*command, str(run), *resume], log)

        def ready(before: int = before, more: int = more, delay: float = delay) -> bool:
            if sum(map(length, histories)) < before + more:
                return False
            time.sleep(delay)
            return True

        if not kill_when(process, ready, log):
            break
        kills += 1
        assert not (run / "result.json").exists() or sum(map(length, histories)) > 0
    assert kills >= 3
    code, out, err = lpz(*command, str(run), "--resume")
    assert (code, err) == (0, "")
    assert timeless(json.loads(out)) == timeless(json.loads(whole))
    for name in ("split-00/history.jsonl", "split-01/history.jsonl", "plan.json"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    # what is finished is not searched again
    assert timeless(json.loads(lpz(*command, str(run), "--resume")[1])) == timeless(json.loads(whole))


@needs_fork
@pytest.mark.integration
def test_a_search_killed_in_its_capture_captures_what_is_left(
    lpz: Lpz, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("search", made, *SHORT, "--limit", "9", "--json", "--out")
    expected = lpz(*command, str(tmp_path / "whole"))[1]
    cache = tmp_path / "cache"
    monkeypatch.setenv("LPZ_CACHE", str(cache))

    def tables() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in (cache / "tables").glob("[!.]*.safetensors")}

    process = forked([*command, str(tmp_path / "run")], tmp_path / "log")
    assert kill_when(process, lambda: len(tables()) >= 3, tmp_path / "log")
    halfway = tables()
    assert 3 <= len(halfway) < 9
    code, out, err = lpz(*command, str(tmp_path / "run"), "--resume")
    assert (code, err) == (0, "")
    assert timeless(json.loads(out)) == timeless(json.loads(expected))
    assert len(tables()) == 9
    assert halfway.items() <= tables().items()  # none was made twice


@pytest.mark.parametrize("change", [("--seed", "43"), ("--population", "11"), ("--seq-len", "9"), ("--no-prune",)])
def test_a_search_is_not_resumed_with_other_settings(
    lpz: Lpz, made: str, tmp_path: Path, change: tuple[str, ...]
) -> None:
    command = ("search", made, *SHORT, "--out", str(tmp_path / "run"))
    assert lpz(*command)[0] == 0
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    code, out, err = lpz(*overriding(command, *change, "--resume"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    told = {"--seed": "seed", "--population": "population", "--seq-len": "seq_len"}
    assert told.get(change[0], "prune") in err
    code, out, err = lpz(*command)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "already" in err
    assert {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


@pytest.fixture(scope="module")
def once(made: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search, to be copied."""
    from lpz_cli.main import run

    folder = tmp_path_factory.mktemp("once") / "run"
    with few_resamples():
        assert run(("search", made, *SHORT, "--out", str(folder))) == 0
    return folder


@pytest.fixture
def finished(once: Path, tmp_path: Path) -> Path:
    """The folder of a finished search."""
    return shutil.copytree(once, tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "damage", "named"),
    [
        ("split-00/checkpoint.json", lambda text: text[: len(text) // 2], "checkpoint.json'"),
        ("split-00/checkpoint.json", lambda text: "", "checkpoint.json'"),
        ("split-00/checkpoint.json", lambda text: "[1]", "checkpoint.json'"),
        ("split-00/checkpoint.json", lambda text: "{}", "checkpoint.json'"),
        ("split-00/checkpoint.json", lambda text: text.replace('"rng": [3, [', '"rng": [3, ['), ""),
        ("split-00/checkpoint.json", lambda text: text.replace('"rng": [3, [', '"rng": [3, [7, '), "checkpoint.json'"),
        ("split-00/checkpoint.json", lambda text: text.replace("(W", "(Q"), "checkpoint.json'"),
        ("split-00/checkpoint.json", lambda text: text.replace('"done": 50', '"done": 51'), "history"),
        ("split-00/history.jsonl", lambda text: text[: len(text) // 2], "damaged"),
        ("split-00/history.jsonl", lambda text: "".join(text.splitlines(True)[:-1]), "history"),
        ("split-00/history.jsonl", lambda text: text + '{"iteration": 50, "wha', ""),  # more than the checkpoint knows
        ("plan.json", lambda text: text[:-20], "plan.json'"),
        ("plan.json", lambda text: "{}", "plan.json'"),
        ("plan.json", lambda text: "[]", "plan.json'"),
    ],
)  # fmt: skip
def test_a_file_of_a_run_gone_bad_is_named_with_a_remedy(
    lpz: Lpz, made: str, finished: Path, name: str, damage: Callable[[str], str], named: str
) -> None:
    result = json.loads((finished / "result.json").read_text())
    file = finished / name
    whole = file.read_text()
    file.write_text(damage(whole))
    code, out, err = lpz("search", made, *SHORT, "--out", str(finished), "--resume")
    if not named:
        assert (code, err) == (0, "")
        assert file.read_text() == whole
        assert timeless(json.loads((finished / "result.json").read_text())) == timeless(result)
        return
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert named in err
    if name == "plan.json":
        assert "--out" in err
        return
    assert f"delete '{finished / 'split-00'}'" in err
    for part in (finished / "split-00").iterdir():
        part.unlink()
    assert lpz("search", made, *SHORT, "--out", str(finished), "--resume")[0] == 0
    assert timeless(json.loads((finished / "result.json").read_text())) == timeless(result)


def test_a_lost_history_is_told(lpz: Lpz, made: str, finished: Path) -> None:
    (finished / "split-00" / "history.jsonl").unlink()
    code, out, err = lpz("search", made, *SHORT, "--out", str(finished), "--resume")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "delete" in err


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"{" * 99])
def test_a_table_gone_bad_is_named_and_made_again_once_it_is_deleted(
    lpz: Lpz, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "cache"))
    command = ("search", made, *OPTIONS, "--limit", "4", "--train", "3", "--iterations", "5", "--json")
    document = json.loads(lpz(*command)[1])
    file = sorted((tmp_path / "cache" / "tables").glob("*.safetensors"))[1]
    file.write_bytes(damage(file.read_bytes()))
    code, out, err = lpz(*command)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"'{file}'" in err
    assert "delete" in err
    file.unlink()
    assert timeless(json.loads(lpz(*command)[1])) == timeless(document)
