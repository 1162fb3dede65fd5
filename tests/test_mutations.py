"""The list of mutations fits the code, and the command that tries them tells which were noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.mutations import Mutation, problems, read_list

ROOT = Path(__file__).parent.parent
TESTS = ("tests/nas/test_finding.py::test_the_front_is_what_nothing_smaller_beats",)
TRIED = """
import sys
from scripts.mutations import Mutation, run

file, tests = "plugins/lpz_nas/outcome.py", (sys.argv[1],)
tried = [
    Mutation("words", file, "The outcome of a search", "What came of a search", tests),
    Mutation("front", file, "or 0.0) > (front[-1]", "or 0.0) >= (front[-1]", tests),
    Mutation("broken", file, "def best(", "def best", tests),
    Mutation("nowhere", file, "def best(", "def best (", (sys.argv[1] + "_at_all",)),
]
run(tried, 1, lambda mutation, code, seconds, output: print(mutation.id, code))
"""


def test_every_mutation_fits_the_code() -> None:
    mutations = read_list()
    assert list(problems(mutations)) == []
    assert len(mutations) >= 70


def test_what_does_not_fit_the_code_is_told(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("a = 1\nb = 1\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_code.py").write_text("def test_it(): ...\n")

    def told(old: str, new: str, *tests: str) -> int:
        return len(list(problems([Mutation("one", "code.py", old, new, tests)], tmp_path)))

    assert told("a = 1", "a = 2", "tests/test_code.py::test_it[1]") == told("a", "c", "tests/test_code.py", "-v") == 0
    for old in ("1", "c = 1"):
        assert told(old, "2", "tests/test_code.py") == 1
    assert told("a = 1", "a = 1", "tests/test_code.py") == 1
    assert told("a = 1", "a = 2", "tests/test_code.py::test_other") == told("a = 1", "a = 2", "tests/none.py") == 1
    assert told("a = 1", "a = 2") == 1
    twice = [Mutation("one", "code.py", "a = 1", "a = 2", ("tests/test_code.py",))] * 2
    assert len(list(problems(twice, tmp_path))) == 1


@pytest.mark.slow
def test_a_mutation_is_killed_or_survives_or_has_no_test() -> None:
    done = subprocess.run([sys.executable, "-c", TRIED, *TESTS], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["words 0", "front 1", "broken 2", "nowhere 4"], done.stderr
