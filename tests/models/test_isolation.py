"""`score` leaves the model and the process exactly as it found them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf import score
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.models.isolation import isolated
from lpzero_hf.models.objective import first_output, run_model, with_labels
from lpzero_hf.proxies.base import ModelProxy, StatisticProxy, Subject
from lpzero_hf.testing.model_state import State, changes, disturb, state
from tests.support.families import RARE, tiny_model

SOME = ("gpt2", "gpt_neo", "falcon", "llama", "mixtral", "gemma2", "bert", "albert", "t5", "xlnet", "rwkv", "mamba")


def everything(model: PreTrainedModel, batch: dict[str, Tensor]) -> State:
    """What the conformance kit looks at, and what it forgives a proxy: writing a weight's own value into it."""
    writes = [(name, parameter._version) for name, parameter in model.named_parameters()]
    experts = getattr(model.config, "_experts_implementation", None)
    return state(model, batch) | {"writes into weights": writes, "kernel of experts": experts}


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


def runs_once(model: PreTrainedModel, batch: dict[str, Tensor]) -> float:
    """A user's function that runs the model."""
    return float(first_output(run_model(model, batch)).detach().double().sum())


@pytest.mark.parametrize("family", [*SOME, *RARE])
def test_score_leaves_everything_as_it_was(family: str, batch: dict[str, Tensor]) -> None:
    model, untouched = tiny_model(family), tiny_model(family)
    disturb(model)
    before = everything(model, batch)
    score(model, batch, ["all", runs_once])
    assert changes(before, everything(model, batch)) == []
    fed = with_labels(model, batch, seed=42)
    with torch.no_grad():
        outputs = [first_output(run_model(each.eval(), fed)) for each in (model, untouched)]
    assert torch.equal(*outputs)


def test_a_model_that_writes_into_its_minibatch_gets_a_copy(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    def writes(module: nn.Module, inputs: Any, named: dict[str, Any]) -> None:
        named["input_ids"].zero_()

    gpt2.register_forward_pre_hook(writes, with_kwargs=True)
    before = everything(gpt2, batch)
    score(gpt2, batch, ["snip", "zen", "grasp", "zico", runs_once])
    assert changes(before, everything(gpt2, batch)) == []


def test_the_families_above_are_forty() -> None:
    assert len({*SOME, *RARE}) >= 40


@pytest.mark.parametrize("options", [{}, {"dtype": torch.float64}, {"checkpointing": True}, {"micro_batch": 1}])
def test_rwkv_keeps_its_weights_and_its_scores(options: dict[str, Any], batch: dict[str, Tensor]) -> None:
    """It divides weights in place in its first pass in eval mode, and remembers that in an attribute."""
    model = tiny_model("rwkv", num_hidden_layers=3, rescale_every=1)
    before = everything(model, batch)
    proxies = ["l2_norm", "snip", "synflow", "zen", "grasp", "params", runs_once]
    first = score(model, batch, proxies, **options)
    assert changes(before, everything(model, batch)) == []
    second = score(model, batch, proxies, **options)
    assert {row.status for row in first.values()} == {"ok"}
    assert [row.value for row in first.values()] == [row.value for row in second.values()]
    weight = model.rwkv.blocks[2].attention.output.weight.clone()
    runs_once(model, batch)
    assert torch.equal(model.rwkv.blocks[2].attention.output.weight * 4, weight)  # the user's own pass still does


def draws(model: PreTrainedModel, batch: dict[str, Tensor]) -> float:
    """A user's function that seeds everything."""
    torch.manual_seed(0)
    torch.cuda.manual_seed(0)
    return float(torch.rand(()))


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="CUDA has started: its queue is no longer used")
def test_generators_of_cuda_are_neither_seeded_nor_queued_for_a_model_on_the_cpu(
    gpt2: PreTrainedModel, batch: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    queued = [*torch.cuda._queued_calls], [*torch.cuda._lazy_seed_tracker.get_calls()]
    score(gpt2, batch, ["params", "snip", "zen", "zico", runs_once])
    assert not seeded
    assert queued == ([*torch.cuda._queued_calls], [*torch.cuda._lazy_seed_tracker.get_calls()])
    monkeypatch.undo()
    score(gpt2, batch, draws)
    assert queued == ([*torch.cuda._queued_calls], [*torch.cuda._lazy_seed_tracker.get_calls()])


def test_every_generator_is_seeded_inside_and_restored(gpt2: PreTrainedModel) -> None:
    def drawn() -> tuple[float, float, float]:
        return float(torch.rand(())), random.random(), float(numpy.random.rand())

    with isolated(gpt2, seed=7):
        inside = drawn()
    drawn()  # so that the state outside is not the one that is left inside
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state(legacy=False)["state"]
    with isolated(gpt2, seed=7):
        assert drawn() == inside
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    after = numpy.random.get_state(legacy=False)["state"]
    assert before[2]["pos"] == after["pos"]
    assert (before[2]["key"] == after["key"]).all()


@pytest.mark.parametrize("family", ["gpt2", "llama"])  # llama has buffers
@pytest.mark.parametrize(
    ("proxy", "reason"),
    [
        (rude, "gave up"),
        (
            StatisticProxy(name="a", formula="", reductions=(Reduction("linear", ("W", "G"), rude_in_capture),)),
            "no such",
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
    before, ids = everything(model, batch), batch["input_ids"].clone()
    scores = score(model, batch, [proxy, "snip"])
    assert torch.equal(batch["input_ids"], ids)
    first = next(iter(scores.values()))
    assert first.status == "failed"
    assert reason in first.reason
    assert scores["snip"].status == "ok"
    assert changes(before, everything(model, batch)) == []


def test_a_reduction_that_writes_into_the_model_is_told_so(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    writes = Reduction("linear", ["W"], lambda W: W.mul_(1).sum())
    row = score(gpt2, batch, StatisticProxy(name="greedy", formula="", reductions=[writes]))["greedy"]
    assert row.status == "failed"
    assert "writes into W" in row.reason


def test_a_model_that_raises_is_left_as_it_was(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken forward")

    gpt2.transformer.h[1].mlp.register_forward_hook(fail)
    before = everything(gpt2, batch)
    assert score(gpt2, batch, "snip")["snip"].status == "failed"
    assert changes(before, everything(gpt2, batch)) == []


def test_scoring_does_not_depend_on_the_callers_random_state(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    first = {name: row.value for name, row in score(gpt2, batch, "all").items()}
    torch.rand(7)
    gpt2.train()
    assert {name: row.value for name, row in score(gpt2, batch, "all").items()} == first


def test_shared_parameters_stay_shared_inside(gpt2: PreTrainedModel) -> None:
    with isolated(gpt2):
        assert gpt2.lm_head.weight is gpt2.transformer.wte.weight
        assert isinstance(gpt2.lm_head.weight, nn.Parameter)
    assert gpt2.lm_head.weight is gpt2.transformer.wte.weight
