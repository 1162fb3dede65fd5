"""Tables and plots of `lpz search` and `lpz bench eval`: of one split, of tests, and which way is better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lpz_cli.plots import scatter

from lpzero_hf import Setting, grade, load_benchmark
from lpzero_hf.benchmarks.grade import BASELINES
from tests.support.searches import LOSSES, NAMES, OPTIONS, few_resamples, write
from tests.support.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
BRIEF = ("--strategy", "random", "--iterations", "4", "--population", "4", "--train", "4", "--within", "2", *OPTIONS)


@pytest.mark.integration
def test_one_split_has_no_deviation_and_a_test_has_baselines(
    lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("one"), LOSSES[:7])
    others = [name.replace("e32", "e64") for name in NAMES[:6]]
    write_benchmark(Path("two"), dict(zip(others, LOSSES[5:], strict=False)))
    with few_resamples():
        code, out, err = lpz("search", "one", *BRIEF, "--test", "two")
        assert code == 0, err
        assert "±" not in out
        assert "of one split" in out
        rows = [line.split("│")[1:3] for line in out.splitlines() if line.startswith("│ two")]
        assert {"winner", *BASELINES} == {row[1].strip() for row in rows}
        code, out, err = lpz("search", "one", *BRIEF, "--splits", "2")
        assert code == 0, err
        assert " ± " in out


def test_points_rise_where_rho_is_positive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plots")
    losses = dict(zip(NAMES[:7], LOSSES, strict=False))
    benchmark = load_benchmark(write_benchmark(tmp_path / "b", losses))
    report = grade(benchmark, "num_layers", Setting(2, 8))
    figures: list[Any] = []
    monkeypatch.setattr(scatter, "save", lambda figure, file: figures.append(figure) or file)
    scatter.draw(report, benchmark, tmp_path)
    assert len(figures) == len(report.grades) + 1
    for axes in (axes for figure in figures for axes in figure.axes):
        assert axes.yaxis_inverted()  # a lower loss is better, and above
        assert "lower is better" in axes.get_ylabel()
