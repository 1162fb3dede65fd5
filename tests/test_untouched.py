"""`score` leaves the model and the process exactly as it found them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf import score
from lpzero_hf.isolation import HOOKS, isolated
from lpzero_hf.proxy import ModelProxy, StatisticProxy, Subject
from lpzero_hf.reduction import Reduction
from tests.families import tiny_model


def state(model: PreTrainedModel) -> dict[str, Any]:
    """Everything about a model and the random number generators that scoring could disturb, by identity and by bits."""
    return {
        "parameters": [(n, id(p), p.detach().clone(), p._version) for n, p in model.named_parameters()],
        "grads": [(n, None if p.grad is None else (id(p.grad), p.grad.clone())) for n, p in model.named_parameters()],
        "requires_grad": [(n, p.requires_grad) for n, p in model.named_parameters()],
        "parameter hooks": [(n, p._backward_hooks, p._post_accumulate_grad_hooks) for n, p in model.named_parameters()],
        "buffers": [(n, id(b), b.clone()) for n, b in model.named_buffers()],
        "modes": [(n, m.training) for n, m in model.named_modules()],
        "hooks": [(n, h, dict(getattr(m, h))) for n, m in model.named_modules() for h in HOOKS],
        "config": copy.deepcopy(model.config.to_dict()),
        "kernels": (model.config._attn_implementation, getattr(model.config, "_experts_implementation", None)),
        "rng": (torch.get_rng_state(), random.getstate(), str(numpy.random.get_state())),
        "grad mode": torch.is_grad_enabled(),
    }


def same(a: Any, b: Any) -> bool:
    """Deep equality in which tensors must agree in every bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def disturb(model: PreTrainedModel) -> None:
    """Give the model a past: gradients, a hook, frozen weights, mixed modes."""
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 3 != 0)
        parameter.grad = torch.full_like(parameter, 0.5) if index % 2 else None
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    next(iter(model.children())).register_forward_hook(lambda *_: None)


def rude(model: PreTrainedModel, batch: dict[str, Tensor]) -> float:
    """A stranger's proxy with bad manners, that fails in the end."""
    model.train()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    model.lm_head = nn.Identity()
    batch["input_ids"].zero_()
    for module in model.modules():
        module.register_forward_hook(lambda *_: None)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0).requires_grad_(False)
        for buffer in model.buffers():
            buffer.zero_()
    torch.manual_seed(0)
    random.seed(0)
    raise RuntimeError("gave up")


def rude_in_capture(W: Tensor, G: Tensor) -> Tensor:
    """A reduction that raises in the middle of the backward pass."""
    raise ZeroDivisionError("no such thing")


def rude_in_its_pass(subject: Subject) -> float:
    """A proxy with a pass of its own that leaves everything open when it raises."""
    subject.model.train()
    subject.model.register_forward_pre_hook(lambda *_: None)
    torch.rand(3)
    raise ValueError("lost")


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "albert", "falcon", "t5", "gpt_neo"])
def test_score_leaves_everything_as_it_was(family: str, batch: dict[str, Tensor]) -> None:
    model = tiny_model(family)
    disturb(model)
    before = state(model)
    score(model, batch)
    after = state(model)
    for what, value in before.items():
        assert same(value, after[what]), f"score changed the {what} of {family}"


@pytest.mark.parametrize("family", ["gpt2", "llama"])  # llama has buffers
@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        (rude, "gave up"),
        (
            StatisticProxy(name="a", formula="", reductions=(Reduction("linear", ("W", "G"), rude_in_capture),)),
            "no such thing",
        ),
        (ModelProxy(name="b", formula="", evaluate=rude_in_its_pass), "lost"),
    ],
    ids=["function", "reduction", "own pass"],
)
def test_a_proxy_that_raises_leaves_everything_as_it_was(
    proxy: Callable[..., float], reason: str, family: str, batch: dict[str, Tensor]
) -> None:
    model = tiny_model(family)
    disturb(model)
    before, ids = state(model), batch["input_ids"].clone()
    scores = score(model, batch, [proxy, "snip"])
    assert torch.equal(batch["input_ids"], ids)
    first = next(iter(scores.values()))
    assert first.status == "failed"
    assert reason in first.reason
    assert scores["snip"].status == "ok"
    after = state(model)
    for what, value in before.items():
        assert same(value, after[what]), f"the failing proxy changed the {what}"


def test_a_reduction_that_writes_into_the_model_is_told_so(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    writes = Reduction("linear", ["W"], lambda W: W.mul_(1).sum())
    row = score(gpt2, batch, StatisticProxy(name="greedy", formula="", reductions=[writes]))["greedy"]
    assert row.status == "failed"
    assert "writes into W" in row.reason


def test_a_model_that_raises_is_left_as_it_was(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken forward")

    gpt2.transformer.h[1].mlp.register_forward_hook(fail)
    before = state(gpt2)
    assert score(gpt2, batch, "snip")["snip"].status == "failed"
    after = state(gpt2)
    assert all(same(value, after[what]) for what, value in before.items())


def test_scoring_does_not_depend_on_the_callers_random_state(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    first = {name: row.value for name, row in score(gpt2, batch).items()}
    torch.rand(7)
    gpt2.train()
    assert {name: row.value for name, row in score(gpt2, batch).items()} == first


def test_shared_parameters_stay_shared_inside(gpt2: PreTrainedModel) -> None:
    with isolated(gpt2):
        assert gpt2.lm_head.weight is gpt2.transformer.wte.weight
        assert isinstance(gpt2.lm_head.weight, nn.Parameter)
    assert gpt2.lm_head.weight is gpt2.transformer.wte.weight
