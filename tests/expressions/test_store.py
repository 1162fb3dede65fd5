"""The store of raw statistics: any expression's score is what its operations make of the tensors."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.capture.spec import Reduced, Reduction
from lpzero_hf.errors import PluginError
from lpzero_hf.expressions.expression import BUILT_IN, Expression, Operations, parse
from lpzero_hf.expressions.operations import Unary
from lpzero_hf.expressions.rounding import steady
from lpzero_hf.expressions.store import RawStore, raw_reductions, sites_of
from lpzero_hf.models.build import build_model
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.stored_scores import StoredScores
from tests.support.raw_expressions import MODELS, Raw, defined, directly, raw, raw_of

LONG = ExpressionSpace((4, 4))
SNIP = parse("sum(sum(product(abs(W), abs(G))))")


def stored(
    *models: Raw, operations: Operations = BUILT_IN, dtype: torch.dtype | None = None, **options: Any
) -> RawStore:
    made = [sites_of(reduced(found, raw_reductions(dtype))) for found in models]
    return RawStore(made, operations, **options)


def reduced(found: Raw, reductions: Mapping[str, Reduction]) -> dict[str, list[Reduced]]:
    """What the reductions make of a model's raw tensors."""
    sites: dict[str, list[Reduced]] = {}
    for group, reduction in reductions.items():
        sites[group] = []
        for parts in zip(*(found[name] for name in reduction.reads if name != "mask"), strict=True):
            mask = [parts[0][2]] * ("mask" in reduction.reads)
            value = reduction.function(*(tensor for _, tensor, _ in parts), *mask)
            sites[group].append(Reduced(parts[0][0], "", value))
    return sites


def drawn(count: int, seed: int = 1) -> list[Expression]:
    """Expressions of four operations in each branch, none of which computes with what is 0 but for rounding."""
    rng, found = random.Random(seed), []
    while len(found) < count:
        expression = LONG.draw(rng)
        if not all(b.dropped for b in expression.branches) and all(map(defined, expression.branches)):
            found.append(expression)
    return found


def agree(expression: Expression, score: float, found: Raw) -> bool:
    """Whether the score is that of the raw tensors; not, if it is invalid because rounding decides it."""
    value, scale = directly(expression, found)
    if math.isfinite(value) and math.isnan(score):
        assert not steady(expression, BUILT_IN), str(expression)
        return False
    if math.isfinite(value):
        assert score == pytest.approx(value, rel=1e-6, abs=1e-10 * scale), str(expression)
    else:
        assert not math.isfinite(score), str(expression)
    return True


def test_scores_of_several_models_are_what_the_raw_tensors_come_to() -> None:
    models = [raw(family) for family in MODELS]
    models.append(models[0] | {"S": [site for site in models[0]["S"] if site[0] > 0]})  # attention in one block alone
    expressions = drawn(98)
    expressions += [parse(f"sum(sum({op}(abs(J), sqrt(A))))") for op in ("product", "matmul")]  # in either order
    scores = stored(*models).scores(expressions)
    assert scores.shape == (100, 5)
    agreed = [
        agree(expression, score, found)
        for expression, row in zip(expressions, scores.tolist(), strict=True)
        for score, found in zip(row, models, strict=True)
    ]
    assert sum(agreed) > 400


def test_what_a_batch_shares_and_remembers_changes_no_score() -> None:
    expressions = drawn(40, seed=2)
    together = stored(raw("gpt2"))
    first = together.scores(expressions)
    computed = together.computed
    assert torch.equal(together.scores(expressions[::-1]).flip(0).nan_to_num(), first.nan_to_num())
    assert together.computed == computed  # nothing is computed twice
    forgetful = stored(raw("gpt2"), memory=0)
    again = torch.cat([forgetful.scores([expression]) for expression in expressions])
    torch.testing.assert_close(again, first, rtol=1e-9, atol=1e-12, equal_nan=True)
    forgetful.scores(expressions)
    assert forgetful.computed > computed


def test_a_score_that_rounding_decides_is_invalid() -> None:
    noise = parse("sum(sum(sum(invert(normalized_sum(normalize(A))), disconnect(W))))")
    store = stored(raw("gpt2"))
    checked = store.scores([noise, SNIP])
    assert checked[0].isnan().all()
    assert torch.equal(checked[1], store.scores([SNIP], check=False)[0])
    assert store.scores([noise], check=False).isfinite().all()


def test_statistics_kept_in_half_precision_are_summed_in_single() -> None:
    whole, half = (stored(raw("gpt2"), dtype=dtype).scores([SNIP]) for dtype in (None, torch.bfloat16))
    assert half != whole
    found = raw("gpt2")
    narrow = {name: [(b, x.bfloat16().float(), m) for b, x, m in sites] for name, sites in found.items()}
    assert float(half) == pytest.approx(directly(SNIP, narrow)[0], rel=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["tiny-gpt2", "flexibert", "gpt2-wt103"])
def test_three_hundred_expressions_on_slices_of_three_benchmarks(name: str) -> None:
    if name != "tiny-gpt2" and "LPZ_DATA" not in os.environ:
        pytest.skip(f"LPZ_DATA does not say where the data of '{name}' are")
    benchmark = load_benchmark(name, load_plugins())
    trained = benchmark.trained()
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in trained[:: len(trained) // 8]}
    models = {key: build_model(config, seed=1, lazy=True) for key, config in configs.items()}
    smallest = sorted(configs, key=lambda key: sum(p.numel() for p in models[key].parameters()))[:2]
    setting = Setting(2, 6, dtype="float64")
    made = StoredScores({key: configs[key] for key in smallest}, setting, load_plugins())
    expressions = drawn(300, seed=5)
    scores = made.scores(expressions).tolist()
    agreed = 0
    for number, key in enumerate(smallest):
        found = raw_of(*setting.build(configs[key]))
        agreed += sum(agree(e, row[number], found) for e, row in zip(expressions, scores, strict=True))
    assert agreed > 450


# Operations of third parties -------------------------------------------------------------------------------


def with_operation(function: Callable[[Tensor], Tensor], scalar: bool = False) -> Operations:
    return {**BUILT_IN, "mine": Unary("mine", function, "mine", scalar=scalar)}


def by_value(x: Tensor) -> Tensor:
    return x * 2 if float(x.sum()) > 0 else x * 3


def in_place(x: Tensor) -> Tensor:
    return x.mul_(2)


def scored(operations: Operations) -> Tensor:
    expression = parse("sum(sum(sum(mine(abs(A)), mine(G))))", operations)
    return stored(raw("gpt2"), raw("bert"), operations=operations).scores([expression], check=False)


def test_an_operation_that_decides_by_values_is_run_on_one_matrix_at_a_time() -> None:
    expected = scored(with_operation(lambda x: torch.where(x.sum() > 0, x * 2, x * 3)))
    torch.testing.assert_close(scored(with_operation(by_value)), expected)


@pytest.mark.parametrize(
    ("function", "scalar", "words"),
    [
        (lambda x: x.sum(0), False, "'mine' gives"),
        (lambda x: x, True, "'mine' gives"),
        (lambda x: 1.0, True, "'mine' gives"),
        (lambda x: x > 0, False, "'mine' gives"),
        (in_place, False, "'mine' writes into"),
    ],
)
def test_an_operation_that_breaks_its_promise_is_named(
    function: Callable[[Tensor], Tensor], scalar: bool, words: str
) -> None:
    with pytest.raises(PluginError, match=words):
        scored(with_operation(function, scalar))


def test_an_operation_that_gives_no_numbers_makes_an_invalid_score() -> None:
    assert scored(with_operation(lambda x: x * math.nan)).isnan().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_scores_on_a_gpu_are_those_of_the_cpu() -> None:
    expressions = drawn(100, seed=3)
    models = [raw(family) for family in MODELS]
    on_gpu = [{n: [(b, x.cuda(), m.cuda()) for b, x, m in sites] for n, sites in found.items()} for found in models]
    made = stored(*on_gpu, device="cuda").scores(expressions, check=False)
    torch.testing.assert_close(
        made.cpu(), stored(*models).scores(expressions, check=False), rtol=1e-6, atol=1e-9, equal_nan=True
    )
