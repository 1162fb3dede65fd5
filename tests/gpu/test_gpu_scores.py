"""Every proxy gives on a GPU what it gives on the CPU: the same ranks, and the same values to rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lpzero_hf import score
from lpzero_hf.testing import tiny_batch, tiny_model
from studies.cost.devices import FAMILY_NAMES, FRAGILE, SETTING, TOLERANCE, architectures, compare_proxies

pytestmark = pytest.mark.gpu
MODELS = 3  # of each family; fewer have no ranks


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_all_proxies_agree_with_the_cpu(family: str, card: torch.device) -> None:
    compared = compare_proxies(family, architectures(family, MODELS), replace(SETTING, device=str(card)))
    assert len(compared) > 35
    assert sum(one.models == MODELS for one in compared) > 25
    assert [one for one in compared if not one.agrees] == []


@pytest.mark.parametrize("options", [{"checkpointing": True}, {"micro_batch": 1}, {"dtype": torch.float64}], ids=str)
def test_settings_of_the_shared_pass_change_rounding_alone(options: dict[str, Any], card: torch.device) -> None:
    model = tiny_model("llama", device=card)
    plain, other = (score(model, tiny_batch(model), "all", **given) for given in ({}, options))
    for name, row in plain.items():
        tolerance = FRAGILE.get(name, 10 * TOLERANCE)
        assert other[name].status == row.status, name
        assert other[name].value == (None if row.value is None else pytest.approx(row.value, rel=tolerance)), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_gives_numbers(dtype: torch.dtype, card: torch.device) -> None:
    model = tiny_model("llama", dtype=dtype, device=card)
    rows = score(model, tiny_batch(model), "all")
    assert {row.proxy: row.reason for row in rows.rows if row.status == "failed"} == {}


def test_a_minibatch_on_the_cpu_goes_to_the_model(card: torch.device) -> None:
    model = tiny_model("gpt2", device=card)
    here, there = score(model, tiny_batch(), ["snip", "zen"]), score(model, tiny_batch(model), ["snip", "zen"])
    assert [row.value for row in here.rows] == [row.value for row in there.rows]


def draws(model: PreTrainedModel, batch: dict[str, Tensor]) -> float:
    """A proxy that draws from the generator of the model's device."""
    return float(torch.rand((), device=model.device))


def test_random_numbers_of_the_device_are_seeded(card: torch.device) -> None:
    model = tiny_model("gpt2", device=card)
    first = score(model, tiny_batch(model), [draws], seed=7)
    torch.rand(5, device=card)
    assert score(model, tiny_batch(model), [draws], seed=7)["draws"].require() == first["draws"].require()
    assert score(model, tiny_batch(model), [draws], seed=8)["draws"].require() != first["draws"].require()
