"""The parts of a search for an architecture under a budget: budget, evaluator, study; and its measurement."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from lpz_nas import Budget, ProxyEvaluator, Tried, count
from lpz_nas.optuna_study import Objective, corners, create_study, extreme, forget_interrupted, suggest
from lpz_nas.outcome import pareto

from lpzero_hf import Choice, ModelProxy, Setting, Space, load_model, load_proxy, minibatch
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import count_parameters
from lpzero_hf.models.minibatch import embedded_tokenizer
from lpzero_hf.scoring.scores import ScoreError
from lpzero_hf.spaces.named import load_space

SMALL = Setting(batch_size=2, seq_len=8)
NAME = "d64.e32.k2-h2.i64-h4.i128"


@pytest.fixture
def space() -> Space:
    return load_space("tiny-gpt2")


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


# Budgets and values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny-gpt2", "flexibert"])
def test_parameters_are_counted_as_they_will_be(name: str) -> None:
    space = load_space(name)
    for architecture in space.samples(2, by="choice"):
        config = space.config(architecture)
        assert count(config) == count_parameters(build_model(config))


def test_a_model_that_no_memory_holds_is_counted() -> None:
    from transformers import GPT2Config

    assert count(GPT2Config(n_embd=65536, n_layer=96, n_head=64)) > 4 * 10**12


def test_a_budget_has_two_bounds() -> None:
    budget = Budget(max_params=200, min_params=100)
    assert [budget.allows(n) for n in (99, 100, 200, 201)] == [False, True, True, False]
    assert budget.excess(300) == {"max_params": 0.5, "min_params": -2.0}
    assert "100" in str(budget)
    assert "200" in str(budget)
    for bad in ({"max_params": 0}, {"min_params": -1}, {"max_params": 5, "min_params": 6}):
        with pytest.raises(UsageError):
            Budget(**bad)


def test_every_architecture_can_be_assembled_from_named_values(space: Space) -> None:
    rng = random.Random(1)
    for _ in range(20):
        wanted = space.sample(rng, "choice")
        values: dict[str, Any] = dict(zip(("d_model", "d_embed", "k"), wanted.shared, strict=True))
        values["number of layers"] = len(wanted.layers)
        for i, (heads, inner) in enumerate(wanted.layers):
            values |= {f"layers.{i}.heads": heads, f"layers.{i}.inner": inner}
        asked = []
        assert space.assemble(lambda name, _: asked.append(name) or values[name]) == wanted  # noqa: B023
        assert asked == list(values)
        assert all(values[name] in space.parameters()[name] for name in values)
    with pytest.raises(UsageError, match="d_model 65"):
        space.assemble(lambda name, values: 65 if name == "d_model" else values[0])


def test_the_ends_of_a_space() -> None:
    space = load_space("flexibert")
    least, most = (extreme(space, largest) for largest in (False, True))
    assert space.text(space.assemble(lambda name, _: least[name])) == "h128-sdp.a2.f512.n1-sdp.a2.f512.n1"
    assert space.text(space.assemble(lambda name, _: most[name])) == "h256" + "-sdp.a4.f1024.n3" * 4


# The evaluator ---------------------------------------------------------------------------------------------


def test_one_architecture_has_one_score_however_it_is_given(space: Space) -> None:
    evaluator = ProxyEvaluator("snip", space="tiny-gpt2", setting=SMALL)
    model = load_model(f"tiny-gpt2:{NAME}").model
    config = space.config(space.parse(NAME))
    given = [NAME, f"tiny-gpt2:{NAME}", space.parse(NAME), config, model, SimpleNamespace(arch=model, archid="x")]
    assert len({evaluator.evaluate(arch, budget=0.5) for arch in given}) == 1
    batch = minibatch(model, tokenizer=embedded_tokenizer(), batch_size=2, seq_len=8)
    assert evaluator.evaluate(NAME) == load_proxy("snip")(model, batch)


def test_higher_is_better_whatever_the_orientation() -> None:
    deep = ModelProxy(name="deep", formula="", orientation=-1, evaluate=lambda subject: subject.layout.depth)
    assert ProxyEvaluator(deep, space="tiny-gpt2", setting=SMALL).evaluate(NAME) == -2.0


def test_a_score_is_remembered_where_that_is_safe() -> None:
    calls = []

    def norm(model: Any, batch: Any) -> float:
        """norm of all weights"""
        calls.append(1)
        return float(sum(p.detach().norm() for p in model.parameters()))

    evaluator = ProxyEvaluator(norm, space="tiny-gpt2", setting=SMALL)
    assert evaluator.evaluate(NAME) == evaluator.evaluate(f"tiny-gpt2:{NAME}")
    assert len(calls) == 1
    model = load_model(f"tiny-gpt2:{NAME}").model
    before = evaluator.evaluate(model)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert evaluator.evaluate(model) != before  # weights may have changed
    first = evaluator.evaluate(SimpleNamespace(arch=model, archid="a"))
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert evaluator.evaluate(SimpleNamespace(arch=model, archid="a")) == first  # the same architecture, by its id
    assert evaluator.evaluate(SimpleNamespace(arch=model, archid="b")) != first


def test_the_evaluator_says_what_it_cannot_evaluate() -> None:
    evaluator = ProxyEvaluator("attention_confidence", setting=SMALL)
    with pytest.raises(ScoreError, match="softmax"):
        evaluator.evaluate("flexibert:h128-dft.a2.f512.n1-dct.a2.f512.n1")
    with pytest.raises(UsageError, match="space"):
        evaluator.evaluate(NAME)
    with pytest.raises(UsageError, match="int"):
        evaluator.evaluate(3)
    with pytest.raises(UsageError, match="'snip'"):
        ProxyEvaluator("snp")


# Optuna ----------------------------------------------------------------------------------------------------


def proposals(study: optuna.Study) -> list[tuple[dict[str, Any], list[float] | None]]:
    """Parameters and values of the trials that were finished."""
    done = [t for t in study.trials if t.state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)]
    return [(trial.params, trial.values) for trial in done]


def test_a_study_builds_nothing_over_the_budget() -> None:
    built = []

    def size(model: Any, batch: Any) -> float:
        """parameters"""
        built.append(count_parameters(model))
        return float(built[-1])

    study = create_study(seed=1)
    study.optimize(
        Objective(ProxyEvaluator(size, space="tiny-gpt2", setting=SMALL), Budget(max_params=500_000)), n_trials=15
    )
    sizes = [trial.user_attrs["params"] for trial in study.trials]
    assert max(built) <= 500_000 < max(sizes)
    assert study.best_value == max(n for n in sizes if n <= 500_000)
    over = [trial for trial in study.trials if trial.user_attrs["params"] > 500_000]
    assert all(trial.state == optuna.trial.TrialState.PRUNED for trial in over)
    assert all(trial.constraints["max_params"] > 0 for trial in over)


def test_optuna_proposes_members_of_any_space() -> None:
    words = Space(
        name="words",
        summary="",
        shared=(Choice("", "kind", ("a", "b")),),
        depths=(1, 4),
        layer=(),
        build=lambda s, n: s,
    )
    for space in (words, load_space("flexibert"), load_space("gpt2")):
        study = create_study()
        for _ in range(12):
            trial = study.ask()
            space.check(suggest(trial, space))
            study.tell(trial, random.random())


@pytest.mark.integration
def test_a_study_that_was_killed_proposes_what_it_would_have(tmp_path: Path, space: Space) -> None:
    objective = Objective(ProxyEvaluator("num_heads", space=space, setting=SMALL), Budget(max_params=600_000))
    first = corners(space, objective.budget)
    undisturbed = create_study(seed=3, first=first)
    undisturbed.optimize(objective, n_trials=16)
    file = tmp_path / "study.sqlite"
    create_study(file, seed=3, first=first).ask()  # killed in its first trial
    for n in (5, 7, 4):
        study = create_study(file, seed=3, first=first)
        forget_interrupted(study)
        study.optimize(objective, n_trials=n)
        suggest(create_study(file, seed=3, first=first).ask(), space)
    assert proposals(study) == proposals(undisturbed)
    assert proposals(study)[0][0]["d_model"] == 64
    other = create_study(seed=4, first=first)
    other.optimize(objective, n_trials=16)
    assert proposals(other) != proposals(undisturbed)


def test_a_study_has_two_directions_where_the_front_is_wanted() -> None:
    study = create_study(front=True)
    evaluator = ProxyEvaluator("num_heads", space="tiny-gpt2", setting=SMALL)
    study.optimize(Objective(evaluator, Budget(max_params=900_000), front=True), n_trials=15)
    tried = [
        Tried(t.user_attrs["architecture"], t.user_attrs["params"], t.values and t.values[0]) for t in study.trials
    ]
    front = {(one.params, one.score) for one in pareto(one for one in tried if one.params <= 900_000)}
    assert {(int(trial.values[1]), trial.values[0]) for trial in study.best_trials} == front


def test_a_study_needs_a_space_and_a_storage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ProxyEvaluator"):
        Objective(ProxyEvaluator("snip"))
    (tmp_path / "study.sqlite").write_text("no database", encoding="utf-8")
    with pytest.raises(LpzError, match="cannot open the study"):
        create_study(tmp_path / "study.sqlite")
