"""Lazy models: shapes without memory, weights one at a time, and the scores of the whole model."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from lpzero_hf import load_model, minibatch, score
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.models.build import build_model
from lpzero_hf.models.deferred_init import Ledger
from lpzero_hf.models.lazy import Source, make_lazy, source_of
from lpzero_hf.proxies.base import StatisticProxy
from tests.support.families import FAMILIES, JETMOE, tiny_model

SHAPES = ["params", "decoder_params", "attention_params", "num_layers", "num_heads", "hidden_size", "flops"]
SHAPES += ["depth_then_width", "depth_width2"]
SOME = ("gpt2", "llama", "bert", "albert", "t5", "xlnet", "mamba2", "rwkv", "modernbert", "electra", "fnet")


def without_whole(model: PreTrainedModel, *, read: bool = True) -> PreTrainedModel:
    """`model`, unable to be built as a whole; without `read` also unable to make a weight."""

    def refuse() -> PreTrainedModel:
        raise AssertionError("the whole model was built")

    source = source_of(model)
    assert source is not None
    assert all(p.is_meta for p in model.parameters() if p.dim() > 1 and p.numel() > 4096)
    return make_lazy(model, Source(refuse, (lambda: source.read) if read else refuse))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", SOME)
def test_a_weight_made_alone_has_the_bits_that_it_has_in_the_whole_model(family: str, dtype: torch.dtype) -> None:
    config = AutoConfig.for_model(family, **FAMILIES[family])
    whole, lazy = build_model(config, seed=3, dtype=dtype), build_model(config, seed=3, dtype=dtype, lazy=True)
    source = source_of(lazy)
    assert source is not None
    assert source.read is not None
    expected = dict(whole.named_parameters())
    for name, parameter in reversed(list(lazy.named_parameters())):  # not in the order in which they are drawn
        assert torch.equal(source.read(parameter), expected[name]), name


@pytest.mark.parametrize("family", SOME)
def test_shapes_and_weights_are_scored_as_on_the_whole_model_without_building_it(family: str) -> None:
    config = AutoConfig.for_model(family, **FAMILIES[family])
    whole, lazy = build_model(config, seed=3), without_whole(build_model(config, seed=3, lazy=True))
    batch = minibatch(whole, batch_size=2, seq_len=16)
    expected, found = score(whole, batch, [*SHAPES, "l2_norm"]), score(lazy, batch, [*SHAPES, "l2_norm"])
    assert [(r.proxy, r.value, r.status) for r in found.rows] == [(r.proxy, r.value, r.status) for r in expected.rows]


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "qwen2_moe", "deepseek_v3", "gpt_oss"])
def test_the_experts_that_tokens_are_sent_to_are_counted_without_values(family: str) -> None:
    config = AutoConfig.for_model(family, **FAMILIES[family])
    whole, lazy = build_model(config), without_whole(build_model(config, lazy=True))
    batch = minibatch(whole, batch_size=2, seq_len=16)
    assert score(lazy, batch, "flops")["flops"].value == score(whole, batch, "flops")["flops"].require()


def test_experts_that_are_reached_only_by_values_are_counted_on_the_whole_model() -> None:
    config = AutoConfig.for_model("jetmoe", **JETMOE)
    whole, lazy = build_model(config), build_model(config, lazy=True)
    batch = minibatch(whole, batch_size=2, seq_len=16)
    assert score(lazy, batch, "flops")["flops"].require() == score(whole, batch, "flops")["flops"].require()


@pytest.mark.parametrize("family", SOME)
def test_counts_draw_no_weight(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a ledger of weights was begun")

    monkeypatch.setattr(Ledger, "__init__", refuse)
    lazy = without_whole(build_model(AutoConfig.for_model(family, **FAMILIES[family]), lazy=True), read=False)
    scores = score(lazy, minibatch(lazy, batch_size=2, seq_len=16), SHAPES)
    assert {row.status for row in scores.rows} <= {"ok", "not applicable"}


def test_what_needs_the_model_gets_the_whole_of_it() -> None:
    config = AutoConfig.for_model("gpt2", **FAMILIES["gpt2"])
    whole, lazy = build_model(config), build_model(config, lazy=True)
    batch = minibatch(whole, batch_size=2, seq_len=16)
    names = ["snip", "params", "l2_norm"]
    assert [r.value for r in score(lazy, batch, names).rows] == [r.value for r in score(whole, batch, names).rows]
    assert lazy.transformer.wte.weight.is_meta


def test_weights_that_cannot_be_read_alone_are_those_of_the_whole_model() -> None:
    config = AutoConfig.for_model("gpt2", **FAMILIES["gpt2"])
    whole, lazy = build_model(config), build_model(config, lazy=True)
    built: list[PreTrainedModel] = []

    def build() -> PreTrainedModel:
        built.append(build_model(config))
        return built[-1]

    make_lazy(lazy, Source(build))  # without a reader
    batch = minibatch(whole, batch_size=2, seq_len=16)
    assert score(lazy, batch, "l2_norm")["l2_norm"].require() == score(whole, batch, "l2_norm")["l2_norm"].require()
    assert len(built) == 1
    assert score(lazy, batch, "num_layers")["num_layers"].require() == config.n_layer
    assert len(built) == 1  # shapes are enough for that


def test_weights_are_freed_one_by_one() -> None:
    lazy = build_model(AutoConfig.for_model("llama", **FAMILIES["llama"]), lazy=True)
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def count(W: torch.Tensor) -> torch.Tensor:
        nonlocal most
        most = max(most, sum(reference() is not None for reference in alive))
        alive.append(weakref.ref(W))
        return W.sum()

    proxy = StatisticProxy(name="alive", formula="sum W", reductions=(Reduction("linear", ("W",), count),))
    score(without_whole(lazy), minibatch(lazy, batch_size=2, seq_len=16), proxy)["alive"].require()
    assert len(alive) > 10
    assert most <= 1


@pytest.mark.parametrize("shards", ["1GB", "20KB"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_a_checkpoint_is_read_weight_by_weight(family: str, shards: str, tmp_path: Path) -> None:
    tiny_model(family, seed=5).save_pretrained(tmp_path, max_shard_size=shards)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shards == "20KB")
    whole = load_model(str(tmp_path), pretrained=True).model
    lazy = load_model(str(tmp_path), pretrained=True, lazy=True).model
    source = source_of(lazy)
    assert source is not None
    if source.read is not None:  # else transformers converts this family, and the whole is loaded
        without_whole(lazy)
    batch = minibatch(whole, batch_size=2, seq_len=16)
    names = ["l2_norm", "params"]
    assert [r.value for r in score(lazy, batch, names).rows] == [r.value for r in score(whole, batch, names).rows]


def test_random_numbers_drawn_otherwise_fall_into_line() -> None:
    def build() -> list[torch.Tensor]:
        first = torch.empty(40).normal_()
        other = torch.randn(5)
        nn.init.trunc_normal_(second := torch.empty(6, 6), std=0.02, a=-0.04, b=0.04)
        nn.init.orthogonal_(third := torch.empty(8, 4))
        return [first, other, second, third, first[3:7].uniform_()]

    with torch.random.fork_rng():
        torch.manual_seed(1)
        expected = build()
        torch.manual_seed(1)
        with Ledger() as ledger:
            found = build()
    for value, lazy in zip(expected, found, strict=True):
        assert torch.equal(value, ledger.make(lazy) if ledger.knows(lazy) else lazy)
