"""The examples of other tools' searches run as they are shipped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from lpz_nas import ProxyEvaluator, count

from lpzero_hf import Setting
from lpzero_hf.spaces.named import named_config
from tests.support.tools import needs
from tests.support.wheels import ROOT, build

pytestmark = pytest.mark.integration
EXAMPLES = ROOT / "examples"
SNIP = "sum(sum(product(abs(W), abs(G))))"
SOURCE = Path(__file__).read_text(encoding="utf-8")
Run = Callable[..., tuple[int, str, str]]
PIN = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)


def run(name: str, folder: Path, *arguments: str) -> str:
    """The standard output of an example."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(output: str) -> tuple[str, str, int]:
    """The best architecture that an example printed, its score and its parameters."""
    best = re.search(r"best.*: (tiny-gpt2:\S+)\nsynflow (\S+), ([\d,]+) parameters", output)
    assert best, output
    return best[1], best[2], int(best[3].replace(",", ""))


def check(output: str, limit: int) -> None:
    """What was printed is the score and the size of an architecture within the budget."""
    name, score, params = told(output)
    assert params <= limit
    config = named_config(name)
    assert config is not None
    assert count(config) == params
    assert f"{ProxyEvaluator('synflow', setting=Setting(4, 32)).evaluate(name):.6g}" == score


def test_optuna_searches_and_goes_on(tmp_path: Path) -> None:
    study = tmp_path / "study.sqlite"
    output = run("optuna_study.py", tmp_path, str(study))
    check(output, 600_000)
    front = [int(size.replace(",", "")) for size in re.findall(r"front: ([\d,]+) parameters", output)]
    assert front
    assert front == sorted(front)
    assert max(front) <= 600_000
    run("optuna_study.py", tmp_path, str(study))
    assert len(optuna.load_study(study_name=None, storage=f"sqlite:///{study}").trials) == 30


@pytest.mark.slow
def test_the_winner_under_budgets_beats_the_median_of_random_ones(tmp_path: Path) -> None:
    output = run("budget_search.py", tmp_path)
    winner = re.search(r"winner (\S+): loss ([\d.]+)", output)
    others = re.search(r"median loss ([\d.]+), best ([\d.]+)", output)
    assert winner
    assert others
    assert float(winner[2]) < float(others[1])


def test_ray_tune_searches(tmp_path: Path) -> None:
    check(run("ray_tune.py", tmp_path), 1_000_000)


def test_archai_asks_the_evaluator(tmp_path: Path) -> None:
    rows = [line.split() for line in run("archai_evaluator.py", tmp_path).splitlines()]
    scores = [float(score) for score, _ in rows]
    assert len(rows) == 5
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(ProxyEvaluator("synflow", setting=Setting(4, 32)).evaluate(rows[0][1]), rel=1e-5)


def test_syne_tune_searches_and_looks_up(tmp_path: Path) -> None:
    needs("syne_tune")
    output = run("syne_tune_search.py", tmp_path)
    check(output, 600_000)
    assert "validation loss" in output


def test_optunahub_s_problem_is_searched(tmp_path: Path) -> None:
    pytest.importorskip("optunahub", reason="needs the extra optunahub")
    optimum, *found = [float(number) for number in re.findall(r"\d+\.\d{4}", run("optunahub_problem.py", tmp_path))]
    assert len(found) == 2
    assert min(found) >= optimum


def test_modelopt_narrows_a_model(tmp_path: Path) -> None:
    needs("modelopt")
    output = run("modelopt_search.py", tmp_path)
    widths = [int(word) for word in output.splitlines()[-2].split()[2:]]
    assert len(widths) == 6
    assert max(widths) <= 512 > min(widths)


def test_neps_searches(tmp_path: Path) -> None:
    needs("neps")
    check(run("neps_search.py", tmp_path), 600_000)


def test_whittle_finds_a_front(tmp_path: Path) -> None:
    needs("whittle")
    front = [int(size.replace(",", "")) for size in re.findall(r"front: ([\d,]+)", run("whittle_search.py", tmp_path))]
    assert front == sorted(front)
    assert len(front) > 0
    assert max(front) <= 600_000


def test_archai_searches_by_an_exported_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lpz: Run) -> None:
    needs("archai")
    monkeypatch.chdir(tmp_path)
    assert lpz("export", SNIP, "--to", "plugin", "--name", "by-hand")[0] == 0
    zipfile.ZipFile(build(tmp_path / "lpz-by-hand", tmp_path)).extractall(tmp_path / "installed")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"), prepend=os.pathsep)
    output = run("archai_search.py", tmp_path, "by-hand")
    front = re.findall(r"front: ([\d,]+) parameters, by-hand (\S+), (\S+)", output)
    sizes = [int(size.replace(",", "")) for size, _, _ in front]
    scores = [float(score) for _, score, _ in front]
    assert len(front) > 1
    assert sizes == sorted(sizes)
    assert max(sizes) <= 600_000
    assert scores == sorted(scores)
    snip = ProxyEvaluator("snip", setting=Setting(4, 32))
    for (_, _, name), size, score in zip(front, sizes, scores, strict=True):
        assert count(named_config(name)) == size
        assert snip.evaluate(name) == pytest.approx(score, rel=1e-4)


def test_each_tool_of_ci_is_pinned_to_the_versions_that_the_page_tells() -> None:
    constraints = dict(PIN.findall((ROOT / "constraints.txt").read_text(encoding="utf-8")))
    page = (ROOT / "docs" / "how-to" / "nas-tools.md").read_text(encoding="utf-8")
    lists = sorted((ROOT / ".ci" / "tools").glob("*.txt"))
    assert {file.stem for file in lists} == set(re.findall(r'needs\("(\w+)"\)', SOURCE))
    for file in lists:
        pins = dict(PIN.findall(file.read_text(encoding="utf-8")))
        assert {name: constraints.get(name, version) for name, version in pins.items()} == pins
        tool = {"neps": "neural-pipeline-search", "modelopt": "nvidia-modelopt"}.get(file.stem, file.stem)
        (version,) = (found for name, found in pins.items() if name.replace("_", "-") == tool.replace("_", "-"))
        row = rf"^\| [^|]*\| {re.escape(version)}[ ,|][^\n]*\| in a folder of its own \|$"
        assert re.search(row, page, re.MULTILINE), f"the page has no such row of {file.stem} {version}"
