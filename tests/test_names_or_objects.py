"""Every public function takes a name or the object of that name, wherever it takes either."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lpz_nas
import pytest

import lpzero_hf
from lpzero_hf import (
    Setting,
    compare,
    grade,
    load_benchmark,
    load_model,
    load_plugins,
    load_space,
    measure_costs,
    rank,
    search,
)
from lpzero_hf.benchmarks.benchmark import named_benchmarks
from lpzero_hf.errors import UsageError
from lpzero_hf.proxies.resolve import find_proxy
from lpzero_hf.searching.find_consensus import find_consensus
from lpzero_hf.searching.transfer import transfer
from lpzero_hf.spaces.named import named_config

SMALL = Setting(2, 8)
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
