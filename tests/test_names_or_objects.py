"""Every public function takes a name or the object of that name, wherever it takes either."""

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import lpz_nas
import pytest
import torch

import lpzero_hf
from lpzero_hf import (
    Deployment,
    ModelProxy,
    SearchConfig,
    Setting,
    benchmark_from_table,
    compare,
    costs_from_table,
    grade,
    load_benchmark,
    load_model,
    load_plugins,
    load_proxy,
    load_space,
    measure_costs,
    minibatch,
    rank,
    score,
    search,
)
from lpzero_hf.benchmarks.benchmark import named_benchmarks
from lpzero_hf.errors import UsageError
from lpzero_hf.proxies.resolve import find_proxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.costs import find_costs
from lpzero_hf.searching.find_consensus import find_consensus
from lpzero_hf.searching.result import read_result
from lpzero_hf.searching.transfer import transfer
from lpzero_hf.spaces.named import named_config

SMALL = Setting(2, 8)
SMALL_SPACE = """
name: small
base: {model_type: llama, vocab_size: 4200, num_hidden_layers: 1, num_attention_heads: 2}
choices: {hidden_size: [16, 32, 48], intermediate_size: [16, 32]}
"""
TAKES = {  # by the name of a parameter, what its annotation says if it takes the object as well as the name
    "benchmark": ("Benchmark",), "benchmarks": ("BenchmarkLike",), "among": ("BenchmarkLike",),
    "test": ("BenchmarkLike",),
    "space": ("str", "SearchSpace"), "architectures": ("str", "SearchSpace", "Models"), "models": ("Models",),
    "proxies": ("ProxyLike",), "proxy": ("ProxyLike",), "config": ("str", "PreTrainedConfig"),
}  # fmt: skip
FUNCTIONS = {
    **{f"lpzero_hf.{name}": getattr(lpzero_hf, name) for name in lpzero_hf.__all__},
    **{f"lpz_nas.{name}": getattr(lpz_nas, name) for name in lpz_nas.__all__},
    "transfer": transfer,
    "find_consensus": find_consensus,
}
PARAMETERS = [
    (name, parameter.name, str(parameter.annotation))
    for name, function in FUNCTIONS.items()
    if inspect.isfunction(function)
    for parameter in inspect.signature(function).parameters.values()
    if parameter.name in TAKES
]


@pytest.mark.parametrize(("function", "parameter", "annotation"), PARAMETERS)
def test_an_annotation_admits_names_and_objects(function: str, parameter: str, annotation: str) -> None:
    assert all(part in annotation for part in TAKES[parameter]), f"{function}({parameter}: {annotation})"


def test_the_walk_finds_the_functions_that_take_names() -> None:
    assert {"lpzero_hf.grade", "lpzero_hf.search", "lpzero_hf.rank", "lpz_nas.explore"} <= {
        one[0] for one in PARAMETERS
    }


BENCHMARK, SPACE = load_benchmark("tiny-gpt2"), load_space("tiny-gpt2")
CONFIG = named_config("gpt2-variant")


def trained_with(**settings: Any) -> Any:
    found = search(strategy="random", iterations=40, limit=10, train=5, **settings)
    return [str(split.winner.expressions) for split in found.splits], found.tests, found.truth


def chosen(folder: Path, **settings: Any) -> Any:
    goals = lpz_nas.read_goals(["params"], load_plugins(), {})
    return [one.architecture for one in lpz_nas.explore(None, goals, out=folder, setting=SMALL, **settings).front]


CALLS: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
    "grade": (lambda b: grade(b, "num_heads", limit=8).scores, "tiny-gpt2", BENCHMARK),
    "grade by a proxy": (lambda p: grade(BENCHMARK, p, limit=8).scores, "num_heads", find_proxy("num_heads")),
    "search": (lambda b: trained_with(benchmarks=b), "tiny-gpt2", BENCHMARK),
    "search on several": (lambda b: trained_with(benchmarks=[b]), "tiny-gpt2", BENCHMARK),
    "search with a test": (
        lambda b: trained_with(benchmarks="tiny-gpt2", test=[b]), "tiny-lm", load_benchmark("tiny-lm"),
    ),
    "transfer": (lambda b: transfer([b], ["num_heads"], limit=8).to_dict()["rows"], "tiny-gpt2", BENCHMARK),
    "find_consensus": (
        lambda b: find_consensus([b], ["params", "w_pca"], limit=20).consensus.text, "tiny-gpt2", BENCHMARK,
    ),
    "rank": (lambda s: [one.name for one in rank(s, "params", n=4, setting=SMALL)], "tiny-gpt2", SPACE),
    "rank models": (
        lambda m: [one.rows["params"].value for one in rank([m, "llama-mini"], "params", setting=SMALL)],
        "gpt2-variant", CONFIG,
    ),
    "compare": (
        lambda m: [one.sizes for one in compare([m, "llama-mini"], "l2_norm", setting=SMALL).models],
        "gpt2-variant", CONFIG,
    ),
    "measure_costs": (lambda m: measure_costs(m, ["params"])["params"].value, "gpt2-variant", CONFIG),
    "load_model": (lambda m: load_model(m).model.num_parameters(), "gpt2-variant", CONFIG),
    "load_space": (lambda s: load_space(s).size(), "tiny-gpt2", SPACE),
    "load_benchmark": (lambda b: len(load_benchmark(b).trained()), "tiny-gpt2", BENCHMARK),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_name_and_its_object_give_the_same(call: str) -> None:
    run, name, item = CALLS[call]
    assert run(name) == run(item)


def test_architectures_are_chosen_among_a_benchmark_by_name_and_as_an_object(tmp_path: Path) -> None:
    assert chosen(tmp_path / "a", among="tiny-gpt2") == chosen(tmp_path / "b", among=BENCHMARK)


def test_two_objects_of_one_name_are_refused() -> None:
    from dataclasses import replace

    with pytest.raises(UsageError, match="two different benchmarks"):
        search([BENCHMARK, replace(BENCHMARK, summary="another")])


def test_the_name_in_a_ranking_loads_the_architecture() -> None:
    for given in ("tiny-gpt2", SPACE):
        best = rank(given, "num_layers", n=3, setting=SMALL)[0]
        assert load_model(best.name).model.config.num_hidden_layers == best.rows["num_layers"].value
    mixed = rank(["gpt2-variant", "tiny-gpt2:" + SPACE.text(SPACE.samples(1)[0])], "params", setting=SMALL)
    for one in mixed:
        assert load_model(one.name).model.num_parameters() == one.rows["params"].value


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UsageError, match="name or a configuration"):
        rank([3], "params")  # type: ignore[list-item]
    with pytest.raises(UsageError, match="named twice"):
        rank(["gpt2-variant", "gpt2-variant"], "params")


def test_a_benchmark_that_is_not_installed_is_searched_and_tested_on() -> None:
    from dataclasses import replace

    mine = replace(BENCHMARK, name="mine")
    assert list(search(mine, strategy="random", iterations=20, limit=8, train=5).truth) == ["mine"]
    assert next(row.grade.cells["mine"].n for row in transfer(mine, ["num_heads"], limit=8).rows) == 8


def test_objects_to_search_on_and_to_test_on_are_both_found() -> None:
    one, other = load_benchmark("tiny-gpt2"), load_benchmark("tiny-lm")
    mine = replace(one, name="mine")
    _, plugins = named_benchmarks(mine, None)
    _, both = named_benchmarks(other, plugins)
    assert load_benchmark("mine", both) is mine
    assert load_benchmark(other.name, both) is other
    with pytest.raises(UsageError, match="two different"):
        named_benchmarks(replace(other, name="mine"), both)


def test_a_file_of_a_space_goes_where_its_name_goes(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(SMALL_SPACE)
    rows = [{"arch": f"hidden_size={h},intermediate_size=16", "loss": h / 3, "latency_ms": 1.0} for h in (16, 32, 48)]
    for number, given in enumerate((str(file), file)):
        assert len(benchmark_from_table(rows, "loss", space=given).trained()) == 3
        assert "latency_ms" in costs_from_table(rows, space=given)
        evaluator = lpz_nas.ProxyEvaluator("num_heads", space=given, setting=SMALL)
        assert evaluator.evaluate("hidden_size=16,intermediate_size=16") == 2.0
        out = tmp_path / str(number)
        explored = lpz_nas.explore(given, ["params"], out=str(out / "a"), trials=2, setting=SMALL)
        found = lpz_nas.find_architecture(
            given, "num_heads", lpz_nas.Budget(10**7), out=str(out / "b"), trials=2, setting=SMALL
        )
        for result in (explored, found):
            row = result.to_rows()[0]
            assert load_model(row["architecture"]).model.num_parameters() == row["params"]


def test_objectives_and_limits_are_names_or_objects(tmp_path: Path) -> None:
    plugins = load_plugins()
    (cost,) = find_costs("params", plugins)
    calls: list[tuple[Any, Any]] = [
        (["proxy:num_heads", "params"], "params <= 300k"),
        ([find_proxy("num_heads"), cost], ["params<=300k"]),
        ([load_proxy("num_heads"), "params"], lpz_nas.read_limits("params=300k", (), plugins, {})),
        (lpz_nas.read_goals(["proxy:num_heads", "params"], plugins, {}), [lpz_nas.Limit(cost, 300_000, True)]),
    ]
    found = [
        lpz_nas.explore("tiny-gpt2", goals, limits, out=tmp_path / str(i), trials=3, setting=SMALL).to_json()["front"]
        for i, (goals, limits) in enumerate(calls)
    ]
    assert found[0]
    assert found == [found[0]] * 4
    for wrong, told in (
        ("params = 3", "no limit"),
        (["params <= 3", "params <= 4"], "given twice"),
        ("parms <= 3", "params"),
    ):
        with pytest.raises(UsageError, match=told):
            lpz_nas.explore("tiny-gpt2", "params", wrong, out=tmp_path / "wrong", setting=SMALL)
    with pytest.raises(UsageError, match="no budget"):
        lpz_nas.find_architecture("tiny-gpt2", "params", 10**6, out=tmp_path / "wrong")  # type: ignore[arg-type]
    assert not (tmp_path / "wrong").exists() or not any((tmp_path / "wrong").glob("*.json"))


def test_one_cost_is_given_as_several_are() -> None:
    (cost,) = find_costs(["params"], load_plugins())
    values = [measure_costs("gpt2-variant", given)["params"].value for given in ("params", cost, ["params"], [cost])]
    assert len(set(values)) == 1


def test_a_precision_and_a_device_are_names_or_objects() -> None:
    for settings in (Setting, Deployment):
        named = settings(dtype="bfloat16", device="cpu")
        made = settings(dtype=torch.bfloat16, device=torch.device("cpu"))  # type: ignore[arg-type]
        assert made == named
        assert json.loads(json.dumps(made.to_json())) == named.to_json()
        for wrong in ({"dtype": "flaot32"}, {"dtype": "int64"}, {"device": "nonsense"}):
            with pytest.raises(UsageError, match="of torch"):
                settings(**wrong)
    for given in ("bfloat16", torch.bfloat16):
        assert load_model("gpt2-variant", dtype=given, lazy=True).model.dtype == torch.bfloat16
    model = load_model("gpt2-variant").model
    batch = minibatch(model, batch_size=1, seq_len=8)
    named, made = (score(model, batch, "snip", dtype=given)["snip"].value for given in ("bfloat16", torch.bfloat16))
    assert named == made != score(model, batch, "snip")["snip"].value
    with pytest.raises(UsageError, match="no precision"):
        score(model, batch, "snip", dtype="float17")
    for wrong in ({"dtype": "flaot32"}, {"device": "nonsense"}):
        with pytest.raises(UsageError, match="of torch"):
            load_model("gpt2-variant", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given", [3, None, load_model("gpt2-variant", lazy=True), load_model("bert-mini", lazy=True).model]
)
def test_what_is_no_architecture_is_refused_on_one_line(given: Any) -> None:
    for call in (
        lambda: load_model(given), lambda: measure_costs(given, "params"), lambda: lpz_nas.count(given),
        lambda: rank(given, "params"), lambda: rank([given], "params"), lambda: rank({"a": given}, "params"),
        lambda: compare([given, given], "params"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="name or a configuration") as error:
            call()
        assert "\n" not in str(error.value)
        assert ("model.config" in str(error.value)) == (given is not None and given != 3)


def test_a_configuration_of_a_search_names_its_benchmarks() -> None:
    assert SearchConfig("tiny-gpt2") == SearchConfig(("tiny-gpt2",)) == SearchConfig(["tiny-gpt2"])  # type: ignore[arg-type]
    for given in (BENCHMARK, (BENCHMARK,)):
        with pytest.raises(UsageError, match="objects to `search`"):
            SearchConfig(given)  # type: ignore[arg-type]


def test_a_number_of_architectures_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="n=1"):
        rank("tiny-gpt2", "params", n=-1)
    with pytest.raises(UsageError, match="limit="):
        grade(BENCHMARK, "params", limit=-1)


def test_a_loaded_proxy_is_its_proxy(tmp_path: Path) -> None:
    model = load_model("gpt2-variant").model
    batch = minibatch(model, batch_size=2, seq_len=8)
    deep = ModelProxy(name="deep", formula="", orientation=-1, evaluate=lambda subject: subject.layout.depth)
    assert score(model, batch, load_proxy(deep))["deep"] == replace(score(model, batch, deep)["deep"], seconds=ANY)
    assert score(model, None, [load_proxy("params")])["params"].value == model.num_parameters()


def test_files_are_texts_or_paths(tmp_path: Path) -> None:
    with ScoreCache(str(tmp_path / "scores.sqlite")) as cache:
        assert cache.path == tmp_path / "scores.sqlite"
    with pytest.raises(UsageError, match="no search in"):
        read_result(str(tmp_path))
