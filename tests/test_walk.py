"""The walks in CONTRIBUTING.md, as they stand there, in a fresh environment and against a Hub on loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hub import running_hub
from tests.support.hub_state import OWNER, TOKEN, Hub
from tests.support.wheels import ROOT, fresh_python, own_wheel

pytestmark = pytest.mark.integration
SECTION = "## From `lpz plugin new` to `lpz score` and the Hub\n"


def walks() -> list[list[str]]:
    """The commands of each plain block in the section."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text[text.index(SECTION) + len(SECTION) :].split("\n## ")[0]
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [block.strip().splitlines() for language, block in fences if not language]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a stranger's shell, with a fresh environment on the path that holds this project's wheel."""
    home = tmp_path_factory.mktemp("walk")
    python = fresh_python(home / "venv", [own_wheel(tmp_path_factory)])
    pip = (
        python.parent / "pip"
    )  # that of the tests, which installs there; dependencies are there, and no index is asked
    pip.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pip --python "{python}" "$@"\n', encoding="utf-8")
    pip.chmod(0o755)
    pytest_ = python.parent / "pytest"
    pytest_.write_text(f'#!/bin/sh\nexec "{python}" -m pytest -p no:cacheprovider "$@"\n', encoding="utf-8")
    pytest_.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV", "PYTEST", "HF_"))}
    return kept | {
        "PATH": f"{python.parent}:{os.environ['PATH']}", "HF_HOME": str(home / "hf"), "HF_TOKEN": TOKEN,
        "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0",  # pip reads 0 as: no isolation
    }  # fmt: skip


def walk(commands: list[str], folder: Path, variables: dict[str, str], hub: Hub) -> list[str]:
    """What each command prints; every one must succeed."""
    printed = []
    for command in commands:
        done = subprocess.run(
            command.replace("YOU", OWNER), shell=True, cwd=folder, capture_output=True, text=True,
            env=variables | {"HF_ENDPOINT": hub.url},
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        printed.append(done.stdout)
    return printed


def test_a_stranger_gets_from_a_new_package_to_a_score_and_from_an_expression_to_the_hub(
    environment: dict[str, str], tmp_path: Path
) -> None:
    package, expression = walks()
    with running_hub() as hub:
        _, _, tested, scored = walk(package, tmp_path, environment, hub)
        assert re.search(r"\d+ passed", tested)
        assert re.search(r"my_proxy +│ +[0-9.e+]+", scored)
        _, from_file, pushed, from_hub = walk(expression, tmp_path, environment, hub)
        assert f"{OWNER}/my-expression" in pushed
        assert re.search(r"my-expression +│ +[0-9.e+-]+", from_file)
        assert from_hub == from_file
        assert list(hub.repositories) == [f"{OWNER}/my-expression"]
