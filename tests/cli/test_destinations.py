"""A place that cannot be written to, or holds something already, is refused by every command before it works."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from lpz_cli.main import app

from tests.support.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
NAMES = [f"d64.e32.k{k}-h{heads}.i{inner}" for k in (1, 2) for heads in (1, 2) for inner in (64, 128)]
SMALL = "--batch-size 2 --seq-len 8 --device cpu --executor local"
FILES = {  # commands with an option that names a file to write
    "bench eval --scores": f"made -p snip {SMALL}",
    "bench consensus --out": f"made -p snip {SMALL}",
    "report --out": "made",
    "export --out": "'sum(sum(product(W, G)))' --name mine",
    "pull --out": "user/repo",
    "zoo new-space --out": "gpt2-variant",
}
FOLDERS = {  # and a folder
    "bench eval --plots": f"made -p snip {SMALL}",
    "bench train --out": "tiny-gpt2 --n 2 --repeats 0 --steps 2 --executor local --device cpu",
    "bench transfer --out": f"made -p snip {SMALL}",
    "search --out": f"made --train 4 --strategy random {SMALL}",
    "nas --out": f"tiny-gpt2 --among made -p snip --max-params 9M {SMALL}",
    "plugin new --out": "my-own",
}
READ = {  # options that name what is read
    "--text", "--from", "--validation", "--architectures", "--start", "--cost-table",
}  # fmt: skip
RESULTS = {  # what stands in a folder, and must not be replaced
    "bench train --out": "benchmark.json", "bench transfer --out": "transfer.json", "search --out": "result.json",
    "nas --out": "result.json", "plugin new --out": "pyproject.toml",
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark, and no command that may work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "cache"))
    write_benchmark(Path("made"), {name: 5.0 + i for i, name in enumerate(NAMES)})
    Path("file.yaml").write_text("mine")

    def worked(*_: object, **__: object) -> Any:
        raise AssertionError("it works before it refuses")

    for work in (
        "lpzero_hf.executors.local.LocalExecutor.map", "lpzero_hf.artifacts.hub.pull", "lpz_report.report",
        "lpzero_hf.packaging.space_template.propose",
    ):  # fmt: skip
        monkeypatch.setattr(work, worked)


def told(lpz: Lpz, command: str, place: str) -> str:
    """The only line that a command prints for a destination."""
    words = command.split()
    code, out, err = lpz(*words[:-1], *shlex.split((FILES | FOLDERS)[command]), words[-1], place)
    assert (code in (1, 2), out, err.count("error: ")) == (True, "", 1), err
    assert "works before" not in err
    return err


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_exists_is_refused(command: str, lpz: Lpz) -> None:
    assert "'file.yaml' exists already" in told(lpz, command, "file.yaml")
    assert Path("file.yaml").read_text() == "mine"
    Path("folder.yaml").mkdir()
    assert "'folder.yaml' is a folder" in told(lpz, command, "folder.yaml")


@pytest.mark.parametrize("command", FOLDERS)
def test_a_file_where_a_folder_goes_is_refused(command: str, lpz: Lpz) -> None:
    assert "'file.yaml'" in told(lpz, command, "file.yaml")
    assert Path("file.yaml").read_text() == "mine"


@pytest.mark.parametrize("command", FILES | FOLDERS)
@pytest.mark.parametrize("place", ["file.yaml/x/y.yaml", "/proc/x/y.yaml"])
def test_a_place_that_cannot_be_written_to_is_refused(place: str, command: str, lpz: Lpz) -> None:
    if place.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("this system has no such place")
    assert f"'{place}'" in told(lpz, command, place)


@pytest.mark.parametrize("command", RESULTS)
def test_a_folder_with_a_result_of_something_else_is_refused(command: str, lpz: Lpz) -> None:
    Path("folder").mkdir()
    Path("folder", RESULTS[command]).write_text("mine")
    assert "'folder" in told(lpz, command, "folder")
    assert Path("folder", RESULTS[command]).read_text() == "mine"


def test_these_are_all_options_that_name_a_place() -> None:
    def paths(command: Any, words: tuple[str, ...]) -> Iterator[str]:
        for name, inner in vars(command).get("commands", {}).items():
            yield from paths(inner, (*words, name))
        for parameter in getattr(command, "params", ()):
            option = next((one for one in parameter.opts if one.startswith("--")), "")
            if "Path" in str(vars(parameter).get("type_descriptor")) and option and option not in READ:
                yield " ".join([*words, option])

    assert set(paths(typer.main.get_command(app), ())) == FILES.keys() | FOLDERS.keys()
