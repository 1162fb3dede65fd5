"""The study of whole commands: time, memory, failures, several versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from studies.cost import real_models
from studies.cost.real_models import CASES, SHAPES, joined, measure, section, write_shapes


def run(code: str, limit: float = 60) -> dict[str, Any]:
    return measure([sys.executable, "-c", code], limit, os.environ)


def test_a_command_is_measured_in_a_process_of_its_own() -> None:
    small, large = run("pass"), run("x = bytearray(600 * 2**20); import time; time.sleep(0.5)")
    assert large["peak_bytes"] >= 600 * 2**20
    assert large["seconds"] > 0.5
    assert not small["failed"]
    assert not large["failed"]


def test_a_command_without_an_answer_says_why() -> None:
    assert run("import sys; print('a\\nit does not fit', file=sys.stderr); sys.exit(2)")["failed"] == "it does not fit"
    assert run("import sys; sys.exit(2)")["failed"] == "exit 2"
    slow = run("import time; time.sleep(60)", limit=0.2)
    assert slow["failed"] == "no answer in 0 s"
    assert slow["seconds"] < 30


def test_shapes_are_configurations_of_the_published_sizes(tmp_path: Path) -> None:
    called = write_shapes(tmp_path)
    assert called.keys() == SHAPES.keys() <= {model for model, _ in CASES}
    for file in called.values():
        config = AutoConfig.from_pretrained(Path(file).parent)
        assert config.architectures[0].startswith(type(config).__name__.removesuffix("Config"))


def rows(seconds: float, failed: str = "") -> list[dict[str, Any]]:
    return [
        {
            "model": model, "options": " ".join(options), "failed": failed, "seconds": seconds, "peak_bytes": 2**30,
            "times": [{}] * 3,
        }
        for model, options in CASES
    ]  # fmt: skip


def one_run(version: str, seconds: float, failed: str = "") -> dict[str, Any]:
    return {"version": version, "machine": "2 cores", "rows": rows(seconds, failed)}


def test_versions_stand_side_by_side_and_a_new_run_replaces_its_own() -> None:
    document = joined(joined(None, one_run("0.2.0", 9.0)), one_run("0.1.0", 50.0, "it does not fit"))
    document = joined(document, one_run("0.2.0", 7.25))
    assert [made["version"] for made in document["runs"]] == ["0.1.0", "0.2.0"]
    lines = [line for line in section(document).splitlines() if line.startswith("| 0.")]
    assert lines[:2] == [
        "| 0.1.0 | `lpz score gpt2-variant` | it does not fit | 3 | 50.0 | 1.0 |",
        "| 0.2.0 | `lpz score gpt2-variant` | yes | 3 | 7.2 | 1.0 |",
    ]
    assert len(lines) == 2 * len(CASES)
    assert "`lpz score SmolLM2-135M --proxy all`" in section(document)


@pytest.mark.integration
def test_the_study_writes_its_file(tmp_path: Path) -> None:
    program = tmp_path / "lpz"
    program.write_text("#!/bin/sh\ntest $1 = --version && echo lpzero-hf 9.9\nexit 0\n")
    program.chmod(0o755)
    file = tmp_path / "real_models.json"
    command = [sys.executable, "-m", "studies.cost.real_models", "--lpz", str(program), "--repeats", "1"]
    for _ in range(2):
        done = subprocess.run([*command, "--json", str(file)], check=True, capture_output=True, text=True)
        assert "| 9.9 | `lpz score gpt2-variant` | yes | 1 |" in done.stdout
    made = real_models.read_json(file, "")
    assert [one["version"] for one in made["runs"]] == ["9.9"]
