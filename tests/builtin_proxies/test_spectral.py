"""Neural Spectral Capacity: what is expected of a random matrix is what it has; no weight is needed for it."""

from __future__ import annotations

import math

import pytest
import torch
from lpz_proxies.spectral import capacity, expected_capacity
from transformers import AutoConfig, GPT2Config

from lpzero_hf import score
from lpzero_hf.models.build import build_model
from lpzero_hf.models.lazy import Source, make_lazy
from tests.support.families import FAMILIES, tiny_model


@pytest.mark.parametrize("variance", [1e-8, 4e-4, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("shape", [(96, 96), (96, 400), (400, 96), (3, 2000), (1, 1500)])
def test_a_random_matrix_has_the_capacity_expected(shape: tuple[int, int], variance: float) -> None:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(*shape, generator=generator, dtype=torch.float64) * math.sqrt(variance)
    exact = float(torch.linalg.svdvals(matrix).square().log1p().sum())
    assert float(capacity(matrix)) == pytest.approx(exact, rel=1e-12)
    assert expected_capacity(*shape, variance) == pytest.approx(exact, rel=0.05)


def test_nothing_is_expected_of_nothing() -> None:
    assert expected_capacity(8, 8, 0.0) == expected_capacity(0, 8, 1.0) == 0.0


@pytest.mark.parametrize(
    "family", ["gpt2", "llama", "bert", "t5", "mixtral", "deepseek_v3", "albert", "mamba2", "xlnet"]
)
def test_both_agree_on_a_model_at_random_initialisation(family: str) -> None:
    rows = score(tiny_model(family), None, ["nsc", "nsc_expected"])
    assert rows["nsc_expected"].require() == pytest.approx(rows["nsc"].require(), rel=0.03)


def test_a_family_whose_weights_are_not_independent_says_so() -> None:
    row = score(tiny_model("rwkv"), None, ["nsc_expected"])["nsc_expected"]
    assert (row.value, row.status) == (None, "not applicable")
    assert "depend on each other" in row.reason


def test_a_model_too_large_for_any_memory_is_scored_from_shapes() -> None:
    def refuse() -> None:
        raise AssertionError("the whole model was built")

    config = GPT2Config(n_layer=3, n_embd=16384, n_head=16, vocab_size=96)
    lazy = make_lazy(build_model(config, lazy=True), Source(refuse))  # type: ignore[arg-type]
    d, s2 = 2**14, 0.02**2
    matrices = (3 * d, d, s2), (d, d, s2 / 6), (4 * d, d, s2), (d, 4 * d, s2 / 6)
    expected = 3 * sum(expected_capacity(*matrix) for matrix in matrices)
    assert score(lazy, None, ["nsc_expected"])["nsc_expected"].require() == pytest.approx(expected)


def test_experts_count_one_by_one() -> None:
    configs = [AutoConfig.for_model("mixtral", **FAMILIES["mixtral"] | {"num_local_experts": n}) for n in (4, 8)]
    few, many = (score(build_model(c, lazy=True), None, ["nsc_expected"])["nsc_expected"].require() for c in configs)
    assert many > 1.5 * few


def test_weights_that_are_not_finite_are_invalid() -> None:
    model = tiny_model("gpt2")
    with torch.no_grad():
        next(p for p in model.transformer.h.parameters() if p.dim() == 2)[0, 0] = torch.nan
    row = score(model, None, ["nsc"])["nsc"]
    assert (row.value, row.status) == (None, "invalid")
    assert "a weight is not finite" in row.reason
