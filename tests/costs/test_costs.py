"""Costs of an architecture: what is counted equals what torch counts of a model that runs, and latency is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lpz_costs.latency import OtherWork
from lpz_costs.serving import prompts
from transformers import AutoConfig, GPT2Config, LlamaConfig, MambaConfig

from lpzero_hf import Cost, CostSubject, Deployment, Measured, NotApplicable, load_plugins, measure_costs
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import count_parameters
from lpzero_hf.models.objective import head_kind
from lpzero_hf.plugins import OWN
from lpzero_hf.scoring.costs import by_stage, find_costs, installed_costs
from studies.cost import counted
from tests.support.families import FAMILIES

COUNTED = ["flops", "decode_flops", "memory", "weights", "kv_cache"]
HOW = Deployment(batch_size=3, prompt=24)


def config_of(family: str, **changes: Any) -> Any:
    return AutoConfig.for_model(family, **(FAMILIES[family] | changes))


@pytest.mark.parametrize("vocabulary", [64, 4200])  # the blocks, or the logits, take most of the memory
@pytest.mark.parametrize("family", counted.COUNTED)
def test_operations_and_memory_are_those_of_a_model_that_runs(family: str, vocabulary: int) -> None:
    config = config_of(family, vocab_size=vocabulary)
    rows = measure_costs(config, COUNTED, HOW)
    model = build_model(config)
    inputs = prompts(model, 3, 24, 42)
    whole, decoded = counted.operations(model, inputs)
    assert rows["flops"].require() == pytest.approx(whole, rel=0.01)
    if head_kind(model) == "masked":
        assert rows["decode_flops"].status == rows["kv_cache"].status == "not applicable"
    else:
        assert rows["decode_flops"].require() == pytest.approx(decoded, rel=0.01)
    weights = sum(
        t.numel() * t.element_size() for t in {id(t): t for t in (*model.parameters(), *model.buffers())}.values()
    )
    assert rows["weights"].require() == weights
    peak = counted.measured_peak(model, inputs)
    assert peak > 0
    assert rows["memory"].require() - weights == pytest.approx(peak, rel=0.15)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "deepseek_v3"])
def test_of_the_experts_those_are_active_that_a_token_is_sent_to(family: str) -> None:
    config = config_of(family)
    model = build_model(config)
    experts = [
        m for m in model.modules() if "Experts" in type(m).__name__ and any(p.dim() == 3 for p in m.parameters())
    ]
    assert experts
    taken = config.num_experts_per_tok
    number = next(p for p in experts[0].parameters() if p.dim() == 3).shape[0]
    routed = count_parameters(*experts)
    rows = measure_costs(config, ["params", "active_params", "non_embedding_params"])
    assert rows["params"].value == count_parameters(model)
    assert rows["active_params"].value == count_parameters(model) - routed * (number - taken) // number
    assert rows["active_params"].require() < rows["params"].require()
    assert rows["non_embedding_params"].require() < rows["params"].require()


def test_all_parameters_of_a_dense_model_are_active() -> None:
    rows = measure_costs(config_of("llama"), ["active_params", "params"])
    assert list(rows) == ["active_params", "params"]
    assert rows["active_params"].value == rows["params"].value


def test_the_cache_grows_by_keys_and_values_of_every_layer() -> None:
    deep = LlamaConfig(
        hidden_size=32, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
        vocab_size=100, max_position_embeddings=64,
    )  # fmt: skip
    token = 2 * 6 * 2 * 8 * 4  # keys and values, layers, heads, features, bytes
    for how, size in (
        (Deployment(), token),
        (Deployment(batch_size=4, prompt=9), token),
        (Deployment(dtype="bfloat16"), token // 2),
    ):
        assert measure_costs(deep, ["kv_cache"], how)["kv_cache"].value == size
    state = MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=100, state_size=8)
    assert measure_costs(state, ["kv_cache"])["kv_cache"].value == 0
    row = measure_costs(config_of("gpt2"), ["kv_cache"], Deployment(prompt=1))["kv_cache"]
    assert (row.value, "`prompt=" in row.reason) == (None, True)


def test_what_no_memory_holds_is_counted_but_not_measured() -> None:
    huge = GPT2Config(n_embd=32768, n_layer=20, n_head=64, vocab_size=1000)
    rows = measure_costs(huge, ["params", "flops", "kv_cache", "latency", "decode_latency"], Deployment(prompt=4))
    assert rows["params"].require() > 2 * 10**11
    assert rows["flops"].require() > 10**12
    assert rows["kv_cache"].value == 2 * 20 * 32768 * 4
    for name in ("latency", "decode_latency"):
        assert (rows[name].value, rows[name].status) == (None, "not applicable")
        assert "dtype=torch.bfloat16" in rows[name].reason


def test_a_state_that_is_written_to_needs_no_values() -> None:
    huge = MambaConfig(hidden_size=65536, num_hidden_layers=2, vocab_size=1000, state_size=8)
    rows = measure_costs(huge, ["kv_cache", "decode_flops", "memory"], Deployment(prompt=4))
    assert rows["kv_cache"].value == 0
    assert rows["decode_flops"].require() > 10**10
    assert rows["memory"].require() > 10**11


def test_latencies_of_clearly_different_sizes_have_one_order() -> None:
    widths = ((1, 32), (2, 256), (6, 768))
    configs = [GPT2Config(n_layer=n, n_embd=d, n_head=4, vocab_size=500, n_positions=80) for n, d in widths]
    for name in ("latency", "decode_latency"):
        for seed in range(3):
            how = Deployment(prompt=64, batch_size=2, repeats=5, warmup=1, seed=seed)
            rows = [measure_costs(config, [name], how)[name] for config in configs]
            values = [row.require() for row in rows]
            assert values == sorted(values)
            assert all((row.repeats, row.unit) == (5, "seconds") for row in rows)
            assert all(row.low <= row.require() <= row.high for row in rows)  # type: ignore[operator]


def test_other_work_on_the_machine_is_told(tmp_path: Path) -> None:
    def stat(busy: int, idle: int) -> None:
        (tmp_path / "stat").write_text(f"cpu {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n", encoding="ascii")

    stat(1000, 1000)
    work = OtherWork(tmp_path)
    stat(1000, 5000)
    assert work.warnings() == ()
    stat(4000, 5000)
    (warning,) = work.warnings()
    assert "%" in warning
    (tmp_path / "stat").unlink()
    assert work.warnings() == ()
    assert OtherWork(tmp_path / "nowhere").warnings() == ()


def test_a_prompt_fits_the_model_or_is_refused_with_the_remedy() -> None:
    short = config_of("gpt2")
    assert short.n_positions == 64
    default = measure_costs(short, ["decode_flops"])["decode_flops"]
    assert default.value == measure_costs(short, ["decode_flops"], Deployment(prompt=63))["decode_flops"].value
    row = measure_costs(short, ["flops"], Deployment(prompt=65))["flops"]
    assert (row.value, "`prompt=63`" in row.reason) == (None, True)


@pytest.mark.parametrize(
    "wrong",
    [dict(batch_size=0), dict(prompt=0), dict(repeats=0), dict(warmup=-1), dict(dtype="float31"), dict(threads=0)],
)
def test_a_deployment_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Deployment(**wrong)


def test_a_cost_that_fails_has_the_reason_and_the_others_go_on() -> None:
    def broken(subject: CostSubject) -> float:
        raise KeyError("gone")

    def unknown(subject: CostSubject) -> float:
        raise NotApplicable("not on this phone")

    costs = [
        Cost(name="broken", unit="bytes", summary="", measure=broken),
        Cost(name="unknown", unit="bytes", summary="", measure=unknown),
        Cost(name="infinite", unit="bytes", summary="", measure=lambda subject: float("inf")),
        Cost(name="negative", unit="bytes", summary="", measure=lambda subject: -1.0),
        Cost(name="spread", unit="seconds", summary="", measure=lambda subject: Measured(2.0, 1.0, 3.0, 7, ("loud",))),
        Cost(name="depth", unit="layers", summary="", measure=lambda s: s.layout.depth, stage="shapes"),
    ]
    rows = measure_costs(config_of("gpt2"), costs)
    assert list(rows) == [cost.name for cost in costs]
    assert (rows["broken"].status, "gone" in rows["broken"].reason) == ("failed", True)
    assert (rows["unknown"].status, rows["unknown"].reason) == ("not applicable", "not on this phone")
    assert rows["infinite"].status == rows["negative"].status == "failed"
    assert (rows["spread"].value, rows["spread"].low, rows["spread"].repeats) == (2.0, 1.0, 7)
    assert rows["spread"].warnings == ("loud",)
    assert rows["depth"].value == 2
    with pytest.raises(LpzError, match="gone"):
        rows["broken"].require()
    assert next(cost.name for cost in by_stage(costs)) == "depth"


def test_costs_are_looked_up_by_name() -> None:
    plugins = load_plugins()
    assert {claim.distribution for claim in installed_costs(plugins).values()} == {OWN}
    names = [cost.name for cost in find_costs(None, plugins)]
    assert names == [*installed_costs(plugins)]
    assert {"params", "active_params", "non_embedding_params", "flops", "decode_flops", "weights", "memory", "kv_cache",
            "latency", "decode_latency"} <= {*names}  # fmt: skip
    assert [cost.name for cost in find_costs(["params", "flops", "params"], plugins)] == ["params", "flops"]
    with pytest.raises(UsageError, match="'latency'"):
        find_costs(["latncy"], plugins)
    other = Cost(name="params", unit="x", summary="", measure=lambda subject: 1.0)
    with pytest.raises(UsageError, match="'params'"):
        find_costs(["params", other], plugins)
    assert find_costs(["params"], plugins, {"params": other}) == [other]
    with pytest.raises(UsageError, match="stage"):
        Cost(name="a", unit="b", summary="", measure=lambda subject: 1.0, stage="late")  # type: ignore[arg-type]


def test_a_model_is_left_as_it_was() -> None:
    subject = CostSubject(config_of("llama"), HOW, load_plugins())
    before = dict(subject.model.named_parameters())
    for cost in find_costs(COUNTED, load_plugins()):
        cost.measure(subject)
    assert dict(subject.model.named_parameters()).keys() == before.keys()
    assert all(not model._forward_hooks and not model._forward_pre_hooks for model in subject.model.modules())
    assert all("forward" not in vars(module) for module in subject.model.modules())
