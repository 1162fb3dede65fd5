"""What proxies compute from Gram matrices, against plain decompositions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lpz_proxies.activations import factored_components, principal_components
from lpz_proxies.gradients import nuclear_norm, sign_determinant, well_conditioned_norm
from lpz_proxies.gram import full, gram
from torch import Tensor


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 5, 256, 257, 300, 515])
def test_the_lower_triangle_is_that_of_the_product(rows: int) -> None:
    matrix = normal(rows, 40).double()
    torch.testing.assert_close(full(gram(matrix)), matrix @ matrix.T)
    if rows > 256:
        assert not gram(matrix)[0, -1]  # not computed


def by_eigenvalues(G: Tensor) -> float:
    eigenvalues = torch.linalg.eigvalsh(G.sign().double() @ G.sign().double().T)
    return float(eigenvalues.log().sum().sigmoid()) if eigenvalues[0] > 1e-8 else 0.0


@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (40, 40), (60, 300), (300, 301)])
def test_a_determinant_of_signs_needs_no_eigenvalues(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    G = normal(*shape)
    expected = by_eigenvalues(G)
    assert expected > 0

    def refuse(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.linalg, "eigvalsh", refuse)
    assert float(sign_determinant(G)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rows", [3, 80, 300])
def test_signs_that_depend_on_each_other_count_nothing(rows: int) -> None:
    G = normal(rows, 320)
    G[-1] = -G[0]
    assert float(sign_determinant(G)) == 0
    G[-1] = 0
    assert float(sign_determinant(G)) == 0


def test_the_norm_of_a_random_weight_needs_no_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    W = 0.02 * normal(200, 300)
    expected = float(torch.linalg.svdvals(W.double()).sum())
    monkeypatch.setattr("lpz_proxies.gradients.nuclear_norm", lambda matrix: 1 / 0)
    assert float(well_conditioned_norm(W)) == pytest.approx(expected, rel=1e-6)


def test_the_norm_of_an_ill_conditioned_weight_is_taken_in_double_precision() -> None:
    left, right = (torch.linalg.qr(normal(200, 200, seed=seed).double())[0] for seed in (1, 2))
    W = (left * torch.logspace(0, -7, 200).double()) @ right
    assert float(well_conditioned_norm(W.float())) == float(nuclear_norm(W.float()))
    assert float(well_conditioned_norm(W.float())) == pytest.approx(float(torch.linalg.svdvals(W).sum()), rel=1e-4)


def layer() -> tuple[Tensor, Tensor, Tensor]:
    """X, of unlike strong directions, W and the mask of a layer that widens."""
    X, mask = normal(4, 20, 24) * torch.logspace(0, -2, 24), torch.ones(4, 20, dtype=torch.bool)
    mask[0, 9:] = False
    return X, normal(90, 24, seed=1), mask


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99, 0.999])
def test_a_wider_output_has_the_components_that_its_input_and_weight_tell(
    threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, W, mask = layer()
    A = X @ W.T + normal(90, seed=2)
    expected = principal_components(A, mask, threshold)
    monkeypatch.setattr("lpz_proxies.activations.principal_components", lambda *_: 1 / 0)
    assert factored_components(A, X, W, mask, threshold) == expected


@pytest.mark.parametrize("case", ["another function", "no input", "narrow", "singular"])
def test_an_output_of_another_kind_is_read_itself(case: str) -> None:
    X, W, mask = layer()
    if case == "narrow":
        W = W[:20]
    if case == "singular":
        W[:, 3] = 0
    A = X @ W.T
    if case == "another function":
        A = A.tanh()
    if case == "no input":
        X, W = X[..., :0], W[:0, :0]
    assert factored_components(A, X, W, mask, 0.99) == principal_components(A, mask, 0.99)
