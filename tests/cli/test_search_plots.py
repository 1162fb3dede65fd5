"""The figures of a search."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.commands import overriding
from tests.support.searches import few_resamples

pytest.importorskip("matplotlib")

Lpz = Callable[..., tuple[int, str, str]]
BRIEF = ("search", "tiny-gpt2", "--limit", "12", "--train", "8", "--batch-size", "2", "--seq-len", "8")
HERE = ("--workers", "1", "--plots")


def drawn(run: Path) -> set[str]:
    """The names of the figures of a run, each a PNG that shows something."""
    from matplotlib.image import imread

    for file in (run / "plots").iterdir():
        assert file.read_bytes().startswith(b"\x89PNG")
        pixels = imread(file)
        assert 700 < pixels.shape[1] < 1200
        assert 300 < pixels.shape[0] < 900
        assert 0.01 < (pixels[..., :3].mean(-1) < 0.9).mean() < 0.5  # neither empty nor cluttered
    return {file.name for file in (run / "plots").iterdir()}


@pytest.fixture(autouse=True)
def short_searches() -> Iterator[None]:
    """Searches take few resamples."""
    with few_resamples():
        yield


@pytest.mark.integration
def test_a_search_draws_progress_front_and_held_out_ranking(lpz: Lpz, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--iterations", "20", "--out", str(run), *HERE)
    assert lpz(*BRIEF, *options)[0] == 0
    names = {"progress.png", "pareto.png", "held_out_tiny-gpt2.png"}
    assert drawn(run) == names
    shutil.rmtree(run / "plots")
    assert lpz(*BRIEF, *options, "--resume")[0] == 0
    assert drawn(run) == names


def test_an_exhaustive_search_on_all_architectures_holds_out_none(lpz: Lpz, tmp_path: Path) -> None:
    options = ("--strategy", "exhaustive", "--train", "0", "--out", str(tmp_path), *HERE)
    assert lpz(*overriding(tuple(BRIEF), *options))[0] == 0
    assert drawn(tmp_path) == {"progress.png", "pareto.png"}
