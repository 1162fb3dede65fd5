"""The score cache keeps scores exactly, shared by many processes, through kills, full disks and damaged files.

The file is long because every way to lose a score is tried on the same cache, one after the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpzero_hf.errors import LpzError
from lpzero_hf.scoring.cache import CacheError, ScoreCache, cache_folder, digest

FLOATS = [0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, 2.0**53 + 2, 1e22, 123456789.123456789]


SMALL = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu", "--workers", "1")


@pytest.mark.parametrize(
    "command",
    [
        ("bench", "eval", "tiny-gpt2", "-p", "params", "--limit", "4"),
        ("rank", "tiny-gpt2", "-p", "params", "--n", "2"),
        (
            "search",
            "tiny-gpt2",
            "--limit",
            "4",
            "--train",
            "3",
            "--unary",
            "3",
            "-s",
            "random",
            "--iterations",
            "2",
            "--population",
            "2",
        ),
    ],
    ids=lambda command: command[0],
)
def test_the_commands_close_what_they_open(
    lpz: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    made: list[ScoreCache] = []
    closed: list[ScoreCache] = []
    opening, closing = ScoreCache.__init__, ScoreCache.close

    def opened(self: ScoreCache, path: Path | None = None) -> None:
        opening(self, path)
        made.append(self)

    def close(self: ScoreCache) -> None:
        closing(self)
        closed.append(self)

    monkeypatch.setenv("LPZ_CACHE", str(tmp_path))
    monkeypatch.setattr(ScoreCache, "__init__", opened)
    monkeypatch.setattr(ScoreCache, "close", close)
    assert lpz(*command, *SMALL)[0] == 0
    assert made
    assert closed == made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "scores.sqlite"


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process; its standard output and error are pipes."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def content(path: Path) -> dict[str, int]:
    """The number of rows of each subject, in a file that SQLite finds whole."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return dict(connection.execute("SELECT subject, count(*) FROM scores GROUP BY subject"))
    finally:
        connection.close()


def test_floats_come_back_exactly_from_a_file_opened_again(path: Path) -> None:
    rows = {f"p{i}@1": {"value": value, "status": "ok", "seconds": 0.1 + i} for i, value in enumerate(FLOATS)}
    with ScoreCache(path) as cache:
        cache.put("s", rows)
    with ScoreCache(path) as cache:
        found = cache.get("s", rows)
    assert found == rows
    assert [found[key]["value"].hex() for key in rows] == [value.hex() for value in FLOATS]


def test_rows_without_a_value_are_kept_too(path: Path) -> None:
    row = {"value": None, "status": "not applicable", "reason": "keine Köpfe ☃", "passes": ["forward"], "n": 2**70}
    with ScoreCache(path) as cache:
        cache.put("s", {"p@1": row})
        assert cache.get("s", ["p@1"]) == {"p@1": row}


def test_only_what_was_asked_for_and_is_there_is_found(path: Path) -> None:
    with ScoreCache(path) as cache:
        for subject in "abc":
            cache.put(subject, {"p@1": {"value": subject}, "q@1": {"value": 2}})
        assert cache.get("a", ["p@1", "p@2", "r@1"]) == {"p@1": {"value": "a"}}
        assert cache.get("d", ["p@1"]) == {}
        assert cache.get("a", []) == {}
        assert cache.get_many(["a", "c", "d"], ["p@1"]) == {("a", "p@1"): {"value": "a"}, ("c", "p@1"): {"value": "c"}}


def test_thousands_of_subjects_are_found_at_once(path: Path) -> None:
    subjects = [digest(i) for i in range(40_000)]  # more than SQLite has variables
    with ScoreCache(path) as cache:
        cache.put(subjects[0], {"p@1": {"value": 0}})
        cache.put(subjects[-1], {"p@1": {"value": 1}})
        assert len(cache.get_many(iter(subjects), iter(["p@1"]))) == 2


def test_the_first_write_wins(path: Path) -> None:
    with ScoreCache(path) as one, ScoreCache(path) as two:
        one.put("s", {"p@1": {"value": 1}})
        two.put("s", {"p@1": {"value": 2}, "q@1": {"value": 3}})
        assert one.get("s", ["p@1", "q@1"]) == {"p@1": {"value": 1}, "q@1": {"value": 3}}


@pytest.mark.parametrize(("value", "error"), [(np.nan, ValueError), (np.inf, ValueError), (object(), TypeError)])
def test_a_row_that_json_cannot_hold_keeps_nothing(path: Path, value: object, error: type[Exception]) -> None:
    with ScoreCache(path) as cache:
        with pytest.raises(error):
            cache.put("s", {"p@1": {"value": 1.0}, "q@1": {"value": value}})
        assert cache.get("s", ["p@1", "q@1"]) == {}


def write_in_turns(path: Path, name: str, barrier: threading.Barrier) -> None:
    """Open the cache as soon as all others do, then write own and contested subjects."""
    barrier.wait(60)
    with ScoreCache(path) as cache:
        for i in range(40):
            cache.put(f"{name}-{i}", {f"p{j}@1": {"value": j + 0.1} for j in range(5)})
            cache.put(f"shared-{i}", {f"p{j}@1": {"value": name} for j in range(5)})


@pytest.mark.integration
def test_processes_that_create_and_write_one_file_at_once_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    writers = [context.Process(target=write_in_turns, args=(path, f"w{n}", barrier)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    counts = content(path)
    assert set(counts.values()) == {5}
    assert set(counts) == {f"{name}-{i}" for name in ("w0", "w1", "w2", "w3", "shared") for i in range(40)}
    with ScoreCache(path) as cache:
        for i in range(40):  # one process' rows, never a mixture
            rows = cache.get(f"shared-{i}", [f"p{j}@1" for j in range(5)])
            assert len({row["value"] for row in rows.values()}) == 1


OPENERS = """
import sys, time
from pathlib import Path
from lpzero_hf.scoring.cache import ScoreCache
folder = Path(sys.argv[1])
for i in range(30):
    (folder / f"{i}-{sys.argv[2]}").touch()
    while len(list(folder.glob(f"{i}-*"))) < 3:
        pass
    ScoreCache(folder / f"{i}.sqlite").put("s", {f"{sys.argv[2]}@1": {}})
"""


def test_opening_new_files_at_the_same_moment_is_safe(tmp_path: Path) -> None:
    openers = [start(OPENERS, tmp_path, n) for n in range(3)]
    assert [opener.communicate()[1] for opener in openers] == ["", "", ""]
    assert [content(tmp_path / f"{i}.sqlite") for i in range(30)] == [{"s": 3}] * 30


def test_threads_share_one_cache(path: Path) -> None:
    errors: list[Exception] = []

    def work(name: int) -> None:
        try:
            for i in range(30):
                cache.put(f"{name}-{i}", {"p@1": {"value": i}, "q@1": {"value": i}})
                assert cache.get(f"{name}-{i}", ["p@1"]) == {"p@1": {"value": i}}
        except Exception as error:  # a thread's error would go unseen
            errors.append(error)

    with ScoreCache(path) as cache:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not errors
    assert set(content(path).values()) == {2}
    assert len(content(path)) == 120


WRITER = """
import sys
from pathlib import Path
from lpzero_hf.scoring.cache import ScoreCache
cache = ScoreCache(Path(sys.argv[1]))
print("open", flush=True)
for i in range(10**9):
    cache.put(f"{sys.argv[2]}-{i}", {f"p{j}@1": {"value": 0.1, "reason": "x" * 500} for j in range(200)})
    print(i, flush=True)
"""


def test_a_killed_writer_leaves_only_whole_puts(path: Path) -> None:
    for run in range(6):
        writer = start(WRITER, path, run)
        assert writer.stdout is not None
        for _ in range(3):
            writer.stdout.readline()
        time.sleep(0.003 * run)  # somewhere in a put
        writer.send_signal(signal.SIGKILL)
        told = [int(line) for line in writer.communicate()[0].split()]
        with ScoreCache(path) as cache:  # the next one finds it usable
            cache.put(f"after-{run}", {"p@1": {}})
        counts = content(path)
        assert {subject: n for subject, n in counts.items() if n != 200 and not subject.startswith("after")} == {}
        # what was reported as kept is kept
        assert {f"{run}-{i}" for i in [0, 1, *told]} <= set(counts)


FULL = """
import resource, sys
from pathlib import Path
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.errors import LpzError
cache = ScoreCache(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for i in range(1000):
    try:
        cache.put(str(i), {f"p{j}@1": {"reason": "x" * 500} for j in range(20)})
    except LpzError as error:
        print(error)
        break
print(len(cache.get("0", [f"p{j}@1" for j in range(20)])), len(cache.get(str(i), ["p0@1"])))
"""


def test_a_full_disk_is_told_in_one_line_and_loses_that_put_only(path: Path) -> None:
    out, err = start(FULL, path).communicate()
    assert err == ""
    message, counts = out.splitlines()
    assert str(path) in message
    assert "space" in message
    assert counts == "20 0"
    assert set(content(path).values()) == {20}


def refusal(action: Callable[[], object], *words: object) -> None:
    """Assert that `action` raises one line with all of `words`."""
    with pytest.raises(LpzError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert "LPZ_CACHE" in message
    for word in words:
        assert str(word) in message


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    path.write_text("model,score\n" * 500)
    refusal(lambda: ScoreCache(path), path, "delete")
    assert path.read_text() == "model,score\n" * 500


def test_a_damaged_database_is_named(path: Path) -> None:
    with ScoreCache(path) as cache:
        cache.put("s", {f"p{i}@1": {"reason": "x" * 500} for i in range(200)})
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    with ScoreCache(path) as cache:
        refusal(lambda: cache.get("s", ["p7@1"]), path, "delete")
        refusal(lambda: cache.put("s", {"p7@1": {}}), path, "delete")


def test_a_damaged_row_is_forgotten_so_that_it_is_computed_again(path: Path) -> None:
    with ScoreCache(path) as cache:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO scores VALUES ('s', 'p@1', '{\"value\": 0.')")
        assert cache.get("s", ["p@1"]) == {}
        cache.put("s", {"p@1": {"value": 0.5}})
        assert cache.get("s", ["p@1"]) == {"p@1": {"value": 0.5}}


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 2", "CREATE TABLE theirs (x)"])
def test_a_newer_cache_or_another_program_s_database_is_refused_and_left_alone(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "scores.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()
    before = path.read_bytes()
    refusal(lambda: ScoreCache(path), path, "version 1")
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    path.touch()
    with ScoreCache(path) as cache:
        cache.put("s", {"p@1": {}})
    assert content(path) == {"s": 1}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refusal(lambda: ScoreCache(tmp_path / "file" / "scores.sqlite"), "folder", tmp_path / "file")
    refusal(lambda: ScoreCache(tmp_path / "file" / "deep" / "scores.sqlite"), "folder", tmp_path / "file")


def test_a_path_that_is_a_folder_is_told(tmp_path: Path) -> None:
    refusal(lambda: ScoreCache(tmp_path), tmp_path)


def test_a_file_that_may_only_be_read_gives_its_rows_and_refuses_new_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def read_only(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA query_only = 1")  # tests may run as root, which may write anything
        return connection

    with ScoreCache(path) as cache:
        cache.put("s", {"p@1": {}})
    monkeypatch.setattr(sqlite3, "connect", read_only)
    with ScoreCache(path) as cache:
        assert cache.get("s", ["p@1"]) == {"p@1": {}}
        refusal(lambda: cache.put("t", {"p@1": {}}), path, "permissions")


def test_a_lock_that_is_never_given_up_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpzero_hf.scoring.cache.BUSY_SECONDS", 0.1)
    with ScoreCache(path) as cache, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refusal(lambda: cache.put("s", {"p@1": {}}), path, "locked")
        other.execute("ROLLBACK")
        cache.put("s", {"p@1": {}})


def test_a_cache_refuses_to_work_after_a_fork(path: Path) -> None:
    with ScoreCache(path) as cache:
        child = os.fork()
        if child == 0:
            try:
                cache.get("s", ["p@1"])
            except CacheError as error:
                os._exit(7 if "fork" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        cache.put("s", {"p@1": {}})


def test_a_pickled_cache_opens_the_same_file(path: Path) -> None:
    with ScoreCache(path) as cache, pickle.loads(pickle.dumps(cache)) as other:
        cache.put("s", {"p@1": {"value": 1}})
        assert other.get("s", ["p@1"]) == {"p@1": {"value": 1}}


def test_the_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    with ScoreCache() as cache:
        assert cache.path == tmp_path / "mine" / "scores.sqlite"
    assert cache.path.exists()
    monkeypatch.setenv("LPZ_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.setenv("LPZ_CACHE", "")
    assert "lpzero-hf" in cache_folder().parts
    monkeypatch.delenv("LPZ_CACHE")
    assert "lpzero-hf" in cache_folder().parts


def test_digest_does_not_depend_on_order_or_process() -> None:
    assert digest({"a": 1, "b": (1, 2)}, "x") == digest({"b": [1, 2], "a": 1}, "x")
    assert digest({"id2label": {0: "no"}}) == digest({"id2label": {"0": "no"}})
    assert digest({"a": 1.5}, None, True, "é", b"\x00") == "a6fec51d6af6bc96ff276af4e69061ff"


def test_digest_tells_apart_what_differs() -> None:
    distinct: list[tuple[object, ...]] = [
        (),
        (None,),
        (0,),
        (0.0,),
        (-0.0,),
        (False,),
        ("",),
        ("0",),
        (b"",),
        (b"0",),
        ([],),
        ({},),
        ([[]],),
        ((), ()),
        (0.1,),
        (0.1 + 2e-17,),
        (float("inf"),),
        ("Infinity",),
        ({"a": 1},),
        ({".a": 1},),
        ("a", 1),
        (["a", 1],),
        ({"sha256": hashlib.sha256(b"").hexdigest()},),
    ]
    digests = [digest(*parts) for parts in distinct]
    assert len(set(digests)) == len(digests)
    assert all(len(text) == 32 for text in digests)


@pytest.mark.parametrize("part", [object(), {1, 2}, {"a": [object()]}, {1.5: 2}, {True: 1}, {1: 2, "1": 3}, 1j, Path()])
def test_digest_refuses_what_has_no_canonical_form(part: object) -> None:
    with pytest.raises(TypeError, match="canonical form"):
        digest(part)
