"""The embedded benchmark `tiny-lm` is what its plan says: its sizes, its tokens, its seeds, and its noise."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import lpz_zoo
import pytest
from lpz_zoo.benchmarks import BENCHMARKS

from lpzero_hf.benchmarks.agreement import spearman
from lpzero_hf.benchmarks.benchmark import by_seed, describe, read_made
from lpzero_hf.benchmarks.make import BenchmarkSpec, body_parameters
from lpzero_hf.benchmarks.train import Recipe
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import count_parameters

Lpz = Callable[..., tuple[int, str, str]]
BENCHMARK = next(benchmark for benchmark in BENCHMARKS if benchmark.name == "tiny-lm")
FILE = Path(lpz_zoo.__file__).parent / "data" / "tiny-lm.json"
DOCUMENT = read_made(FILE)
SPEC = BenchmarkSpec(**DOCUMENT["plan"] | {"recipe": Recipe(**DOCUMENT["plan"]["recipe"])})
PREFIX = 8  # of the list, whose models are built here


def test_every_model_saw_twenty_tokens_for_each_parameter() -> None:
    assert all(SPEC.recipe.tokens() >= 20 * row["parameters"] for row in DOCUMENT["trained"])
    assert DOCUMENT["corpus"]["text"]["tokens"] > SPEC.recipe.tokens()  # none twice


def test_it_was_trained_and_built_as_its_plan_says() -> None:
    found = [(row["architecture"], row["seed"]) for row in DOCUMENT["trained"]]
    missing = [(row["architecture"], row["seed"]) for row in DOCUMENT.get("missing", [])]
    assert sorted(found + missing) == sorted(SPEC.runs(BENCHMARK.space))
    assert len(set(found)) == len(found)
    for name in SPEC.listed[:PREFIX]:
        architecture = BENCHMARK.space.parse(name)
        row = next(row for row in DOCUMENT["trained"] if row["architecture"] == name)
        assert body_parameters(BENCHMARK.space, architecture) == row["body_parameters"]
        assert count_parameters(build_model(BENCHMARK.space.config(architecture), device="meta")) == row["parameters"]


def test_many_pairs_are_of_one_size_and_differ_in_shape() -> None:
    sizes = {row["architecture"]: row["body_parameters"] for row in DOCUMENT["trained"]}
    alike = [(one, other) for one, other in combinations(sizes, 2) if 1 / 1.1 <= sizes[one] / sizes[other] <= 1.1]
    shapes = {name: name.split(",num_attention_heads")[0] for name in sizes}
    assert sum(shapes[one] != shapes[other] for one, other in alike) >= 40


def test_seeds_agree() -> None:
    noise = describe(BENCHMARK)["noise"]
    assert (noise["seeds"], noise["architectures_with_several_seeds"]) == (3, 16)
    several = [[losses[name] for name in SPEC.listed[:16]] for losses in by_seed(DOCUMENT).values()]
    between = [spearman(*pair) for pair in combinations(several, 2)]
    assert noise["spearman_between_seeds"] == pytest.approx(sum(between) / 3)
    assert noise["spearman_between_seeds"] > 0.85


def test_the_file_is_small() -> None:
    assert FILE.stat().st_size < 200_000


def test_it_is_the_default_and_needs_no_download(lpz: Lpz) -> None:
    code, out, _ = lpz("bench", "show", "--json")
    assert (code, json.loads(out)["benchmark"]) == (0, "tiny-lm")
    assert lpz("bench", "get", "tiny-lm")[1].strip() == "tiny-lm needs no download"
    assert "WordNet" in json.loads(out)["license"]


def test_the_grid_is_made_again() -> None:
    grid = runpy.run_path("scripts/make_tiny_lm_grid.py")["grid"]
    assert tuple(grid([7e3, 11e3, 17e3, 25e3], n=128, most=36864, deepest=6, seed=42)) == SPEC.listed
    with pytest.raises(SystemExit, match="of these sizes"):
        grid([7e3], n=64, most=36864, deepest=6, seed=42)
