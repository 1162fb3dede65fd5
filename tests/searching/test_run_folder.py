"""A search goes on in its folder, wherever it stopped, as if it had not: every line of the history, and every count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf import Setting, search
from lpzero_hf.searching import search as module
from lpzero_hf.searching.run_folder import read_history
from tests.support.searches import timeless, write

LONG: dict[str, Any] = {"setting": Setting(2, 8), "iterations": 60, "population": 12, "train": 8, "reduces": ("sum",)}


class Stopped(Exception):
    """The process is gone."""


def stopping(at: int) -> Any:
    """A progress function that stops a search before it writes its line for an iteration."""

    def progress(what: str, done: int, total: int, best: float | None) -> None:
        if what == "search" and done == at:
            raise Stopped

    return progress


@pytest.mark.integration
@pytest.mark.parametrize("seed", [42, pytest.param(46, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "changes",
    [{"preset": "paper"}, {"batch": 1}, {"strategy": "random"}, {"strategy": "exhaustive", "aggregates": ("sum",)}],
    ids=["evolution", "generations", "random", "exhaustive"],
)
def test_a_search_that_stops_anywhere_goes_on_in_its_folder(
    changes: dict[str, Any], seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, config = write(tmp_path / "made"), LONG | changes | {"seed": seed}
    whole = timeless(search(made, out=tmp_path / "whole", **config).to_json())
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    resume = False
    for at in range(3, 72, 7):
        try:
            search(made, out=tmp_path / "run", resume=resume, progress=stopping(at), **config)
        except Stopped:
            resume = True
    again = timeless(search(made, out=tmp_path / "run", resume=True, **config).to_json())
    assert again == whole
    assert read_history(tmp_path / "run") == read_history(tmp_path / "whole")
    states = [json.loads((tmp_path / name / "split-00/checkpoint.json").read_text()) for name in ("run", "whole")]
    for state in states:
        state.pop("seconds")
    assert states[0] == states[1]
