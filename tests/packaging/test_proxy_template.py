"""`lpz plugin new` starts a package that is scored with, and passes its own tests, as soon as it is installed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.families import tiny_model
from tests.support.wheels import build, fresh_python, lpz, own_wheel, run

Lpz = Callable[..., tuple[int, str, str]]
FILES = ["README.md", "my_proxy.py", "pyproject.toml", "tests/test_my_proxy.py"]


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A new package, and the interpreter of a fresh environment with its wheel beside this project's."""
    home = tmp_path_factory.mktemp("strangers")
    first = fresh_python(home / "first", [own_wheel(tmp_path_factory)])
    done = lpz(first, "plugin", "new", "my-proxy", "--out", str(home / "my-proxy"), "--json")
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)["files"]) == FILES
    wheel = build(home / "my-proxy", home / "wheel")
    return home / "my-proxy", fresh_python(home / "venv", [own_wheel(tmp_path_factory), wheel])


@pytest.mark.integration
def test_its_proxy_is_listed_and_scores(strangers: tuple[Path, Path], tmp_path: Path) -> None:
    _, python = strangers
    listed = {row["proxy"]: row for row in json.loads(lpz(python, "proxies", "--json").stdout)["proxies"]}
    assert listed["my_proxy"]["distribution"] == "my-proxy"
    assert listed["my_proxy"]["citation"]
    tiny_model("llama").config.save_pretrained(tmp_path)
    size = ("--batch-size", "2", "--seq-len", "16")
    done = lpz(python, "score", str(tmp_path), "--json", "-p", "my_proxy", "-p", "snip", *size)
    assert done.returncode == 0, done.stderr
    rows = {row["proxy"]: row["value"] for row in json.loads(done.stdout)["models"][0]["scores"]}
    assert 0 < rows["my_proxy"] < rows["snip"]  # a matrix's Frobenius norm is less than the sum of its entries' sizes


@pytest.mark.integration
def test_its_own_tests_pass(strangers: tuple[Path, Path]) -> None:
    package, python = strangers
    done = run(python, "-m", "pytest", str(package), "-v", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_it_conforms[my_proxy-leaves_no_trace] PASSED" in done.stdout
    assert "test_it_scores_every_tiny_model[bert] PASSED" in done.stdout


@pytest.mark.integration
def test_its_own_tests_fail_when_its_proxy_is_spoilt(strangers: tuple[Path, Path]) -> None:
    package, python = strangers
    (installed,) = python.parent.parent.glob("lib/python*/site-packages/my_proxy.py")
    sound = installed.read_text(encoding="utf-8")
    try:
        installed.write_text(sound.replace("return (W * G)", "return W.mul_(G)"), encoding="utf-8")
        done = run(python, "-m", "pytest", str(package), "-k", "gives_numbers", "-p", "no:cacheprovider")
    finally:
        installed.write_text(sound, encoding="utf-8")
    assert done.returncode == 1
    assert "2 failed" in done.stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("my proxy", "'my proxy'"),
        ("-proxy", "'-proxy'"),
        ("../proxy", "'../proxy'"),
        ("pröxy", "'pröxy'"),
        ("3-proxies", "letter"),
        ("class", "keyword"),
        ("snip", "proxy 'snip'"),
        ("torch", "distribution 'torch'"),
        ("yaml", "module 'yaml'"),
        ("graphlib", "module 'graphlib'"),
        ("builtin-proxies", "plugin 'builtin-proxies'"),
        ("Builtin.Zoo", "plugin 'builtin-zoo'"),
        ("LPZero_HF", "'lpzero_hf'"),
        ("lpz-nas", "'lpz_nas'"),
        ("huggingface.hub", "'huggingface_hub'"),
        ("a" * 300, "300 letters"),
    ],
)
def test_a_bad_name_is_refused(
    name: str, reason: str, lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = lpz("plugin", "new", "--", name)
    assert (code, out) == (2, "")
    assert reason in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-proxy").mkdir()
    code, _, err = lpz("plugin", "new", "my-proxy")
    assert code == 2
    assert "'my-proxy'" in err
    assert not list((tmp_path / "my-proxy").iterdir())


def test_people_are_told_what_was_written_and_what_is_next(
    lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = lpz("plugin", "new", "my-proxy")
    assert code == 0
    assert sorted(str(p.relative_to(tmp_path / "my-proxy")) for p in tmp_path.rglob("*") if p.is_file()) == FILES
    assert all(f"my-proxy/{name}\n" in out for name in FILES)
    assert "--proxy my_proxy" in out


@pytest.mark.parametrize("out", ["with space/it's", "-e", "$(touch here)"])
def test_the_command_that_is_printed_names_the_folder_in_a_shell(
    out: str, lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, _ = lpz("plugin", "new", "my-proxy", f"--out={out}")
    assert code == 0
    told = re.search("`(pip install .*)` tests it", printed)
    assert told is not None
    pip, install, editable, package, then, pytest_, folder = shlex.split(told[1])
    assert [pip, install, editable, then, pytest_] == ["pip", "install", "-e", "&&", "pytest"]
    assert package == f"{folder}[test]"
    assert not folder.startswith("-")
    assert (tmp_path / folder).samefile(tmp_path / out)


def test_a_folder_of_too_long_a_name_is_told_in_a_line(lpz: Lpz, tmp_path: Path) -> None:
    code, _, err = lpz("plugin", "new", "my-proxy", "--out", str(tmp_path / ("x" * 300)))
    assert (code, err.count("\n")) == (1, 1)
    assert "too long" in err
