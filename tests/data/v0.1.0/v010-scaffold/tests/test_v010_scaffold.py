"""`v010_scaffold` keeps to the contract of a proxy, and computes what its formula says."""

from __future__ import annotations

import pytest
import torch
from v010_scaffold import saliency_norm

from lpzero_hf import score


@pytest.mark.lpz_proxies("v010_scaffold")
def test_it_conforms(lpz_check):
    lpz_check()


def test_the_formula_by_hand():
    W, G = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]])
    assert saliency_norm(W, G) == 5.0  # the norm of [3, 4]


def test_it_scores_every_tiny_model(lpz_model, lpz_batch):
    assert score(lpz_model, lpz_batch, "v010_scaffold")["v010_scaffold"].require() > 0
