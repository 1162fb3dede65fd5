"""What is said where scores of several models mean different things."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import pytest
from lpz_nas import Budget, explore, find_architecture
from transformers import BertModel

from lpzero_hf import Setting, benchmark_from_table, grade, load_proxy, minibatch, rank, search
from lpzero_hf.benchmarks.grade import Report
from lpzero_hf.errors import ComparisonWarning, ModelWarning
from lpzero_hf.scoring.comparability import ModelFacts, differences, facts_of
from lpzero_hf.scoring.seed_spread import Spread, beyond_seeds, spread_of
from tests.support.families import tiny_model

ONE = ModelFacts("one", "causal", 4096, {"initializer_range": 0.02}, (4, 64))
SMALL = Setting(2, 8)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (replace(ONE, name="b", shape=(4, 128)), "4 x 128 tokens: b"),
        (replace(ONE, name="b", shape=(2, 64)), "2 x 64 tokens: b"),
        (replace(ONE, name="b", objective="masked"), "hidden tokens: b"),
        (replace(ONE, name="b", objective="other"), "no loss"),
        (replace(ONE, name="b", vocabulary=50_257), "50,257"),
        (replace(ONE, name="b", initial={"initializer_range": 0.1}), "initializer_range 0.1: b"),
        (replace(ONE, name="b", initial={"initializer_factor": 1.0}), "initializer_factor 1: b"),
    ],
)
def test_each_difference_is_one_sentence(other: ModelFacts, told: str) -> None:
    (sentence,) = differences([ONE, other])
    assert told in sentence
    assert differences([ONE, replace(ONE, name="b")]) == []


def test_what_a_model_lacks_is_no_difference() -> None:
    assert differences([ONE, replace(ONE, shape=None, initial={})]) == []
    many = [replace(ONE, name=f"m{i}", initial={"initializer_range": i / 100}) for i in range(1, 8)]
    (sentence,) = differences(many)
    assert "and 4 more" in sentence


def test_facts_are_those_of_the_model() -> None:
    facts = facts_of("b", tiny_model("bert"), (2, 8))
    assert (facts.objective, facts.initial["initializer_range"]) == ("masked", 0.02)
    assert facts_of("b", tiny_model("bert"), drawn=False).initial == {}


def test_rank_warns_of_configurations_that_are_not_alike() -> None:
    config = tiny_model("gpt2").config
    other = copy.deepcopy(config)
    other.initializer_range, other.vocab_size = 0.1, config.vocab_size + 8
    with pytest.warns(ComparisonWarning) as found:
        rank({"a": config, "b": other, "c": tiny_model("bert").config}, ["params"], setting=SMALL)
    assert len(found) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error", ComparisonWarning)
        rank("tiny-gpt2", ["params"], n=2, setting=SMALL)
        other.vocab_size = config.vocab_size
        rank({"a": config, "b": other}, ["params"], setting=replace(SMALL, init_std=0.02))


def test_a_difference_is_held_against_the_deviation_of_seeds() -> None:
    one = spread_of([1.0, 1.2, 0.8])
    assert one is not None
    assert (one.mean, one.sd) == (pytest.approx(1.0), pytest.approx(0.2))
    apart = 2 * 0.2 * 2**0.5
    assert not beyond_seeds(one, replace(one, mean=1 + 0.99 * apart))
    assert beyond_seeds(one, replace(one, mean=1 - 1.01 * apart))
    assert not beyond_seeds(Spread(1.0, 0.0, ()), Spread(1.0, 0.0, ()))
    assert spread_of([1.0]) is spread_of([1.0, None]) is None


MIXED = [
    {"model": model, "loss": loss} for model, loss in (("gpt2-variant", 3.0), ("bert-mini", 2.0), ("llama-mini", 1))
]
SETTING = {"setting": SMALL}


@pytest.mark.parametrize(
    "work",
    [
        lambda benchmark, out: grade(benchmark, "params", **SETTING),
        lambda benchmark, out: search(benchmark, strategy="random", iterations=10, train=3, **SETTING),
        lambda benchmark, out: explore(None, "proxy:l2_norm", among=benchmark, out=out, **SETTING),
        lambda benchmark, out: find_architecture(None, "l2_norm", Budget(10**9), among=benchmark, out=out, **SETTING),
    ],
    ids=["grade", "search", "explore", "find_architecture"],
)
def test_whatever_compares_architectures_warns_of_those_that_are_not_alike(work, tmp_path) -> None:
    with pytest.warns(ComparisonWarning) as found:
        result = work(benchmark_from_table(MIXED, "loss"), tmp_path / "out")
    told = [str(one.message) for one in found if issubclass(one.category, ComparisonWarning)]
    assert len(told) == 2  # each once
    assert "objectives" in told[0]
    assert "vocabularies" in told[1]
    assert {one.filename for one in found} == {__file__}
    if isinstance(result, Report):
        assert list(result.warnings) == result.to_dict()["warnings"] == told
        assert "vocabularies differ" in result._repr_html_()


def test_architectures_that_are_alike_are_compared_without_a_warning(tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ComparisonWarning)
        grade("tiny-gpt2", "params", limit=8)
        explore("tiny-gpt2", ["proxy:num_heads"], out=tmp_path / "out", trials=3, setting=SMALL)


def test_a_loaded_proxy_says_a_warning_once() -> None:
    model = BertModel(tiny_model("bert").config)
    batch = minibatch(model, batch_size=2, seq_len=8)
    proxy = load_proxy("snip")
    with pytest.warns(ModelWarning) as found:
        values = [proxy(model, batch) for _ in range(3)]
    assert values == [values[0]] * 3
    assert len(found) == 1
    assert found[0].filename == __file__
