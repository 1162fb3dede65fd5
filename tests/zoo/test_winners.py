"""The winners that are built in: what they say of themselves holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lpz_zoo import WINNERS as SHIPPED
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types
from transformers import PreTrainedModel

from lpzero_hf import grade, minibatch, score
from lpzero_hf.artifacts.artifact import parse_artifact
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.held_out import searched_keys
from lpzero_hf.errors import LpzError, PluginWarning
from lpzero_hf.executors.process import ProcessExecutor
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.consensus_proxy import ConsensusProxy
from lpzero_hf.proxies.resolve import find_proxy, installed_proxies
from lpzero_hf.proxies.searched_proxy import SearchedProxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.spaces.named import load_space

SEARCHED_ON = {
    "lpzero-flexibert": ["flexibert"],
    "lpzero-gpt2": ["gpt2-wt103"],
    "lpzero-any-0.1.0": ["flexibert", "gpt2-wt103"],
}


WINNERS = [name for name in SHIPPED if name != "lpzero-any"]  # which are expressions
RUN = Path(__file__).parents[2] / "studies" / "runs" / "winners.json"
SHALLOW, DEEP = "d64.e128.k1-h2.i1680-h8.i868", (
    "d128.e256.k2-h4.i766-h4.i2002-h4.i1582-h8.i1137-h8.i1033-h4.i720-h8.i1842-h8.i1695-h4.i748"
)  # fmt: skip
MIXED, FOUR = "h128-dft.a2.f512.n1-conv5.a4.f1024.n3", (
    "h128-wma.a4.f512.n3-wma.a2.f512.n1-dft.a4.f1024.n1-sdp.a2.f512.n1"
)  # fmt: skip
SAMPLE = [  # of the scores that the agreement in the artifacts was computed from
    ("lpzero-flexibert", "flexibert", {MIXED: 36561.0081, FOUR: 84075.6778}),
    ("lpzero-any-0.1.0", "flexibert", {MIXED: 12557.8141, FOUR: 23947.8431}),
    ("lpzero-gpt2", "gpt2", {SHALLOW: 0.494588265, DEEP: 8.41672927}),
    ("lpzero-any-0.1.0", "gpt2", {SHALLOW: 4276.82687, DEEP: 33818.5972}),
]


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


@pytest.mark.parametrize(("name", "space", "expected"), SAMPLE)
def test_a_winner_scores_architectures_as_when_it_was_found(name: str, space: str, expected: dict[str, float]) -> None:
    home, told = load_space(space), winner(name).artifact.provenance["minibatch"]
    configs = {text: home.config(home.parse(text)) for text in expected}
    setting = Setting(told["batch_size"], told["seq_len"], seed=told["seed"], dtype=told["dtype"])
    rows = evaluate(configs, [winner(name)], setting)
    assert {text: row[name]["value"] for text, row in rows.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", WINNERS)
def test_the_scores_of_a_winner_rank_as_its_artifact_says(name: str) -> None:
    """With the two above, on the whole benchmark: the scores are on record, and some are computed anew."""
    found = json.loads(RUN.read_text(encoding="utf-8"))["data"]
    for benchmark, expected in winner(name).artifact.provenance["held_out"].items():
        home = load_benchmark(benchmark)
        try:
            entries = home.trained()
        except LpzError as error:
            pytest.skip(str(error))
        goodness = {entry.key: home.target(entry) for entry in entries}
        rows = zip(found[benchmark]["architectures"], found[benchmark]["scores"][name], strict=True)
        scored = {key: score for key, score in rows if score is not None}
        assert len(scored) == expected["n"]
        rho = stats.spearmanr(list(scored.values()), [goodness[key] for key in scored]).statistic
        assert rho == pytest.approx(expected["spearman"]["value"], abs=1e-4)
        texts = {home.space.text(entry.architecture): entry.key for entry in entries}
        for sampled, space, values in SAMPLE:
            if sampled == name and space == home.space.name:
                assert {text: scored[texts[text]] for text in values} == values


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
        home = load_benchmark(benchmark, plugins)  # without the duplicates of what it was searched on
        assert agreement.n == len(home.trained()) - len(searched_keys(winner(name), home, plugins)) <= expected["n"]
        assert agreement.spearman.value == pytest.approx(expected["spearman"]["value"], abs=2e-3)


def test_the_winner_for_any_model_is_the_consensus_of_all_public_benchmarks(gpt2: PreTrainedModel) -> None:
    """Its members are those that the study has chosen on all five."""
    run = json.loads((RUN.parent / "consensus.json").read_text())["data"]
    (chosen,) = [row["found"] for row in run["rows"] if row["name"] == "consensus: on all"]
    proxy = find_proxy("lpzero-any")
    assert isinstance(proxy, ConsensusProxy)
    assert all(proxy.formula == text for ((text, _),) in chosen.values())
    assert sorted(proxy.trained_on) == sorted(run["benchmarks"])
    batch = minibatch(gpt2, batch_size=2, seq_len=16)
    rows = score(gpt2, batch, ["lpzero-any", proxy.formula])
    assert rows["lpzero-any"].require() == rows[proxy.formula].require()


def test_without_the_plugin_of_its_members_a_winner_is_left_out_and_said_so() -> None:
    with pytest.warns(PluginWarning, match="'lpzero-any' needs proxies"):
        offered = installed_proxies(load_plugins(["builtin-proxies"]))
    assert "lpzero-any" not in offered
    assert "lpzero-gpt2" in offered
