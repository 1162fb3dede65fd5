"""Work on a Ray cluster: the local results, bit for bit, and what happens when a task or a node dies.

Ray runs in processes of its own, each of which has a time by which it is ended: nothing here can wait for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import grade
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.executors import Failure, RayExecutor
from lpzero_hf.executors import ray as ray_module
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.plugins import load_plugins
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.table_cache import make_tables
from tests.cli.test_bench_eval import kept
from tests.scoring.test_evaluate import BROKEN, untimed
from tests.support.architectures import CONFIGS, SMALL, TWO
from tests.support.evaluated import evaluate
from tests.support.ray_driver import COMMAND, LIMIT, PROXIES, SCORED, SETTING, children

Lpz = Callable[..., tuple[int, str, str]]
SECONDS = 240  # many times what the cluster needs, on a machine that does other things, too
# a shell lets what it runs in the background ignore Ctrl-C
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
LPZ = (sys.executable, "-c", INTERRUPTIBLE + "from lpz_cli.main import main; main()")
SIZE = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu")

pytestmark = pytest.mark.integration
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that, with all its children, does not outlive the test."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process has printed."""
    return process.communicate()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of the work on a cluster of two nodes, one of which was killed; see `tests.support.ray_driver`."""
    folder = tmp_path_factory.mktemp("ray")
    with running([sys.executable, "-m", "tests.support.ray_driver", str(folder), str(SECONDS)]) as process:
        _, err = ended(process)
    assert process.returncode == 0, f"the work on a Ray cluster failed or hung; where, says its stderr:\n{err}"
    results: dict[str, Any] = pickle.loads((folder / "found.pickle").read_bytes())
    return results


# On two nodes -----------------------------------------------------------------------------------------------------


@needs_ray
def test_a_cluster_that_loses_one_of_two_nodes_gives_the_local_result(found: dict[str, Any]) -> None:
    told = found["loss of a node"]
    assert isinstance(told, dict), told
    assert told["killed"]
    assert told["killed"][0] < LIMIT
    assert told["alive"] == 1
    report = grade(load_benchmark("tiny-gpt2"), PROXIES, SETTING, limit=LIMIT)
    assert told["scores"] == report.scores | {"dwell": [1.0] * LIMIT}
    assert all(value is not None for values in report.scores.values() for value in values)
    lost = found["loss of a node, warnings"]
    assert [warning for warning in lost if "again" in warning]


@needs_ray
def test_scores_and_tables_are_the_local_ones_bit_for_bit(found: dict[str, Any], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question " * 5)
    configs = CONFIGS | {"broken": BROKEN}
    rows, progress = found["scores"]
    assert list(rows) == list(configs)
    assert untimed(rows) == untimed(evaluate(configs, SCORED, replace(SMALL, text=text)))
    assert progress == list(range(5))
    wanted = SearchConfig(("tiny-gpt2",)).space(installed_operations()).wanted
    make_tables(TWO, wanted, SMALL, tmp_path / "tables", plugins=load_plugins())
    assert found["tables"] == {file.name: file.read_bytes() for file in (tmp_path / "tables").iterdir()}


@needs_ray
def test_every_task_is_done_once_in_other_processes_and_with_its_threads(found: dict[str, Any]) -> None:
    assert [result[0] for _, result in sorted(found["where"])] == list(range(8))
    assert os.getpid() not in {result[1] for _, result in found["where"]}
    assert {result[2] for _, result in found["where"]} == {1}
    assert found["threads"][0][1][2] == 2


@needs_ray
def test_an_existing_connection_is_used_to_the_number_of_its_cores(found: dict[str, Any]) -> None:
    assert sorted(found["crew"]) == [(0, None), (1, None), (2, None)]


@needs_ray
def test_the_user_is_told_of_micro_batches_in_a_worker(found: dict[str, Any]) -> None:
    assert found["tight"]["tight"]["snip"]["status"] == "ok"
    assert "1 of 2" in found["tight, warnings"][0]


@needs_ray
def test_errors_of_the_work_arrive_as_they_are(found: dict[str, Any]) -> None:
    assert isinstance(found["refused"], UsageError)
    assert "task 1" in str(found["refused"])
    assert isinstance(found["raised"], ValueError)
    assert isinstance(found["crowded"], LpzError)
    assert "1000 cores" in str(found["crowded"])


@needs_ray
def test_a_task_whose_worker_dies_is_done_again_and_one_that_always_kills_is_given_up(found: dict[str, Any]) -> None:
    assert isinstance(found["deaths"], list), found["deaths"]
    results = dict(found["deaths"])
    assert (results[0], results[3]) == ("A", "B")
    assert results[1].startswith("ONCE:")
    assert isinstance(results[2], Failure)
    assert "WorkerCrashedError" in results[2].reason


# The command ----------------------------------------------------------------------------------------------------


@needs_ray
def test_the_command_works_on_a_cluster_that_is_there(found: dict[str, Any], lpz: Lpz) -> None:
    code, out, err = found["command"]
    assert (code, err) == (0, "")
    code, expected, _ = lpz(*COMMAND, "--workers", "1")
    assert code == 0
    assert json.loads(out) == json.loads(expected)


@needs_ray
def test_ctrl_c_ends_a_cluster_started_here_and_keeps_what_was_scored(tmp_path: Path) -> None:
    command = [*LPZ, "bench", "eval", "tiny-gpt2", "-p", "snip", "--limit", "60", *SIZE, "--json"]
    environment = os.environ | {"LPZ_CACHE": str(tmp_path)}
    with running([*command, "--executor", "ray", "--workers", "1"], env=environment) as process:
        while not (scored := _scored(tmp_path)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = ended(process)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert scored <= _scored(tmp_path) < 60
    with pytest.raises(ProcessLookupError):  # nothing is left of the cluster
        os.killpg(process.pid, 0)


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_a_cluster_that_dies_is_told_and_the_same_command_goes_on(part: str, tmp_path: Path) -> None:
    command = [*LPZ, "bench", "eval", "tiny-gpt2", "-p", "params", "-p", "snip", "--limit", "60", "--json", *SIZE]
    environment = os.environ | {"LPZ_CACHE": str(tmp_path)}
    with running([*command, "--executor", "ray", "--workers", "1"], env=environment) as process:
        while not _scored(tmp_path):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        for child in children(process.pid):
            if Path(f"/proc/{child}/comm").read_text().strip() == part:
                os.kill(child, signal.SIGKILL)
        out, err = ended(process)
    assert (process.returncode, out) == (1, ""), err
    assert "Traceback" not in err
    told = err.splitlines()[-1]
    assert "lost its" in told
    assert "same command" in told
    before = kept(tmp_path)
    with running([*command, "--executor", "local"], env=environment) as again:
        out, err = ended(again)
    assert again.returncode == 0, err
    assert None not in json.loads(out)["scores"]["snip"]
    after = kept(tmp_path)
    assert len(before) < len(after)
    assert before.items() <= after.items()  # with their seconds: not scored again


def _scored(folder: Path) -> int:
    """The number of architectures in the cache."""
    try:
        return len({subject for subject, _ in kept(folder)}) if (folder / "scores.sqlite").exists() else 0
    except Exception:  # the table is being made
        return 0


@needs_ray
def test_an_unreachable_cluster_is_told_in_one_line(lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{unused.getsockname()[1]}"
        code, out, err = lpz(
            "rank", "tiny-gpt2", "-p", "snip", "--n", "2", *SIZE, "--executor", "ray", "--address", closed
        )
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert closed in err
    with socket.create_server(("127.0.0.1", 0)) as silent:  # something listens, and it is not Ray
        monkeypatch.setattr(ray_module, "ANSWER_SECONDS", 5)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(LpzError, match=address):
            list(RayExecutor(address).map(abs, [-1]))
    with pytest.raises(UsageError, match="'nonsense'"):
        list(RayExecutor("nonsense").map(abs, [-1]))


def test_without_ray_the_extra_is_named(tmp_path: Path) -> None:
    script = "import sys; sys.modules['ray'] = None; " + LPZ[-1]
    command = ["rank", "tiny-gpt2", "-p", "snip", "--n", "2", *SIZE, "--executor", "ray"]
    environment = os.environ | {"LPZ_CACHE": str(tmp_path)}
    with running([sys.executable, "-c", script, *command], env=environment) as process:
        out, err = ended(process)
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert "lpzero-hf[ray]" in err
