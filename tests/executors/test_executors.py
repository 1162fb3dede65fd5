"""Executors: the same results wherever the work is done, and what happens when a worker dies. For Ray: test_ray.py."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

from lpzero_hf.benchmarks.make import BenchmarkSpec as TrainingPlan
from lpzero_hf.benchmarks.make import make_benchmark
from lpzero_hf.benchmarks.train import Recipe
from lpzero_hf.errors import ExecutorWarning, LpzError, MicroBatchWarning, UsageError
from lpzero_hf.executors import Executor, Failure, LocalExecutor, ProcessExecutor, RayExecutor, cores
from lpzero_hf.executors.retries import TRIES, RetryQueue
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.search import search
from lpzero_hf.searching.table_cache import CaptureFailed, make_tables
from tests.scoring.test_evaluate import BROKEN, untimed
from tests.support.architectures import CONFIGS, SMALL, TWO
from tests.support.evaluated import evaluate
from tests.support.executor_tasks import die, first_then_long, hide, refuse, root, where
from tests.support.fated import FATES, fated

Lpz = Callable[..., tuple[int, str, str]]
FATED = {"well": fated("well"), "kills": fated("kills"), "fails": fated("fails"), "too": fated("well", 24)}
DIED = "signal 9"
FAILED = "never works"


class Nobody(Executor):
    """Has no workers: for work that must have been done already."""

    def map(self, work: Any, tasks: Any) -> Iterator[tuple[int, Any]]:
        assert not tasks
        return iter(())


# In this process ----------------------------------------------------------------------------------------------


def test_the_local_executor_uses_its_threads_and_puts_them_back() -> None:
    before = torch.get_num_threads()
    made = LocalExecutor(3).map(lambda task: (task, torch.get_num_threads()), "ab")
    assert list(made) == [(0, ("a", 3)), (1, ("b", 3))]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("counts", [{"workers": 0}, {"threads": 0}])
@pytest.mark.parametrize("kind", [ProcessExecutor, RayExecutor])
def test_nobody_cannot_work(kind: Callable[..., Executor], counts: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least one"):
        kind(**counts)


# Tries ----------------------------------------------------------------------------------------------------------


def test_a_task_is_tried_three_times_at_last_alone_and_its_neighbours_are_not_counted() -> None:
    tries = RetryQueue(3)
    assert [tries.take() for _ in range(4)] == [0, 1, 2, None]
    tries.done(2)
    for number in (0, 1):  # 0 takes all memory, so that 1 dies with it
        with pytest.warns(ExecutorWarning, match=r"\(why\).*2 of 3"):
            assert tries.crashed(number, "why") is None
    assert [tries.take(), tries.take()] == [0, 1]
    for number in (0, 1):
        with pytest.warns(ExecutorWarning, match="alone .*3 of 3"):
            assert tries.crashed(number, "why") is None
    assert tries.take() == 0
    assert tries.take() is None  # 1 has to wait
    assert (tries.left, tries.busy) == (2, 1)
    given_up = tries.crashed(0, "why")
    assert isinstance(given_up, Failure)
    assert "(why)" in given_up.reason
    assert tries.take() == 1
    tries.done(1)
    assert tries.left == 0
    assert TRIES == 3


# In processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_do_every_task_once_with_their_threads(workers: int) -> None:
    made = dict(ProcessExecutor(workers).map(where, range(20)))
    assert [made[number][0] for number in range(20)] == list(range(20))  # type: ignore[index]
    processes = {result[1] for result in made.values()}  # type: ignore[index]
    assert os.getpid() not in processes
    assert 1 <= len(processes) <= workers
    assert {result[2] for result in made.values()} == {1}  # type: ignore[index]
    assert list(ProcessExecutor(workers).map(where, [])) == []


def test_workers_are_as_many_as_cores_allow_for() -> None:
    assert ProcessExecutor().workers == cores()
    assert ProcessExecutor(threads=2).workers == max(1, cores() // 2)
    assert ProcessExecutor(threads=10_000).workers == 1


def test_more_workers_than_cores_are_warned_of() -> None:
    with pytest.warns(ExecutorWarning, match=f"{cores() + 1} workers"):
        ProcessExecutor(cores() + 1)
    with pytest.warns(ExecutorWarning, match="fewer workers"):
        RayExecutor(workers=cores() + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ProcessExecutor(cores())
        RayExecutor("auto", workers=1000)  # other machines have other cores


@pytest.mark.integration
def test_an_error_in_a_worker_is_raised_here_and_ends_no_stranger() -> None:
    stranger = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
    stranger.start()
    try:
        with pytest.raises(ValueError, match=r"math domain error|nonnegative") as caught:
            list(ProcessExecutor(2).map(root, [-1.0] * 20))
        assert multiprocessing.active_children() == [stranger]
        assert "executor_tasks.py" in caught.value.__notes__[0]
        with pytest.raises(UsageError, match="task 1"):
            list(ProcessExecutor(1).map(refuse, [1]))
        with pytest.raises(Exception, match="pickle"):
            list(ProcessExecutor(1).map(hide, [1]))
    finally:
        stranger.kill()


@pytest.mark.integration
def test_a_task_whose_worker_dies_is_done_again_and_one_that_always_kills_is_given_up(tmp_path: Path) -> None:
    tasks = ["a", f"once:{tmp_path / 'died'}", "b", "always", "c"]
    with pytest.warns(ExecutorWarning, match="signal 9") as told:
        made = dict(ProcessExecutor(2).map(die, tasks))
    given_up = made.pop(3)
    assert isinstance(given_up, Failure)
    assert DIED in given_up.reason
    assert made == {number: task.upper() for number, task in enumerate(tasks) if task != "always"}
    assert len(told) == 1 + 2
    with pytest.raises(LpzError, match="task 1 of 1"), pytest.warns():
        list(ProcessExecutor(1).every(die, ["always"]))


@pytest.mark.integration
def test_a_script_without_a_guard_is_told_and_comes_to_an_end(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from lpzero_hf.executors import ProcessExecutor\nprint(list(ProcessExecutor(1).map(abs, [-1])))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "LpzError" in done.stderr
    assert "__main__" in done.stderr.splitlines()[-1]


@pytest.mark.integration
def test_leaving_half_way_ends_the_workers(tmp_path: Path) -> None:
    tasks = ProcessExecutor(2).map(first_then_long, [str(tmp_path)] * 3)
    assert next(tasks)[1] is None
    tasks.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []


# The same results everywhere ------------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("workers", [1, 2])
def test_one_and_two_processes_give_the_bits_of_none_in_the_same_order(workers: int, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question " * 5)
    setting, configs = replace(SMALL, text=text), CONFIGS | {"broken": BROKEN}
    proxies = ["snip", "synflow", "fisher", "nwot", "num_layers"]
    alone = evaluate(configs, proxies, setting, executor=LocalExecutor())
    told: list[tuple[int, int]] = []
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        rows = evaluate(
            configs, proxies, setting, cache=cache, executor=ProcessExecutor(workers),
            progress=lambda done, total: told.append((done, total)),
        )  # fmt: skip
        assert list(rows) == list(configs)
        assert untimed(rows) == untimed(alone)
        assert told == [(done, 4) for done in range(5)]
        kept = evaluate(CONFIGS, proxies, setting, cache=cache, executor=Nobody())
        assert kept == {name: rows[name] for name in CONFIGS}


@pytest.mark.integration
def test_processes_make_the_tables_of_the_local_executor(tmp_path: Path) -> None:
    wanted = SearchConfig(("tiny-gpt2",)).space(installed_operations()).wanted
    folders = {}
    for name, executor in {"local": LocalExecutor(), "process": ProcessExecutor(2)}.items():
        make_tables(TWO, wanted, SMALL, tmp_path / name, executor=executor, plugins=load_plugins())
        folders[name] = {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
    assert len(folders["local"]) == 2
    assert folders["local"] == folders["process"]


@pytest.mark.integration
def test_the_user_is_told_of_micro_batches_in_a_worker(tmp_path: Path) -> None:
    configs = {"tight": fated("tight"), "too": fated("tight", 24), "well": fated("well")}
    wanted = SearchConfig(("tiny-gpt2",)).space(installed_operations()).wanted
    for executor in (LocalExecutor(), ProcessExecutor(1)):
        with pytest.warns(MicroBatchWarning, match="1 of 2") as told:
            rows = evaluate(configs, ["snip", "params"], SMALL, executor=executor)
        assert len(told) == 1
        assert {row["status"] for made in rows.values() for row in made.values()} == {"ok"}
    with pytest.warns(MicroBatchWarning, match="1 of 2"):
        made = make_tables(configs, wanted, SMALL, tmp_path, executor=ProcessExecutor(1), plugins=load_plugins())
    assert len(made) == 3
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


@pytest.mark.integration
def test_a_worker_that_is_killed_half_way_changes_nothing(tmp_path: Path) -> None:
    configs = {str(width): fated("well", width) for width in range(16, 40, 2)}
    killed: list[int] = []

    def progress(done: int, total: int) -> None:
        if done >= total // 2 and not killed:
            worker = multiprocessing.active_children()[0]
            worker.kill()
            killed.append(done)

    with ScoreCache(tmp_path / "scores.sqlite") as cache, warnings.catch_warnings():
        warnings.simplefilter("ignore", ExecutorWarning)  # if it had work
        rows = evaluate(configs, "snip", SMALL, cache=cache, executor=ProcessExecutor(2), progress=progress)
        assert evaluate(configs, "snip", SMALL, cache=cache, executor=Nobody()) == rows
    assert killed
    assert untimed(rows) == untimed(evaluate(configs, "snip", SMALL))


@pytest.mark.integration
def test_results_reach_the_cache_as_they_come(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        with pytest.raises(KeyboardInterrupt):
            evaluate(CONFIGS, "snip", SMALL, cache=cache, executor=ProcessExecutor(1), progress=interrupt)
        rows = evaluate(dict(list(CONFIGS.items())[:2]), "snip", SMALL, cache=cache, executor=Nobody())
    assert [row["snip"]["status"] for row in rows.values()] == ["ok", "ok"]
    assert multiprocessing.active_children() == []


@pytest.mark.integration
def test_a_killed_command_keeps_its_tables_and_leaves_no_worker(tmp_path: Path) -> None:
    command = ["search", "tiny-gpt2", "--train", "30", "--limit", "40", "--batch-size", "2", "--seq-len", "8",
               "--device", "cpu", "--workers", "2", "--strategy", "random", "--iterations", "1"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", "from lpz_cli.main import main; main()", *command], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"LPZ_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    tables = tmp_path / "tables"
    try:
        while not tables.exists() or len([f for f in tables.iterdir() if f.suffix == ".safetensors"]) < 3:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    finally:
        process.kill()
    process.communicate()  # returns when the last worker that holds the pipes has gone
    assert process.returncode == -signal.SIGKILL
    assert 3 <= len(list(tables.glob("*.safetensors"))) < 40


# Architectures that fail every time -----------------------------------------------------------------------------


@pytest.mark.integration
def test_an_architecture_that_kills_every_worker_or_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        with pytest.warns(ExecutorWarning, match="again"):
            rows = evaluate(FATED, ["params", "snip"], SMALL, cache=cache, executor=ProcessExecutor(2))
        assert rows["kills"]["snip"]["status"] == rows["kills"]["params"]["status"] == "failed"
        assert rows["kills"]["snip"]["reason"] == rows["kills"]["params"]["reason"]
        assert DIED in rows["kills"]["snip"]["reason"]
        assert rows["fails"]["snip"]["status"] == "failed"
        assert FAILED in rows["fails"]["snip"]["reason"]
        well = {name: FATED[name] for name in ("well", "too")}
        alone = untimed(evaluate(well, ["params", "snip"], SMALL))
        assert untimed({name: rows[name] for name in well}) == alone
        assert untimed(evaluate(well, ["params", "snip"], SMALL, cache=cache, executor=Nobody())) == alone
        kills = {"kills": FATED["kills"]}
        with pytest.raises(AssertionError):  # what failed is not remembered, but tried again
            evaluate(kills, "params", SMALL, cache=cache, executor=Nobody())


@pytest.mark.integration
def test_tables_of_the_others_are_kept_and_an_error_names_those_that_failed(tmp_path: Path) -> None:
    wanted = SearchConfig(("tiny-gpt2",)).space(installed_operations()).wanted
    with pytest.raises(CaptureFailed) as caught, pytest.warns(ExecutorWarning, match="again"):
        make_tables(FATED, wanted, SMALL, tmp_path, executor=ProcessExecutor(2), plugins=load_plugins())
    assert all(word in str(caught.value) for word in ("kills", DIED, "fails", FAILED))
    assert "well" not in str(caught.value)
    assert caught.value.exit_code == 1
    well = {name: FATED[name] for name in ("well", "too")}
    assert len(make_tables(well, wanted, SMALL, tmp_path, executor=Nobody(), plugins=load_plugins())) == 2


def test_a_search_that_cannot_capture_an_architecture_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lpzero_hf.benchmarks.benchmark import Benchmark, Trained

    monkeypatch.setenv("LPZ_CACHE", str(tmp_path))
    entries = [
        Trained(name, FATES.parse(name), float(number))
        for number, name in enumerate(f"{fate}.w{width}-l1" for fate in ("well", "fails") for width in (16, 24))
    ]
    bench = Benchmark(
        name="fates", summary="", space=FATES, metric="loss", larger_is_better=False, read=lambda: entries
    )
    plugins = load_plugins()
    monkeypatch.setattr("lpzero_hf.searching.benchmark_scores.load_benchmark", lambda name, plugins, table=None: bench)
    with pytest.raises(LpzError, match=r"never works; .*never works"):
        search(SearchConfig(("fates",), "random", train=None, iterations=1, setting=SMALL), plugins=plugins)
    assert len(list((tmp_path / "tables").glob("*.safetensors"))) == 2


@pytest.mark.integration
def test_a_training_that_fails_is_written_down_and_does_not_stop_the_others(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(files("lpzero_hf.models").joinpath("data", "text.txt").read_text("utf-8")[:6000])
    recipe = Recipe(steps=2, batch_size=2, seq_len=8, warmup=1, windows=2, evaluations=1)
    plan = TrainingPlan("fates", n=3, max_parameters=5000, repeats=0, seeds=1, recipe=recipe)

    def make(out: str, executor: Executor) -> dict[str, Any]:
        with pytest.raises(LpzError) as caught:
            make_benchmark(plan, FATES, tmp_path / out, name="fates", text=text, validation=text, executor=executor)
        assert "2 of 3" in str(caught.value)
        assert caught.value.exit_code == 1
        document: dict[str, Any] = json.loads((tmp_path / out / "benchmark.json").read_text())
        for row in document["failed"]:
            assert row["architecture"] in str(caught.value)
            assert row["reason"] in str(caught.value)
        return document

    with pytest.warns(ExecutorWarning, match="again"):
        document = make("run", ProcessExecutor(2))
    reasons = {row["architecture"]: row["reason"] for row in document["failed"]}
    assert set(reasons) == {"fails.w16-l1", "kills.w16-l1"}
    assert FAILED in reasons["fails.w16-l1"]
    assert DIED in reasons["kills.w16-l1"]
    assert [row["architecture"] for row in document["trained"]] == ["well.w16-l1"]


# The command ----------------------------------------------------------------------------------------------------

RANK = ("rank", "tiny-gpt2", "-p", "snip", "--n", "2", "--batch-size", "2", "--seq-len", "8", "--device", "cpu")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((*RANK, "--address", "127.0.0.1:6379"), "--executor ray"),
        ((*RANK, "--executor", "process", "--address", "127.0.0.1:6379"), "--executor ray"),
        ((*RANK, "--executor", "local", "--workers", "2"), "--executor process"),
        (
            ("nas", "tiny-gpt2", "-p", "snip", "--max-params", "900000", "--executor", "process", "--out", "nas"),
            "--among",
        ),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    lpz: Lpz, command: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = lpz(*command)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


NEEDED = {
    ("rank",): ("-p", "params"), ("search",): (),
    ("nas",): ("-p", "params", "--max-params", "9", "--out", "o", "--among", "tiny-gpt2"),
    ("bench", "eval"): (), ("bench", "train"): ("--out", "o", "--validation", "v"),
}  # fmt: skip


@pytest.mark.parametrize("command", NEEDED)
def test_every_command_of_many_architectures_names_the_executors(lpz: Lpz, command: tuple[str, ...]) -> None:
    code, out, err = lpz(*command, "tiny-gpt2", *NEEDED[command], "--executor", "clowder")
    assert (code, out) == (2, "")
    assert all(name in err for name in ("clowder", "local", "process", "ray"))


@pytest.mark.integration
def test_the_command_warns_of_more_workers_than_cores_and_does_as_it_is_told(lpz: Lpz) -> None:
    code, out, err = lpz(*RANK, "--workers", str(cores() + 1), "--json")
    assert code == 0
    assert len(json.loads(out)["ranking"]) == 2
    assert err.count("\n") == 1
    assert f"{cores() + 1} workers" in err
