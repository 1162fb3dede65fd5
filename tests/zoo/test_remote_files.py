"""Downloads of a benchmark's files from a server on loopback, whole and with every fault."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lpz_zoo.benchmarks import FLEXIBERT_FILES, GEMSTONES_FILES, GPT2_FILES, LM1B_FILES
from lpz_zoo.remote_files import ATTEMPTS, DownloadError, RemoteFiles

from tests.support.mirror import ALWAYS, Mirror, serve_mirror

Lpz = Callable[..., tuple[int, str, str]]
DATA = os.environ.get("LPZ_DATA")  # before a fixture unsets it
SOURCE = "someone/something/0123abc"
CONTENT = {f"logs/j{i}/config.yaml": f"layers: {i}\n".encode() * 40 for i in range(30)}
CONTENT |= {"logs/a.yaml": b"a: 1\n", "logs/b.yaml": b"b: 1\n", "large.json": bytes(range(256)) * 2_000}
LARGE = f"{SOURCE}/data/large.json"

CHILD = """
import sys
from pathlib import Path
from lpz_zoo.remote_files import RemoteFiles
if len(sys.argv) > 3:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
RemoteFiles(
    benchmark="toy", folder="toy", source=sys.argv[2], strip="data/", registry=Path(sys.argv[1]), size=1
).fetch(lambda *_: None)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the files in an empty cache; no LPZ_DATA."""
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LPZ_DATA", raising=False)
    return tmp_path / "cache" / "data" / "toy"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a tenth of the time between attempts."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds / 10))


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server that has the files."""
    with serve_mirror({f"{SOURCE}/data/{name}": content for name, content in CONTENT.items()}) as mirror:
        monkeypatch.setenv("LPZ_MIRROR", mirror.url)
        yield mirror


@pytest.fixture
def toy(tmp_path: Path, cache: Path, mirror: Mirror) -> RemoteFiles:
    """The files that the server has."""
    registry = tmp_path / "toy.txt"
    lines = [f"data/{name} sha256:{hashlib.sha256(content).hexdigest()}\n" for name, content in CONTENT.items()]
    registry.write_text("".join(lines))
    size = sum(map(len, CONTENT.values()))
    return RemoteFiles(benchmark="toy", folder="toy", source=SOURCE, strip="data/", registry=registry, size=size)


def ignore(*_: object) -> None:
    """A progress that nobody sees."""


def length(file: Path) -> int:
    """The size of a file, 0 if it has been moved away."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def in_place(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, the lock aside."""
    files = (f for f in folder.rglob("*") if f.is_file() and f.name != ".lock")
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def write(folder: Path) -> Path:
    """The files, written to a folder."""
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def child(files: RemoteFiles, *more: str) -> subprocess.Popen[str]:
    """Another process that fetches the files."""
    command = [sys.executable, "-c", CHILD, str(files.registry), files.source, *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def line(error: pytest.ExceptionInfo[DownloadError]) -> str:
    """The message, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def test_fetch_puts_all_files_in_place_silently(
    toy: RemoteFiles, cache: Path, mirror: Mirror, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[str, int, int]] = []
    assert toy.fetch(lambda *event: told.append(event)) == cache == toy.path()
    assert in_place(cache) == CONTENT
    assert sorted(mirror.asked) == sorted(f"{SOURCE}/data/{name}" for name in CONTENT)
    assert {name for name, _, _ in told} == set(CONTENT)
    done = [bytes_done for _, bytes_done, _ in told]
    assert done == sorted(done)
    assert told[-1][1:] == (toy.size, toy.size)
    assert capfd.readouterr() == ("", "")
    assert all(f.stat().st_mode & 0o777 == 0o644 for f in cache.rglob("*.yaml"))


@pytest.mark.parametrize(
    "files", [FLEXIBERT_FILES, GPT2_FILES, LM1B_FILES, GEMSTONES_FILES], ids=lambda files: files.benchmark
)
def test_published_files_download(files: RemoteFiles, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    if not DATA or not (here := Path(DATA) / files.folder).is_dir():
        pytest.skip("needs the published files; set LPZ_DATA to a folder that holds them")
    published = {f"{files.source}/{files.strip}{name}": (here / name).read_bytes() for name in files.files()}
    told = [0, 0]
    with serve_mirror(published) as mirror:
        monkeypatch.setenv("LPZ_MIRROR", mirror.url)
        folder = files.fetch(lambda _, *event: told.__setitem__(slice(None), event))
    assert told == [files.size, files.size]
    assert files.path() == folder
    assert len(in_place(folder)) == len(published)


def test_missing_files_name_both_remedies(toy: RemoteFiles) -> None:
    with pytest.raises(DownloadError) as error:
        toy.path()
    assert "`lpz bench get toy`" in line(error)
    assert "LPZ_DATA" in line(error)


def test_second_fetch_downloads_only_what_is_missing_or_damaged(toy: RemoteFiles, cache: Path, mirror: Mirror) -> None:
    toy.fetch(ignore)
    mirror.asked.clear()
    (cache / ".lock").unlink(missing_ok=True)
    toy.fetch(ignore)
    assert mirror.asked == []
    assert not (cache / ".lock").exists(), "a complete cache may be read-only"
    (cache / "logs/a.yaml").unlink()
    (cache / "large.json").write_bytes(CONTENT["large.json"][:-1])
    told: list[int] = []
    toy.fetch(lambda _, done, __: told.append(done))
    assert sorted(mirror.asked) == [LARGE, f"{SOURCE}/data/logs/a.yaml"]
    assert told[-1] == toy.size
    assert in_place(cache) == CONTENT


def test_changed_file_is_noticed(toy: RemoteFiles, cache: Path) -> None:
    toy.fetch(ignore)
    (cache / "logs/b.yaml").write_bytes(b"b: 2\n")
    with pytest.raises(DownloadError) as error:
        toy.path()
    assert str(cache / "logs/b.yaml") in line(error)
    assert "`lpz bench get toy`" in line(error)


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_file_is_noticed(toy: RemoteFiles, cache: Path) -> None:
    toy.fetch(ignore)
    (cache / "logs/b.yaml").unlink()
    os.mkfifo(cache / "logs/b.yaml")
    with pytest.raises(DownloadError, match=r"b\.yaml"):
        toy.path()


@pytest.mark.parametrize("fault", ["cut", "500", "429", "other"])
def test_passing_fault_is_tried_again(toy: RemoteFiles, cache: Path, mirror: Mirror, fault: str) -> None:
    mirror.faults[LARGE] = [fault]
    told: list[int] = []
    toy.fetch(lambda _, done, __: told.append(done))
    assert in_place(cache) == CONTENT
    assert mirror.asked.count(LARGE) == 2
    assert told[-1] == toy.size


@pytest.mark.parametrize(
    ("fault", "words", "requests"),
    [
        ("cut", "connection", ATTEMPTS),
        ("other", "published", ATTEMPTS),
        ("500", "500", ATTEMPTS),
        ("404", "404", 1),
    ],
)
def test_lasting_fault_leaves_no_entry(
    toy: RemoteFiles, cache: Path, mirror: Mirror, fault: str, words: str, requests: int
) -> None:
    mirror.faults[LARGE] = [fault] * ALWAYS
    with pytest.raises(DownloadError) as error:
        toy.fetch(ignore)
    assert words in line(error)
    assert f"{mirror.url}/{LARGE}" in line(error)
    assert "LPZ_MIRROR" in line(error)
    assert "LPZ_DATA" in line(error)
    assert mirror.asked.count(LARGE) == requests
    left = in_place(cache)
    assert "large.json" not in left
    assert left.items() <= CONTENT.items()


def test_no_server_is_named_with_the_remedies(
    toy: RemoteFiles, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with serve_mirror({}) as gone:
        pass
    monkeypatch.setenv("LPZ_MIRROR", gone.url)
    with pytest.raises(DownloadError) as error:
        toy.fetch(ignore)
    assert "Connection refused" in line(error)
    assert in_place(cache) == {}
    assert capfd.readouterr().err == ""


def test_mirror_that_is_no_address_is_refused(toy: RemoteFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPZ_MIRROR", "mirror.example")
    with pytest.raises(DownloadError, match="LPZ_MIRROR"):
        toy.fetch(ignore)


def test_unwritable_cache_is_named(toy: RemoteFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError) as error:
        toy.fetch(ignore)
    assert f"'{tmp_path}/file/data/toy'" in line(error)
    assert "LPZ_CACHE" in line(error)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_full_disk_is_named_and_leaves_nothing(toy: RemoteFiles, cache: Path) -> None:
    with child(toy, "100000") as process:
        _, err = process.communicate()
    assert f"'{cache}'" in err
    assert in_place(cache).items() <= CONTENT.items()
    assert "large.json" not in in_place(cache)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_download_is_no_entry_and_is_cleared_away(toy: RemoteFiles, cache: Path, mirror: Mirror) -> None:
    mirror.faults[LARGE] = ["stall"]
    with child(toy) as process:
        while not any(length(f) > 100_000 for f in cache.glob("tmp*")):
            assert process.poll() is None, "it was done before it could be killed"
            time.sleep(0.02)
        process.kill()
    assert any(name.startswith("tmp") for name in in_place(cache))
    with pytest.raises(DownloadError, match="not here"):
        toy.path()
    toy.fetch(ignore)
    assert in_place(cache) == CONTENT


def test_concurrent_fetches_download_once(toy: RemoteFiles, cache: Path, mirror: Mirror) -> None:
    processes = [child(toy) for _ in range(3)]
    for process in processes:
        _, err = process.communicate()
        assert (process.returncode, err) == (0, "")
    assert in_place(cache) == CONTENT
    assert len(mirror.asked) == len(CONTENT)


def test_data_folder_comes_before_the_cache(
    toy: RemoteFiles, cache: Path, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cache)
    given = write(tmp_path / "data" / "toy")
    assert toy.path() == cache
    monkeypatch.setenv("LPZ_DATA", str(tmp_path / "data"))
    assert toy.path() == given
    assert toy.fetch(ignore) == given
    assert mirror.asked == []
    (given / "large.json").unlink()
    assert toy.path() == cache


def test_data_folder_is_checked(toy: RemoteFiles, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(cache)
    given = write(tmp_path / "data" / "toy")
    (given / "logs/a.yaml").write_bytes(b"a: 2\n")
    monkeypatch.setenv("LPZ_DATA", str(tmp_path / "data"))
    with pytest.raises(DownloadError) as error:
        toy.path()
    assert f"'{given}/logs/a.yaml'" in line(error)
    assert "LPZ_DATA" in line(error)
    monkeypatch.setenv("LPZ_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DownloadError, match="no folder"):
        toy.path()


FLEXIBERT_URL = "aaronserianni/training-free-nas/2d76e01b9586cad7340e8268dadba3056efd070b/data/BERT_benchmark.json"


@pytest.mark.skipif(DATA is None, reason="LPZ_DATA names no folder with the published files to serve")
def test_the_command_downloads_a_benchmark_that_can_then_be_shown(
    cache: Path, monkeypatch: pytest.MonkeyPatch, lpz: Lpz
) -> None:
    published = Path(DATA or "") / "nas-bench-bert" / "BERT_benchmark.json"
    with serve_mirror({FLEXIBERT_URL: published.read_bytes()}) as mirror:
        monkeypatch.setenv("LPZ_MIRROR", mirror.url)
        assert lpz("bench", "get", "flexibert")[:2] == (0, f"flexibert is in {cache.parent / 'nas-bench-bert'}\n")
    code, out, _ = lpz("bench", "show", "flexibert", "--json")
    assert (code, json.loads(out)["architectures"]) == (0, 500)


@pytest.mark.parametrize("fault", ["cut", "404", ""])
def test_the_command_says_what_went_wrong_and_keeps_nothing(
    fault: str, cache: Path, monkeypatch: pytest.MonkeyPatch, lpz: Lpz
) -> None:
    with serve_mirror({FLEXIBERT_URL: b"{}" * 9_000}) as mirror:  # of which the checksum is wrong
        monkeypatch.setenv("LPZ_MIRROR", mirror.url)
        mirror.faults[FLEXIBERT_URL] += [fault] * ALWAYS if fault else []
        code, out, err = lpz("bench", "get", "flexibert")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert {"cut": "connection", "404": "404", "": "SHA-256"}[fault] in err
    assert not [path for path in cache.parent.rglob("*") if path.is_file() and path.name != ".lock"]
    code, _, err = lpz("bench", "show", "flexibert")
    assert code == 1
    assert "`lpz bench get flexibert`" in err


def test_the_command_without_a_network_names_the_remedies(
    cache: Path, monkeypatch: pytest.MonkeyPatch, lpz: Lpz
) -> None:
    with serve_mirror({}) as mirror:
        monkeypatch.setenv("LPZ_MIRROR", mirror.url)
    code, out, err = lpz("bench", "get", "flexibert")  # the server has gone
    assert (code, out) == (1, "")
    assert "LPZ_DATA" in err
    assert "LPZ_MIRROR" in err


def test_nothing_is_downloaded_for_a_benchmark_that_is_shipped(lpz: Lpz) -> None:
    code, out, err = lpz("bench", "get", "tiny-gpt2")
    assert (code, err) == (0, "")
    assert "no download" in out
