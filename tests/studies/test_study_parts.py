"""The parts that studies are made of: intervals over splits, fronts, ceilings, and searches without their scores."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from lpzero_hf.benchmarks.agreement import Agreement, Estimate, spearman
from lpzero_hf.benchmarks.benchmark import installed_benchmarks, load_benchmark
from lpzero_hf.benchmarks.grade import BASELINES, spaced
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.expressions.expression import parse
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.scoring.fitting import NARROWER
from lpzero_hf.scoring.run_plan import RunPlan
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.config import SearchConfig
from studies.markdown import pooled, table
from studies.proxies import grades
from studies.proxies.grades import FURTHER, FurtherGrades
from studies.proxies.noise import ceiling
from studies.proxies.pareto import front
from studies.search.searched import Searched, stack_of
from tests.support.trained import write_benchmark

FEW = ("snip", "nwot")


def test_the_interval_over_splits_adds_both_variances() -> None:
    apart = [Estimate(0.5, 0.5, 0.5), Estimate(0.7, 0.7, 0.7)]
    found = pooled(apart)
    assert found is not None
    assert found.value == pytest.approx(0.6)
    assert found.high - found.value == pytest.approx(1.96 * 0.1 * math.sqrt(2))
    wide = pooled([Estimate(0.6, 0.6 - 0.196, 0.6 + 0.196)] * 2)
    assert wide is not None
    assert wide.high - wide.value == pytest.approx(0.196)
    together = pooled([Estimate(0.5, 0.5 - 0.196, 0.5 + 0.196), Estimate(0.7, 0.7 - 0.196, 0.7 + 0.196)])
    assert together is not None
    assert together.high - together.value == pytest.approx(1.96 * math.sqrt(2 * 0.1**2 + 0.1**2))
    assert pooled([None]) is None


def test_a_front_holds_what_no_faster_one_matches() -> None:
    points = [(1.0, 0.5, "a"), (2.0, 0.4, "b"), (3.0, 0.9, "c"), (3.0, 0.8, "d"), (0.5, 0.1, "e")]
    assert [name for *_, name in front(points)] == ["e", "a", "c"]


def test_a_ceiling_falls_with_the_noise_and_is_what_a_knowing_proxy_gets() -> None:
    qualities = np.random.default_rng(0).normal(70, 4, 500)
    quiet, loud = ceiling(qualities, 0.4)[0], ceiling(qualities, 2.0)[0]
    assert quiet > 0.98 > loud
    # the correlation of normal truth with a noisy copy is the root of the share of true variance
    assert loud == pytest.approx(math.sqrt(1 - 4 / qualities.var()), abs=0.02)


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|--:|\n| 1 | 2 |"


@pytest.mark.integration
def test_a_search_is_kept_without_scores_and_its_numbers_are_those_of_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path))
    plan = SearchConfig(
        ("tiny-gpt2",), strategy="exhaustive", train=8, limit=14, splits=2, reduces=("sum",), setting=Setting(2, 8)
    )
    said: list[str] = []
    study = Searched("search-small", "Small", plan, ceiling=False)
    data = study.make(lambda what, done, total: said.append(what))
    benchmark = load_benchmark("tiny-gpt2")
    truth = [benchmark.target(entry) for entry in spaced(benchmark.trained(), 14)]
    stack = stack_of("tiny-gpt2", plan, lambda what, done, total: None)
    for split in data["splits"]:
        part = random.Random(split["seed"]).sample(range(14), 8)
        rest = sorted(set(range(14)) - set(part))
        winner = split["winner"]
        assert set(winner) == {"expressions", "orientations", "held_out"}
        scores = stack.score(parse(winner["expressions"][0])) * winner["orientations"][0]
        told = Agreement.from_dict(winner["held_out"]["tiny-gpt2"])
        assert told.spearman is not None
        assert told.spearman.value == pytest.approx(spearman(scores[rest].numpy(), [truth[i] for i in rest]))
        assert split["tops"]["1"]["tiny-gpt2"]["n"] == len(rest)
        assert max(point["fitness"] for point in split["pareto"]) == pytest.approx(split["fittest"])
    assert study.show({"search-small": data}).count("\n| 4") == 2  # a row for each seed
    assert any(what.startswith("search") for what in said)


# Grades of one more benchmark -----------------------------------------------------------------------------------


def test_a_further_benchmark_is_graded_with_the_baselines_and_says_what_has_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(grades, "executor_of", LocalExecutor)
    monkeypatch.setattr(
        grades, "installed_proxies", lambda plugins: {n: c for n, c in installed_proxies(plugins).items() if n in FEW}
    )
    monkeypatch.setattr(
        "lpzero_hf.scoring.evaluate.fitting",
        lambda model, batch, proxies, *_, **__: RunPlan(False, None, {p.name: "" for p in proxies if p.name == "snip"}),
    )
    losses = {f"d64.e32.k1-h1.i{inner}": 5 - inner / 1000 for inner in (64, 128, 192, 256)}
    study = FurtherGrades(write_benchmark(tmp_path / "made", losses))
    data = json.loads(json.dumps(study.make(lambda *event: None)))
    assert list(data["scores"]) == ["snip", "nwot", *BASELINES]
    shown = study.show({study.name: data})
    assert "| params | +1.000 [" in shown
    assert "| snip | — | — | — | — | 0 |" in shown
    assert f"`snip`: 4 have no score (failed: {NARROWER})." in shown
    assert "4 architectures, minibatch 16 x 8 tokens" in shown


def test_the_further_benchmarks_are_those_of_the_zoo_that_the_first_table_lacks() -> None:
    benchmarks = {study.benchmark for study in FURTHER} | set(grades.BENCHMARKS)
    assert benchmarks == set(installed_benchmarks(load_plugins()))
    assert [study.name for study in FURTHER] == ["tiny-lm-grades", "grades-gpt2-lm1b", "grades-gemstones"]
