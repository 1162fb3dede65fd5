"""The variance that an initialisation draws with, from the record of it alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from lpzero_hf.errors import NotApplicable
from lpzero_hf.models.build import build_model
from lpzero_hf.models.deferred_init import Ledger, NotDeferrable
from lpzero_hf.models.initial_variance import InitialVariances
from lpzero_hf.models.meta_device import ShapesOnly
from tests.support.families import tiny_model


def scaled(weight: Tensor) -> None:
    nn.init.normal_(weight, std=0.3)
    with torch.no_grad():
        weight.mul_(0.5).div_(3.0)


def in_parts(weight: Tensor) -> None:
    nn.init.zeros_(weight)
    with torch.no_grad():
        weight[:100].normal_(0.0, 0.2)


DRAWS: dict[str, Callable[[Tensor], object]] = {
    "torch's own": lambda weight: nn.init.kaiming_uniform_(weight, a=5**0.5),
    "normal": lambda weight: nn.init.normal_(weight, std=0.07),
    "a default normal": lambda weight: weight.data.normal_(),
    "uniform": lambda weight: nn.init.uniform_(weight, -0.5, 0.5),
    "xavier": nn.init.xavier_uniform_,
    "truncated": lambda weight: nn.init.trunc_normal_(weight, std=0.1, a=-0.15, b=0.15),
    "far truncated": lambda weight: nn.init.trunc_normal_(weight, std=0.02, a=-2, b=2),
    "lopsided": lambda weight: nn.init.trunc_normal_(weight, mean=0.1, std=0.1, a=0.05, b=0.4),
    "scaled": scaled,
    "zero": nn.init.zeros_,
    "again and again": lambda weight: (nn.init.ones_(weight), nn.init.normal_(weight, std=3.0)),
    "in parts": in_parts,
}


@pytest.mark.parametrize("how", DRAWS)
def test_the_moments_are_those_of_the_numbers_drawn(how: str) -> None:
    with Ledger() as ledger:
        layer = nn.Linear(300, 400)
        DRAWS[how](layer.weight)
    mean, variance = ledger.moments(layer.weight)
    values = ledger.make(layer.weight).detach()
    assert variance == pytest.approx(float(values.var()), rel=0.02, abs=1e-12)
    assert mean == pytest.approx(float(values.mean()), abs=0.02 * variance**0.5)


def test_numbers_that_depend_on_each_other_have_no_variance_of_their_own() -> None:
    with Ledger() as ledger:
        layer = nn.Linear(30, 40)
        nn.init.orthogonal_(layer.weight)
    with pytest.raises(NotDeferrable, match="depend on each other"):
        ledger.moments(layer.weight)


def test_recording_a_change_in_place_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Ledger, tensor: Tensor) -> Tensor:
        raise AssertionError("a weight was made")

    monkeypatch.setattr(Ledger, "make", refuse)
    with Ledger():
        layer = nn.Linear(30, 40)
        nn.init.normal_(layer.weight)


def test_the_residual_projections_of_gpt2_are_drawn_more_narrowly() -> None:
    model = tiny_model("gpt2")
    variances = InitialVariances(model)
    assert variances.of("transformer.h.0.mlp.c_fc.weight") == pytest.approx(0.02**2)
    assert variances.of("transformer.h.1.mlp.c_proj.weight") == pytest.approx(0.02**2 / 4)  # two blocks


def test_values_that_a_model_has_do_not_matter_nor_that_it_has_none() -> None:
    config = GPT2Config(n_layer=2, n_embd=64, n_head=2, vocab_size=96, initializer_range=0.5)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.zero_()
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    name = "transformer.h.0.mlp.c_fc.weight"
    assert InitialVariances(model).of(name) == 0.25
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    with ShapesOnly():
        assert InitialVariances(build_model(config, lazy=True)).of(name) == 0.25


def test_what_cannot_be_told_is_not_applicable() -> None:
    class Wrapped(GPT2LMHeadModel):
        def __init__(self, config: GPT2Config, extra: int) -> None:
            super().__init__(config)

    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=96)
    model: PreTrainedModel = Wrapped(config, 1)
    with pytest.raises(NotApplicable, match="from its configuration"):
        InitialVariances(model)
    variances = InitialVariances(GPT2LMHeadModel(config))
    with pytest.raises(NotApplicable, match="not in the model"):
        variances.of("other.weight")
    with pytest.raises(NotApplicable, match="around zero"):
        variances.of("transformer.ln_f.weight")
