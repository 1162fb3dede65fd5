"""A winner leaves the house: file, wheel in a fresh environment, copy on the Hub and raw expression score alike."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lpzero_hf import search
from lpzero_hf.artifacts.artifact import ARTIFACT_FILE, read_artifact
from lpzero_hf.packaging.artifact_template import package_of
from lpzero_hf.packaging.package import write_package
from lpzero_hf.scoring.setting import Setting
from tests.support.hub import running_hub
from tests.support.hub_state import TOKEN
from tests.support.wheels import build, fresh_python, own_wheel, run

pytestmark = pytest.mark.integration
Lpz = Callable[..., tuple[int, str, str]]
NAMES = {"winner": "found-here", "ensemble": "found-here-together"}
MODEL = "tiny-gpt2:d64.e32.k1-h2.i64"
SCORE = f"""
import sys
from lpzero_hf import load_model, load_proxy, minibatch
model = load_model({MODEL!r}).model
batch = minibatch(model, batch_size=2, seq_len=8)
print(*(load_proxy(source)(model, batch).hex() for source in sys.argv[1:]))
"""


class Strangers:
    """A fresh environment with three wheels, and the files that were exported."""

    def __init__(self, home: Path, python: Path) -> None:
        self.home, self.python = home, python

    def run(self, *command: str, **variables: str) -> str:
        """What a command of the environment prints."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV", "PYTEST", "HF_"))}
        program = str(self.python.parent / command[0])
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, cwd=self.home, env=environment | variables
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Strangers:
    """An environment in which what a real search has found is installed from wheels."""
    home = tmp_path_factory.mktemp("strangers")
    search(
        "tiny-gpt2", out=home / "run", limit=16, train=10, iterations=40, population=20, seed=7,
        setting=Setting(batch_size=2, seq_len=8),
    )  # fmt: skip
    from lpz_cli.main import run as lpz

    for which, name in NAMES.items():
        export = ["export", str(home / "run"), "--name", name, "--which", which]
        assert lpz([*export, "--out", str(home / f"{which}.json")]) == 0
        assert lpz([*export, "--to", "plugin", "--out", str(home / which)]) == 0
    wheels = [build(home / which, home / f"{which}-wheel") for which in NAMES]
    return Strangers(home, fresh_python(home / "venv", [own_wheel(tmp_path_factory), *wheels]))


def test_plugin_file_hub_copy_and_raw_expression_score_alike(strangers: Strangers) -> None:
    with running_hub() as hub:
        online = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(strangers.home / "hf")}
        for which, name in NAMES.items():
            artifact = read_artifact(strangers.home / f"{which}.json")
            assert len(artifact.members) == (1 if which == "winner" else 5)
            pushed = json.loads(strangers.run("lpz", "push", f"{which}.json", f"someone/{which}", "--json", **online))
            sources = [name, f"{which}.json", f"someone/{which}@{pushed['commit']}", *artifact.expressions]
            told = strangers.run("python", "-c", SCORE, *sources, **online).split()
            plugin, file, copy, *raw = (float.fromhex(number) for number in told)
            assert plugin == file == copy
            if which == "winner":
                assert raw == [artifact.orientations[0] * plugin]
            size = ("--batch-size", "2", "--seq-len", "8", "--json")
            shown = json.loads(strangers.run("lpz", "score", MODEL, "-p", f"hub:someone/{which}", *size, **online))
            assert [row["value"] for row in shown["models"][0]["scores"]] == [plugin]


def test_the_plugins_are_listed_with_what_they_are(strangers: Strangers) -> None:
    listed = {row["proxy"]: row for row in json.loads(strangers.run("lpz", "proxies", "--json"))["proxies"]}
    for which, name in NAMES.items():
        assert listed[name]["distribution"] == f"lpz-{name}"
        assert listed[name]["better"] == "higher"
        assert "tiny-gpt2" in listed[name]["citation"]
        for expression in read_artifact(strangers.home / f"{which}.json").expressions:
            assert expression in listed[name]["formula"]


def test_the_packages_own_tests_pass_where_it_is_installed(strangers: Strangers) -> None:
    done = run(strangers.python, "-m", "pytest", str(strangers.home / "ensemble"), "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_the_package_is_complete_and_its_card_tells_the_numbers(strangers: Strangers) -> None:
    package = strangers.home / "winner"
    files = {str(file.relative_to(package)) for file in package.rglob("*") if file.is_file()}
    assert files == {
        "README.md", f"lpz_found_here/{ARTIFACT_FILE}", "lpz_found_here/__init__.py",
        "pyproject.toml", "tests/test_lpz_found_here.py",
    }  # fmt: skip
    artifact = read_artifact(package / "lpz_found_here" / ARTIFACT_FILE)
    assert artifact == read_artifact(strangers.home / "winner.json")
    rho = artifact.provenance["held_out"]["tiny-gpt2"]["spearman"]
    assert f"{rho['value']:+.3f} [{rho['low']:+.3f}, {rho['high']:+.3f}]" in (package / "README.md").read_text()


def test_a_package_that_is_there_is_not_written_over(strangers: Strangers, lpz: Lpz) -> None:
    export = ("export", str(strangers.home / "run"), "--to", "plugin")
    code, _, err = lpz(*export, "--out", str(strangers.home / "winner"))
    assert code == 2
    assert "exists" in err


@pytest.mark.parametrize(
    ("name", "told"),
    [("snip", "'snip'"), ("cli", "'lpz_cli'")],
)
def test_a_package_that_would_replace_something_is_not_written(
    strangers: Strangers, lpz: Lpz, tmp_path: Path, name: str, told: str
) -> None:
    run = str(strangers.home / "run")
    code, _, err = lpz("export", run, "--to", "plugin", "--name", name, "--out", str(tmp_path / "package"))
    assert code == 2
    assert told in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["found-here", "found_here", "found.here.2"])
def test_every_name_of_a_proxy_makes_a_package(strangers: Strangers, tmp_path: Path, name: str) -> None:
    package = package_of(replace(read_artifact(strangers.home / "winner.json"), name=name))
    write_package(tmp_path / "package", package)
    assert package.module.isidentifier()
    assert compile(package.texts()[f"{package.module}/__init__.py"], "module", "exec")
    assert compile(package.test, "test", "exec")
