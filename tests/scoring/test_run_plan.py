"""How a model is scored in the memory that is free, and the order of its passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from lpzero_hf import Scores, load_model, minibatch, score
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.minibatch import check_minibatch
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import FunctionProxy, ModelProxy
from lpzero_hf.proxies.resolve import resolve
from lpzero_hf.scoring.expected_time import ExpectedTime, expected_time, measured_rate
from lpzero_hf.scoring.memory_estimate import GIB, MemoryEstimate, estimate_memory
from lpzero_hf.scoring.pass_order import passes_of
from lpzero_hf.scoring.run_plan import RunPlan, plan_run, planned
from lpzero_hf.scoring.score import score_proxies
from lpzero_hf.scoring.scores import ScoreError
from tests.capture.test_unusual_models import Skipping, built
from tests.support.families import JETMOE, tiny_model

FREE = "lpzero_hf.scoring.memory_estimate.available_bytes"
Batch = dict[str, torch.Tensor]


def expected(model: PreTrainedModel, batch: Any, *names: str, device: str = "cpu") -> MemoryEstimate:
    """What proxies need on a model whose weights are there."""
    plugins = load_plugins()
    made = estimate_memory(model, batch, resolve(names, plugins), layout_of(model, plugins))
    return replace(made, weights=0, device=device)


# The way -------------------------------------------------------------------------------------------------------


def test_memory_decides_the_way_and_what_is_left_out() -> None:
    model = load_model("gpt2-variant", lazy=True).model
    estimate = expected(model, minibatch(model, batch_size=4), "snip", "params", "grasp")
    snip = estimate.of(resolve("snip"))
    again = snip.having(True, None).bytes
    assert again < snip.bytes < estimate.bytes

    def other(available: int) -> tuple[tuple[tuple[bool, int | None], ...], bool]:
        plan = planned(replace(estimate, available=available))
        return plan.instead, plan.refusable

    assert other(2 * estimate.bytes) == ((), False)
    assert other(2 * snip.bytes - 1) == (((False, None),), False)  # as asked for, if the model refuses
    assert other(again) == ((), True)

    def way(available: int | None) -> tuple[bool, int | None, list[str]]:
        plan = planned(replace(estimate, available=available))
        return plan.checkpointing, plan.micro_batch, list(plan.left_out)

    assert way(None) == (False, None, [])
    assert way(2 * estimate.bytes) == (False, None, [])
    assert way(2 * snip.bytes) == (False, None, [] if 2 * snip.bytes >= estimate.bytes else ["grasp"])
    assert way(2 * snip.bytes - 1)[:2] == (True, None)  # an estimate may be wrong by a factor of two
    assert way(again) == (True, None, ["grasp"])
    assert way(1)[2] == ["snip", "grasp"]


def test_a_gpu_that_is_short_of_memory_runs_micro_batches() -> None:
    model = load_model("gpt2-variant", lazy=True).model
    estimate = expected(model, minibatch(model), "snip", device="cuda")
    half = estimate.having(True, 8).bytes
    assert half < estimate.having(True, None).bytes
    plan = planned(replace(estimate, available=half))
    assert (plan.checkpointing, plan.micro_batch, plan.left_out) == (True, 8, {})
    plan = planned(replace(estimate, available=estimate.having(True, 1).bytes))
    assert (plan.micro_batch, plan.left_out) == (1, {})
    fixed = planned(replace(estimate, available=half), fixed=True)
    assert (fixed.checkpointing, fixed.micro_batch, list(fixed.left_out)) == (False, None, ["snip"])


def test_the_default_run_of_a_model_of_600m_parameters_fits_into_12_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AutoConfig.for_model(
        "qwen3", hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, vocab_size=151936, tie_word_embeddings=True,
    )  # fmt: skip
    model, plugins = build_model(config, lazy=True), load_plugins()
    monkeypatch.setattr(FREE, lambda device: 22 * GIB)
    plan = plan_run(model, minibatch(model), resolve(["snip", "w_pca", "head_importance", "params"]), plugins=plugins)
    assert plan.estimate is not None
    assert (plan.checkpointing, plan.micro_batch, plan.left_out) == (True, None, {})
    assert plan.estimate.bytes < 11.5 * GIB
    assert plan.estimate.footprint.itemsize == 4  # in single precision, as any other model


def test_the_reason_names_what_is_needed_what_is_free_and_what_would_do() -> None:
    model = load_model("gpt2-variant", lazy=True).model
    estimate = expected(model, minibatch(model), "params", "grasp")
    (reason,) = planned(replace(estimate, available=int(0.7 * estimate.bytes))).left_out.values()
    needed, free = estimate.bytes / GIB, 0.7 * estimate.bytes / GIB
    assert reason == f"it needs about {needed:.1f} GiB of RAM, and {free:.1f} are free; it would fit with bfloat16"
    (reason,) = planned(replace(estimate, available=1)).left_out.values()
    assert reason.endswith("are free")
    assert "--" not in reason


def test_a_family_that_would_be_built_for_flops_is_not_built_where_it_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build_model(AutoConfig.for_model("jetmoe", **JETMOE), lazy=True)
    batch = minibatch(model, batch_size=2, seq_len=16)
    monkeypatch.setattr(FREE, lambda device: 1000)
    plan = plan_run(model, batch, resolve(["params", "flops", "snip"]), plugins=load_plugins())
    assert list(plan.left_out) == ["snip", "flops"]


# A model that refuses the way ------------------------------------------------------------------------------------


class OnlyOnce(GPT2LMHeadModel):
    """Its blocks go another way, or fail, when they run a second time for one forward pass."""

    def __init__(self, config: GPT2Config, raises: bool) -> None:
        super().__init__(config)
        self.ran: set[int] = set()
        for block in self.transformer.h:
            block.forward = self.counted(block.forward, raises)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        self.ran.clear()
        return super().forward(*inputs, **keywords)

    def counted(self, forward: Any, raises: bool) -> Any:
        def run(hidden: torch.Tensor, *inputs: Any, **keywords: Any) -> Any:
            again = id(forward) in self.ran
            if again and raises:
                raise RuntimeError("the cache is full")
            self.ran.add(id(forward))
            return forward(hidden if again else hidden.sigmoid().logit(), *inputs, **keywords)

        return run


@pytest.mark.parametrize(
    ("kind", "plan"),
    [
        ("router", RunPlan(True, 1, instead=((True, None),))),
        ("raises", RunPlan(True, None, instead=((False, None),))),
        ("differs", RunPlan(True, None, instead=((False, None),))),
    ],
)
def test_a_way_that_the_model_refuses_gives_place_to_another_that_fits(kind: str, plan: RunPlan) -> None:
    def made() -> PreTrainedModel:
        torch.manual_seed(0)
        if kind == "router":
            return tiny_model("mixtral", output_router_logits=True).eval()
        config = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=4096, n_positions=16)
        return OnlyOnce(config, raises=kind == "raises").eval()

    model, plugins, names = made(), load_plugins(), ["snip", "l2_norm", "num_layers"]
    batch = check_minibatch(minibatch(model, batch_size=3, seq_len=8), model)
    wanted = score_proxies(made(), batch, resolve(names), RunPlan(*plan.instead[0]), plugins=plugins)
    assert all(row.status == "ok" for row in wanted.rows)
    scores = score_proxies(model, batch, resolve(names), plan, plugins=plugins)
    assert [(row.value, row.status) for row in scores.rows] == [(row.value, row.status) for row in wanted.rows]
    assert (scores.checkpointing, scores.micro_batch) == plan.instead[0]
    left = score_proxies(made(), batch, resolve(names), replace(plan, instead=(), refusable=True), plugins=plugins)
    assert [row.status for row in left.rows] == ["left out", "ok", "ok"]  # the norm of weights needs no second run
    assert "more memory than is free, because" in left["snip"].reason
    assert not left["snip"].reason.endswith("without checkpointing")
    asked = score_proxies(made(), batch, resolve(names), replace(plan, instead=()), plugins=plugins)
    assert [row.status for row in asked.rows] == ["failed", "ok", "ok"]


def test_a_precision_of_shared_passes_does_not_narrow_passes_of_their_own(gpt2: PreTrainedModel, batch: Batch) -> None:
    estimate = expected(gpt2, batch, "snip", "grasp")
    half = replace(estimate, shared_itemsize=2).of(estimate.proxies)
    (whole_snip, whole_grasp), (snip, grasp) = estimate.passes, half.passes
    assert snip.total < whole_snip.total
    assert grasp == whole_grasp


def test_a_lazy_model_is_planned_in_the_memory_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(FREE, lambda device: asked.append(str(device)))
    model = load_model("gpt2-variant", lazy=True, device="cuda:0").model
    plan_run(model, minibatch(model), resolve("snip"), plugins=load_plugins(), notable=0)
    assert set(asked) == {"cuda:0"}


# Scores --------------------------------------------------------------------------------------------------------


def test_scores_carry_what_is_left_out_and_force_tries_it(
    gpt2: PreTrainedModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["grasp", "params", "snip", "dss"]
    whole = score(gpt2, batch, names)
    free = expected(gpt2, batch, "snip").having(True, None).bytes
    assert free < expected(gpt2, batch, "grasp").bytes
    monkeypatch.setattr(FREE, lambda device: free)
    scores = score(gpt2, batch, names)
    assert list(scores) == names
    assert (scores["grasp"].value, scores["grasp"].status) == (None, "left out")
    assert "are free" in scores.to_rows()[0]["reason"]
    assert [scores[name].value for name in names[1:]] == [whole[name].value for name in names[1:]]  # checkpointed
    with pytest.raises(ScoreError, match="left out"):
        scores["grasp"].require()
    assert score(gpt2, batch, names, force=True)["grasp"].value == whole["grasp"].value


def test_a_composite_proxy_of_one_that_is_left_out_says_so(
    gpt2: PreTrainedModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FREE, lambda device: 1)
    row = score(gpt2, batch, "lpzero-any")["lpzero-any"]
    assert row.status == "left out"
    assert ": it needs about" in row.reason


def test_rows_come_pass_by_pass_and_the_last_are_the_scores(gpt2: PreTrainedModel, batch: Batch) -> None:
    told: list[Scores] = []
    steps: list[str] = []
    names = ["grasp", "snip", "synflow", "params"]
    scores = score(gpt2, batch, names, finished=told.append, progress=lambda step, done, total: steps.append(step))
    assert steps == ["params", "loss pass", "synflow pass", "grasp", ""]
    assert [list(rows) for rows in told] == [["params"], ["snip", "params"], ["snip", "synflow", "params"], names]
    for rows in told:
        assert all(rows[name].value == scores[name].value for name in rows)
    assert told[-1] == scores


def test_a_composite_proxy_has_a_row_when_its_last_member_has(gpt2: PreTrainedModel, batch: Batch) -> None:
    told: list[Scores] = []
    scores = score(gpt2, batch, ["lpzero-any", "grasp"], finished=told.append)
    assert not told[0]
    assert told[-2] == Scores(scores.rows[:1], scores.seconds)


def test_passes_that_begin_again_take_back_their_rows() -> None:
    model = built(Skipping)  # which of its blocks run turns out in the first pass with weights
    told: list[dict[str, float | None]] = []
    scores = score(
        model, minibatch(model, batch_size=3, seq_len=8), ["num_layers", "snip"],
        finished=lambda rows: told.append({name: row.value for name, row in rows.items()}),
    )  # fmt: skip
    assert told == [
        {"num_layers": 4}, {}, {"num_layers": 3}, {"num_layers": 3, "snip": scores["snip"].value},
    ]  # fmt: skip


# Order and time ------------------------------------------------------------------------------------------------


def test_what_is_cheap_or_shared_runs_first_and_the_costliest_last() -> None:
    costly = ModelProxy(name="costly", formula="", evaluate=lambda subject: 0.0, needs="40 forward", work=40)
    plain = FunctionProxy(name="plain_function", formula="", function=lambda model, batch: 0.0)
    chosen = [costly, plain, *resolve(["grasp", "zen", "synflow", "snip", "l2_norm", "flops", "nwot"])]
    order = [[proxy.name for proxy in one.proxies] for one in passes_of(chosen)]
    assert order == [["flops"], ["snip", "l2_norm", "nwot"], ["synflow"], ["plain_function"], ["zen"], ["grasp"],
                     ["costly"]]  # fmt: skip
    assert [one.work for one in passes_of(resolve(["l2_norm", "params"]))] == [0.0, 0.0]
    assert passes_of(resolve("nwot"))[0].work < passes_of(resolve("snip"))[0].work


def test_passes_that_are_done_correct_the_expected_time() -> None:
    time = ExpectedTime({"params": 0.0, "loss pass": 4.0, "zen": 6.0}, 2.0)
    assert (time.steps, time.total) == ({"params": 0.0, "loss pass": 8.0, "zen": 12.0}, 20.0)
    time.finish("params", 1.0)
    assert time.total == 21.0
    time.finish("loss pass", 16.0)
    assert (time.steps["zen"], time.total) == (24.0, 41.0)


def test_the_time_grows_with_weights_tokens_and_checkpointing() -> None:
    model = load_model("gpt2-variant", lazy=True).model
    proxies = resolve(["snip", "params", "grasp"])

    def total(batch: Any, **how: Any) -> float:
        return expected_time(model, batch, proxies, rate=1e9, **how).total

    one, two = minibatch(model, batch_size=2, seq_len=32), minibatch(model, batch_size=4, seq_len=32)
    assert total(two) == pytest.approx(2 * total(one))
    assert total(one, checkpointing=True) > total(one)
    assert total(None) == 0
    assert measured_rate(torch.float32, torch.device("cpu")) > 1e6
