"""The winners that are built in: what they say of themselves holds."""

from __future__ import annotations

import pytest
import torch
from lpz_zoo import WINNERS
from transformers import PreTrainedModel

from lpzero_hf import grade, score
from lpzero_hf.artifacts.artifact import parse_artifact
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.errors import LpzError
from lpzero_hf.executors.process import ProcessExecutor
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import find_proxy
from lpzero_hf.proxies.searched_proxy import SearchedProxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.setting import Setting

SEARCHED_ON = {
    "lpzero-flexibert": ["flexibert"],
    "lpzero-gpt2": ["gpt2-wt103"],
    "lpzero-any": ["flexibert", "gpt2-wt103"],
}


def winner(name: str) -> SearchedProxy:
    proxy = find_proxy(name)
    assert isinstance(proxy, SearchedProxy)
    return proxy


@pytest.mark.parametrize("name", WINNERS)
def test_a_winner_comes_from_its_artifact(name: str) -> None:
    artifact = winner(name).artifact
    assert artifact.name == name
    assert parse_artifact(artifact.text) == artifact
    told = artifact.provenance
    assert told["benchmarks"] == SEARCHED_ON[name]
    assert (told["strategy"], told["split"]["number"], told["seed"]) == ("exhaustive", 0, 42)
    for benchmark in told["benchmarks"]:
        assert len(told["trained_on"][benchmark]) == 50
        assert told["held_out"][benchmark]["n"] == {"flexibert": 450, "gpt2-wt103": 150}[benchmark]


@pytest.mark.parametrize("name", WINNERS)
def test_a_winner_scores_as_its_expression_with_higher_for_better(
    name: str, gpt2: PreTrainedModel, batch: dict[str, torch.Tensor]
) -> None:
    artifact = winner(name).artifact
    (expression,), (orientation,) = artifact.expressions, artifact.orientations
    rows = score(gpt2, batch, [name, expression])
    assert rows[name].require() == orientation * rows[expression].require()


@pytest.mark.slow
@pytest.mark.parametrize("name", WINNERS)
def test_a_winner_ranks_the_held_out_architectures_as_its_artifact_says(name: str) -> None:
    plugins, told = load_plugins(), winner(name).artifact.provenance
    minibatch = told["minibatch"]
    setting = Setting(batch_size=minibatch["batch_size"], seq_len=minibatch["seq_len"], seed=minibatch["seed"])
    for benchmark, expected in told["held_out"].items():
        try:
            load_benchmark(benchmark, plugins).trained()
        except LpzError as error:
            pytest.skip(str(error))
        report = grade(
            load_benchmark(benchmark, plugins), name, setting, cache=ScoreCache(), executor=ProcessExecutor(2)
        )
        agreement = next(one.agreement for one in report.grades if one.proxy == name)
        assert agreement is not None
        assert agreement.spearman is not None
        assert agreement.n == expected["n"]
        assert agreement.spearman.value == pytest.approx(expected["spearman"]["value"], abs=2e-3)
