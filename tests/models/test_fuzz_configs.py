"""Whatever stands in a config.json, it is counted and planned, or refused by an error of the library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 2 * 2**30  # bytes of memory


def run(first: int, count: int) -> list[dict[str, object]]:
    """What happens to the configurations of `count` seeds, in a process of their own."""
    command = [sys.executable, "-m", "tests.support.fuzzed_configs", str(first), str(count)]
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{rows[-1:]} {done.stderr[-500:]}"
    return [row for row in rows if "seed" in row]


def check(rows: list[dict[str, object]], count: int) -> None:
    assert len(rows) == count
    assert [row for row in rows if "raised" in row] == []
    assert [row for row in rows if "\n" in str(row["outcome"])] == []
    assert max(int(str(row["peak"])) for row in rows) < MOST
    assert any("params ok" in str(row["outcome"]) for row in rows)
    assert any("ModelError" in str(row["outcome"]) for row in rows)


@pytest.mark.integration
def test_a_few_mutated_configurations_are_scored_or_refused() -> None:
    check(run(0, 25), 25)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 2000, 250))
def test_mutated_configurations_are_scored_or_refused(first: int) -> None:
    check(run(first, 250), 250)
