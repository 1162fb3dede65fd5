"""What the tests of the Ray executor do with a cluster, in a process of its own that cannot outlast its time.

    python -m tests.support.ray_driver FOLDER SECONDS

Starts a cluster of two nodes on this machine, works on it, kills one node in the middle of an evaluation, and leaves
what came of each part in FOLDER. One that hangs is ended after SECONDS, and says where it hung.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import grade
from lpzero_hf.executors import RayExecutor
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.files import write_text
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import ModelProxy, Subject
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.table_cache import make_tables
from tests.scoring.test_evaluate import BROKEN
from tests.support import executor_tasks
from tests.support.architectures import CONFIGS, SMALL, TWO
from tests.support.evaluated import evaluate
from tests.support.fated import fated

STORE = 100 * 2**20
LIMIT, PROXIES, SETTING = 12, ("snip", "params"), Setting(2, 8)
COMMAND = (
    "rank", "tiny-gpt2", "-p", "snip", "--n", "3", "--batch-size", "2", "--seq-len", "8", "--device", "cpu", "--json",
)  # fmt: skip
SCORED = ("snip", "synflow", "nwot", "num_layers")


def told(work: Callable[[], Any]) -> Any:
    """The error that it raises."""
    try:
        return work()
    except Exception as error:
        return error


def scores(executor: RayExecutor, folder: Path) -> Any:
    """Rows of four architectures, one of which cannot be built, with a text that is a file."""
    text = folder / "text.txt"
    text.write_text("to be or not to be, that is the question " * 5)
    progress: list[int] = []
    with ScoreCache(folder / "some" / "scores.sqlite") as cache:
        rows = evaluate(
            CONFIGS | {"broken": BROKEN}, SCORED, replace(SMALL, text=text), cache=cache, executor=executor,
            progress=lambda done, total: progress.append(done),
        )  # fmt: skip
    return rows, progress


def tables(executor: RayExecutor, folder: Path) -> Any:
    """Files of tables."""
    wanted = SearchConfig(("tiny-gpt2",)).space(installed_operations()).wanted
    make_tables(TWO, wanted, SMALL, folder / "tables", executor=executor, plugins=load_plugins())
    return {file.name: file.read_bytes() for file in (folder / "tables").iterdir()}


def dwell(subject: Subject) -> float:
    """A score of 1. Once the file `doomed` names a node, tasks stay on that node, and all others wait for one there."""
    import ray

    folder = Path(os.environ["LPZ_TEST_FOLDER"])
    if (folder / "doomed").exists():
        if ray.get_runtime_context().get_node_id() == (folder / "doomed").read_text():
            (folder / "stays").touch()
            time.sleep(600)
        await_file(folder / "stays")
    return 1.0


def await_file(file: Path) -> None:
    """Returns when it is there."""
    while not file.exists():
        time.sleep(0.01)


def loss_of_a_node(executor: RayExecutor, folder: Path, node: Any) -> Any:
    """Grade a benchmark on two nodes, one of which dies half-way, with a task in its hands."""
    import ray

    killed: list[int] = []

    def progress(done: int, total: int) -> None:
        if done >= total // 2 and not killed:
            write_text(folder / "doomed", node.node_id)
            await_file(folder / "stays")
            raylet = node.all_processes["raylet"][0].process.pid
            for process in (raylet, *children(raylet)):
                os.kill(process, signal.SIGKILL)
            killed.append(done)

    with ScoreCache(folder / "graded" / "scores.sqlite") as cache:
        report = grade(
            load_benchmark("tiny-gpt2"), [*PROXIES, ModelProxy(name="dwell", formula="", evaluate=dwell)],
            SETTING, limit=LIMIT, cache=cache, executor=executor, progress=progress,
        )  # fmt: skip
    while (alive := sum(node["Alive"] for node in ray.nodes())) > 1:
        time.sleep(0.1)
    return {"scores": report.scores, "killed": killed, "alive": alive}


def children(process: int) -> list[int]:
    """The processes that it has started."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == process:
                found.append(int(entry.name))
    return found


def command(address: str) -> tuple[int, str, str]:
    """What `lpz` returns and prints when it works on the cluster."""
    from lpz_cli.main import run

    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run([*COMMAND, "--executor", "ray", "--address", address])
    return code, out.getvalue(), err.getvalue()


def crew(folder: Path) -> Any:
    """Three tasks that need each other, on the cluster of three cores that this process is connected to."""
    (folder / "meeting").mkdir()
    with patch("lpzero_hf.executors.ray.cores", lambda: 1):  # of this machine
        return list(RayExecutor().map(executor_tasks.meet, [str(folder / "meeting")] * 3))


def main() -> None:
    """Do everything, and leave what came of it."""
    folder = Path(sys.argv[1])
    faulthandler.dump_traceback_later(float(sys.argv[2]), exit=True)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "LPZ_TEST_FOLDER": str(folder), "LPZ_CACHE": str(folder)}
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    other = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    cluster.wait_for_nodes()
    found: dict[str, Any] = {}

    def note(name: str, work: Callable[[], Any]) -> None:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                found[name] = work()
            except Exception:
                found[name] = traceback.format_exc()
        found[f"{name}, warnings"] = [str(warning.message) for warning in heard]
        print(name, file=sys.stderr, flush=True)

    with RayExecutor(cluster.address) as executor:
        where = executor_tasks.where
        note("where", lambda: list(executor.map(where, range(8))))
        note("threads", lambda: list(RayExecutor(cluster.address, threads=2).map(where, [0])))
        note("crowded", lambda: told(lambda: list(RayExecutor(cluster.address, threads=1000).map(where, [0]))))
        note("refused", lambda: told(lambda: list(executor.map(executor_tasks.refuse, [1]))))
        note("raised", lambda: told(lambda: list(executor.map(executor_tasks.root, [-1.0] * 4))))
        note("scores", lambda: scores(executor, folder))
        note("tables", lambda: tables(executor, folder))
        note("tight", lambda: evaluate({"tight": fated("tight")}, "snip", SMALL, executor=executor))
        note("crew", lambda: crew(folder))
        note("command", lambda: command(cluster.address))
        note("loss of a node", lambda: loss_of_a_node(executor, folder, other))
        deadly = ["a", f"once:{folder / 'died'}", "always", "b"]
        note("deaths", lambda: sorted(executor.map(executor_tasks.die, deadly)))
    (folder / "found.pickle").write_bytes(pickle.dumps(found))
    cluster.shutdown()


if __name__ == "__main__":
    main()
