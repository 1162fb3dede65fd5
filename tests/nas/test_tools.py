"""What other tools propose and look up, benchmarks as tables, and each tool as it is installed."""

from __future__ import annotations

import inspect
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from lpz_nas import Budget, ProxyEvaluator, count
from lpz_nas.proposals import Proposals, offered, offers, picked
from lpz_nas.trained_table import TrainedTable
from lpz_nas.whittle_objective import objective as whittle_objective

from lpzero_hf import Benchmark, ConfigSpace, Setting, Trained, load_benchmark, load_space
from lpzero_hf.errors import UsageError
from lpzero_hf.scoring.scores import ScoreError
from lpzero_hf.spaces.base import SearchSpace
from tests.support.tools import needs

SMALL = Setting(batch_size=2, seq_len=8)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archai writes a log where it is imported."""
    monkeypatch.chdir(tmp_path)


def evaluator(space: str | SearchSpace = "tiny-gpt2", proxy: str = "num_heads") -> ProxyEvaluator:
    return ProxyEvaluator(proxy, space=space, setting=SMALL)


def layered() -> ConfigSpace:
    """A space with words, truth values and layers of its own."""
    from transformers import Gemma3TextConfig

    return ConfigSpace(
        "mixed",
        base=Gemma3TextConfig(
            hidden_size=32,
            intermediate_size=64,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            vocab_size=64,
        ),
        choices={
            "num_hidden_layers": [1, 2, 3],
            "attention_bias": [True, False],
            "rms_norm_eps": [1, 1e-6],
            "layer_types": {"per_layer": ["full_attention", "sliding_attention"]},
        },
    )


def test_a_picked_value_is_the_space_s_own() -> None:
    values = [(1, 2), (3,)]
    assert [picked(one, values) for one in offered(values)] == values
    assert all(isinstance(one, str) for one in offered(values))
    mixed = [1, True, 0, False, None, "a"]
    assert [(type(picked(one, mixed)), picked(one, mixed)) for one in mixed] == [(type(one), one) for one in mixed]
    assert picked(torch.tensor(64).numpy()[()], [32, 64]) == 64  # as NumPy's own numbers
    assert picked(torch.tensor(True).numpy()[()], mixed) is True
    with pytest.raises(UsageError, match="65"):
        picked(65, [32, 64])


def test_a_proposal_is_counted_scored_or_refused_with_the_reason() -> None:
    proposals = Proposals(evaluator(), Budget(max_params=400_000))
    small = {name: values[0] for name, values in proposals.offers.items()}
    outcome = proposals.outcome(small)
    assert (outcome.architecture, outcome.score, outcome.reason) == ("d64.e32.k1-h1.i64", 1.0, "")
    assert outcome.params == count(proposals.space.config(proposals.space.parse(outcome.architecture)))
    large = proposals.outcome({name: values[-1] for name, values in proposals.offers.items()})
    assert large.score is None
    assert large.params > 400_000
    assert "400,000" in large.reason
    with pytest.raises(UsageError, match="ProxyEvaluator"):
        Proposals(ProxyEvaluator("snip"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"d_model": None}, "d_model"),
        ({"d_model": 65}, "65"),
        ({"d_model": math.nan}, "nan"),
        ({"d_model": torch.tensor([64, 96]).numpy()}, "64"),
        ({"d_model": ...}, "no 'd_model'"),  # left out
    ],
)
def test_a_proposal_that_is_not_of_the_space_is_refused_by_every_tool(change: dict[str, Any], told: str) -> None:
    small = {name: values[0] for name, values in offers(load_space("tiny-gpt2")).items()}
    wrong = {name: value for name, value in (small | change).items() if value is not ...}
    for run in (
        Proposals(evaluator()).outcome,
        whittle_objective(evaluator()),
        TrainedTable("tiny-gpt2").performance,
    ):
        with pytest.raises(UsageError, match=told) as caught:
            run(wrong)
        assert "\n" not in str(caught.value)
        with pytest.raises(UsageError, match="3 is no proposal"):
            run(3)


def test_what_is_no_evaluator_and_no_budget_is_refused() -> None:
    with pytest.raises(UsageError, match="ProxyEvaluator"):
        Proposals("synflow")
    with pytest.raises(UsageError, match="Budget"):
        Proposals(evaluator(), 600_000)
    with pytest.raises(UsageError, match="Setting"):
        ProxyEvaluator("num_heads", space="tiny-gpt2", setting=3)
    with pytest.raises(UsageError, match="'nowhere'"):
        evaluator("nowhere")
    with pytest.raises(UsageError, match="'nothing'"):
        evaluator(proxy="nothing")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_no_score_for_any_tool(value: float) -> None:
    def odd(model: Any, batch: Any) -> float:
        """Not a number"""
        return value

    held = ProxyEvaluator(odd, space="tiny-gpt2", setting=SMALL)
    small = {name: values[0] for name, values in offers(held.space).items()}
    outcome = Proposals(held).outcome(small)
    assert outcome.score is None
    assert str(value) in outcome.reason
    assert whittle_objective(held)(small) == (math.inf, math.inf)


def test_what_is_outside_the_budget_is_never_built() -> None:
    built = []

    def size(model: Any, batch: Any) -> float:
        """parameters"""
        built.append(sum(p.numel() for p in model.parameters()))
        return float(built[-1])

    proposals = Proposals(ProxyEvaluator(size, space="tiny-gpt2", setting=SMALL), Budget(max_params=400_000))
    rng = random.Random(0)
    outcomes = [proposals.outcome({n: rng.choice(v) for n, v in proposals.offers.items()}) for _ in range(12)]
    assert max(one.params for one in outcomes) > 400_000 >= max(built)
    assert len(built) == len([one for one in outcomes if one.score is not None]) > 0


# Benchmarks as tables --------------------------------------------------------------------------------------


def test_a_table_has_every_trained_architecture_once_with_its_mean() -> None:
    space = load_space("tiny-gpt2")
    first, other = space.samples(2)
    runs = [Trained("a", first, 3.0), Trained("b", other, 4.0), Trained("c", first, 5.0)]
    table = TrainedTable(
        Benchmark(name="mine", summary="", space=space, metric="loss", larger_is_better=False, read=lambda: runs)
    )
    assert table.trained == {first: 4.0, other: 4.0}
    frame = table.frame()
    assert list(frame.columns) == [*space.parameters(), "loss"]
    assert frame["loss"].tolist() == [4.0, 4.0]
    for architecture, (_, row) in zip(table.trained, frame.iterrows(), strict=True):
        assert table.nearest(row) == architecture


def test_a_metric_called_as_a_parameter_is_refused() -> None:
    benchmark = replace(accuracies(), metric="num_hidden_layers")
    with pytest.raises(UsageError, match="num_hidden_layers"):
        TrainedTable(benchmark)


def test_what_was_not_trained_has_the_performance_of_the_nearest() -> None:
    table = TrainedTable("tiny-gpt2")
    space, rng = table.space, random.Random(3)
    spans = {name: max(values) - min(values) for name, values in space.parameters().items()}
    for _ in range(5):
        proposal = space.sample(rng)
        wanted = space.named_values(proposal)
        values = {name: wanted.get(name, offer[0]) for name, offer in table.offers.items()}

        def away(architecture: Any, wanted: Any = wanted) -> float:
            known = space.named_values(architecture)
            return sum(
                abs(wanted[name] - known[name]) / spans[name] if name in wanted and name in known else 1.0
                for name in wanted.keys() | known.keys()
            )

        found = table.nearest(values)
        assert away(found) == pytest.approx(min(map(away, table.trained)))
        assert table.performance(values) == table.trained[found]


def accuracies() -> Benchmark:
    """Two trained architectures of `layered`, of accuracy 0 and 1."""
    space = layered()
    ids = (
        "num_hidden_layers=1,attention_bias=true,rms_norm_eps=1e-06,layer_types=full_attention",
        "num_hidden_layers=3,attention_bias=false,rms_norm_eps=1,layer_types=full_attention|full_attention|full_attention",
    )
    trained = [Trained(text, space.parse(text), float(place)) for place, text in enumerate(ids)]
    return Benchmark(
        name="mine", summary="", space=space, metric="accuracy", larger_is_better=True, read=lambda: trained
    )


def test_words_and_numbers_are_near_as_they_should_be() -> None:
    table = TrainedTable(accuracies())
    assert table.mode == "max"
    values = {name: offer[0] for name, offer in offers(table.space).items()}
    assert table.performance(values | {"num_hidden_layers": 1, "attention_bias": True}) == 0.0
    assert table.performance(values | {"num_hidden_layers": 3, "attention_bias": False}) == 1.0


# Each tool's own form --------------------------------------------------------------------------------------


def test_whittle_s_objective_gives_two_numbers_to_minimise() -> None:
    run = whittle_objective(evaluator(), Budget(max_params=400_000))
    small = {name: values[0] for name, values in offers(load_space("tiny-gpt2")).items()}
    space = load_space("tiny-gpt2")
    assert run(small) == (-1.0, float(count(space.config(space.parse("d64.e32.k1-h1.i64")))))
    assert run(small | {"d_model": 192, "number of layers": 8}) == (math.inf, math.inf)
    assert len(inspect.signature(run).parameters) == 1  # whittle 0.6.0 calls objective(config, **objective_kwargs)


def neps_stub() -> ModuleType:
    """NePS 0.17.0's names that the adapter uses, with the signatures that it publishes."""
    stub = ModuleType("neps")
    stub.PipelineSpace = type("PipelineSpace", (), {})
    stub.Categorical = lambda choices, prior=None, prior_confidence=None: SimpleNamespace(choices=choices)
    return stub


def test_neps_minimises_minus_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import neps
    except ImportError:
        monkeypatch.setitem(sys.modules, "neps", neps_stub())
        import neps
    monkeypatch.delitem(sys.modules, "lpz_nas.neps_search", raising=False)
    from lpz_nas.neps_search import evaluate_pipeline, pipeline_space

    space = load_space("tiny-gpt2")
    made = pipeline_space(space)
    assert isinstance(made, neps.PipelineSpace)
    config = {name: one.choices[0] for name, one in vars(type(made)).items() if hasattr(one, "choices")}
    assert len(config) == len(space.parameters())
    assert all(name.isidentifier() for name in config)
    run = evaluate_pipeline(evaluator(), Budget(max_params=400_000))
    found = run(**config)
    assert found["objective_to_minimize"] == -1.0
    assert found["info_dict"]["architecture"] == "d64.e32.k1-h1.i64"
    with pytest.raises(ScoreError, match="400,000"):
        run(**config | {"d_model": 192, "number__of__layers": 8})


def test_syne_tune_s_schedulers_are_told_scores() -> None:
    needs("syne_tune")
    from lpz_nas.syne_tune_search import config_space, objective
    from syne_tune.config_space import Categorical, Ordinal
    from syne_tune.optimizer.baselines import CQR, REA

    space = load_space("flexibert")
    domains = config_space(space)
    assert list(domains) == list(space.parameters())
    assert type(domains["layers.0.operation"]) is Categorical
    assert isinstance(domains["hidden"], Ordinal)
    run = objective(evaluator(), Budget(max_params=900_000))
    for kind in (REA, CQR):
        scheduler = kind(config_space(load_space("tiny-gpt2")), metric="score", do_minimize=False, random_seed=1)
        metrics = run(scheduler.suggest().config | {"number of layers": 1})
        assert metrics["score"] <= 8
        assert metrics["params"] <= 900_000
    with pytest.raises(ScoreError, match="900,000"):
        run({name: values[-1] for name, values in offers(load_space("tiny-gpt2")).items()})


@pytest.mark.parametrize("name", ["tiny-gpt2", "gemstones"])
def test_a_blackbox_of_syne_tune_knows_what_was_trained(name: str) -> None:
    needs("syne_tune")
    from lpz_nas.syne_tune_search import blackbox

    benchmark = load_benchmark(name)
    if not benchmark.here():
        pytest.skip("the data are not here: set LPZ_DATA")
    table, box = TrainedTable(benchmark), blackbox(benchmark)
    for (_, row), quality in zip(table.frame().iterrows(), table.trained.values(), strict=True):
        found = box.objective_function({one: row[one] for one in box.configuration_space})
        assert found == {benchmark.metric: quality}


def test_optunahub_s_problem_is_a_benchmark() -> None:
    pytest.importorskip("optunahub", reason="needs the extra optunahub")
    import optuna
    from lpz_nas.optunahub_problem import BenchmarkProblem

    problem = BenchmarkProblem("tiny-gpt2")
    assert problem.directions == [optuna.study.StudyDirection.MINIMIZE]
    assert problem.optimum == min(entry.quality for entry in load_benchmark("tiny-gpt2").trained())
    assert isinstance(problem.search_space["number of layers"], optuna.distributions.IntDistribution)
    assert isinstance(problem.search_space["d_model"], optuna.distributions.CategoricalDistribution)
    for name, offer in problem.table.offers.items():
        held = problem.search_space[name]
        whole = isinstance(held, optuna.distributions.IntDistribution)
        assert list(range(held.low, held.high + 1, held.step) if whole else held.choices) == offer
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=problem.directions)
    study.optimize(problem, n_trials=5)
    assert [trial.value for trial in study.trials] == [
        problem.table.performance(trial.params) for trial in study.trials
    ]
    space = load_space("tiny-gpt2")
    best = min(problem.table.trained, key=problem.table.trained.__getitem__)
    values = {name: offer[0] for name, offer in problem.table.offers.items()} | space.named_values(best)
    assert problem.evaluate(values) == problem.optimum


def test_a_problem_of_optunahub_is_maximised_where_higher_is_better() -> None:
    pytest.importorskip("optunahub", reason="needs the extra optunahub")
    import optuna
    from lpz_nas.optunahub_problem import BenchmarkProblem

    problem = BenchmarkProblem(accuracies())
    assert problem.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert problem.optimum == 1.0


def test_modelopt_s_searcher_is_told_the_subnet_s_score() -> None:
    needs("modelopt")
    import modelopt.torch.nas as mtn
    from lpz_nas.modelopt_score import score_func

    from lpzero_hf import load_model

    rules = {"nn.Linear": {"*": {"features_ratio": (0.5, 1.0), "feature_divisor": 32}}}
    model = mtn.convert(load_model("llama-mini").model, [("autonas", rules)])
    score = score_func(evaluator(proxy="params"))
    told = {}
    for choose in (max, min):
        mtn.utils.sample(model, choose)
        before = mtn.utils.get_subnet_config(model)
        with torch.no_grad():
            told[choose] = score(model)
        assert mtn.utils.get_subnet_config(model) == before
    assert told[min] < told[max]
    mtn.utils.sample(model, min)
    assert sum(p.numel() for p in mtn.export(model).parameters()) == told[min]
    with pytest.raises(UsageError, match="ProxyEvaluator"):
        score_func("synflow")


def test_archai_takes_a_space_and_a_proxy() -> None:
    needs("archai")
    from archai.discrete_search.api import ArchaiModel, SearchObjectives
    from lpz_nas.archai_search import search_objectives
    from lpz_nas.archai_space import LanguageModels

    from lpzero_hf import load_model

    space = load_space("tiny-gpt2")
    objectives = search_objectives(evaluator(), Budget(max_params=400_000))
    models = LanguageModels(space, seed=1)
    drawn = [models.random_sample() for _ in range(12)]
    assert len({model.archid for model in drawn}) == len({model.metadata["architecture"] for model in drawn}) > 1
    for model in drawn:
        small = count(space.config(space.parse(model.metadata["architecture"]))) <= 400_000
        assert objectives.is_model_valid(model) == small
    parents = drawn[:2]
    for model in parents:
        model.clear()  # as Archai does, before it mutates
        own, other = (
            space.named_values(space.parse(one.metadata["architecture"])) for one in (model, models.mutate(model))
        )
        changed = [name for name in own.keys() & other.keys() if own[name] != other[name]]
        assert len(changed) <= 1
    both = [space.named_values(space.parse(model.metadata["architecture"])) for model in parents]
    child = models.crossover(parents).metadata["architecture"]
    for name, value in space.named_values(space.parse(child)).items():
        assert value in [values[name] for values in both if name in values]
    real = ArchaiModel(load_model("tiny-gpt2:d64.e32.k2-h2.i64-h4.i128").model, "real")
    own_objectives = SearchObjectives()
    own_objectives.add_objective("score", evaluator(), higher_is_better=True)
    assert own_objectives.eval_all_objs([real])["score"].tolist() == [6.0]
    with pytest.raises(UsageError, match="ProxyEvaluator"):
        search_objectives("synflow")


def test_archai_s_models_are_written_and_read(tmp_path: Path) -> None:
    needs("archai")
    from lpz_nas.archai_space import LanguageModels

    models = LanguageModels(load_space("tiny-gpt2"))
    model = models.random_sample()
    models.save_arch(model, str(tmp_path / "one"))
    again = models.load_arch(str(tmp_path / "one"))
    assert (again.archid, again.metadata) == (model.archid, model.metadata)
    for call in (models.save_model_weights, models.load_model_weights):
        with pytest.raises(UsageError, match="weights"):
            call(model, str(tmp_path / "weights"))
    assert not (tmp_path / "weights").exists()
