"""The score source of stored statistics: where they are kept, what is too large, and what a search makes of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from lpzero_hf import search
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.errors import LpzError
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching import stored_scores
from lpzero_hf.searching.direct_scores import DirectScores
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.run_folder import read_history
from lpzero_hf.searching.stored_scores import StoredScores, plan_store

SETTING = Setting(2, 8)
EXPRESSIONS = [ExpressionSpace((2, 2)).draw(random.Random(seed)) for seed in range(12)]


@pytest.fixture(scope="module")
def direct() -> DirectScores:
    """Three architectures of tiny-gpt2."""
    benchmark = load_benchmark("tiny-gpt2", load_plugins())
    entries = benchmark.trained()[:60:20]
    return DirectScores(benchmark.configs(entries), SETTING, load_plugins())


@pytest.mark.filterwarnings("ignore")
def test_a_part_of_the_models_is_stored_and_scores_as_passes_do(direct: DirectScores) -> None:
    part = direct.part([2, 0])
    assert isinstance(part, StoredScores)
    made = part.scores(EXPRESSIONS)
    torch.testing.assert_close(made, direct.scores(EXPRESSIONS)[:, [2, 0]], rtol=1e-4, atol=1e-6, equal_nan=True)
    assert torch.equal(part.part([1]).scores(EXPRESSIONS).nan_to_num(), made[:, [1]].nan_to_num())


def test_the_estimate_is_what_is_kept_within_a_factor_of_two(direct: DirectScores) -> None:
    source = StoredScores(direct.configs, SETTING, load_plugins())
    plan = plan_store(list(direct.configs.values()), SETTING, load_plugins(), cache_folder())
    held = sum(load().nbytes for sites in source.store.sites.values() for load in sites.load)
    assert held / 2 < plan.bytes < held * 2


def test_what_does_not_fit_in_memory_is_read_from_files_that_are_deleted(
    direct: DirectScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = StoredScores(direct.configs, SETTING, load_plugins()).scores(EXPRESSIONS)
    monkeypatch.setattr(stored_scores, "available_bytes", lambda device: 1000)
    told: list[str] = []
    source = StoredScores(direct.configs, SETTING, load_plugins(), progress=lambda what, *_: told.append(what))
    assert torch.equal(source.scores(EXPRESSIONS).nan_to_num(), expected.nan_to_num())
    folder = cache_folder() / "store"
    assert len(list(folder.glob("*/*.safetensors"))) == 3
    assert len(told) == 4
    assert "memory-mapped" in told[0]
    source.close()
    assert not list(folder.iterdir())


def test_what_fits_nowhere_is_refused_before_anything_is_captured(
    direct: DirectScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_scores, "available_bytes", lambda device: 1000)
    monkeypatch.setattr(stored_scores, "free_disk", lambda folder: 1000)
    told: list[str] = []
    source = StoredScores(direct.configs, SETTING, load_plugins(), progress=lambda what, *_: told.append(what))
    with pytest.raises(LpzError, match="neither in memory") as refused:
        source.scores(EXPRESSIONS)
    assert "`train=`" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not told


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
def test_four_operations_are_searched_in_generations(tmp_path: Path) -> None:
    found = search("tiny-gpt2", unary=(4, 4), train=4, limit=5, iterations=60, batch=30, setting=SETTING, out=tmp_path)
    (history,) = read_history(tmp_path)
    assert [line["evaluated"] for line in history] == [30, 30]
    (split,) = found.splits
    assert split.evaluated == 60
    assert split.winner.train["tiny-gpt2"].n == 4
