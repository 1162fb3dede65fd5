"""A minibatch in parts: the scores of the whole, halved when memory runs out, refused where they would not add up."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lpz_zoo.flexibert import FlexiBertConfig, FlexiBertForMaskedLM, LayerSpec
from torch import Tensor, nn
from transformers import BertModel, GPT2LMHeadModel, MixtralForCausalLM, PreTrainedModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from lpzero_hf import minibatch, score
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import LOSS, Network, Reduction
from lpzero_hf.errors import CaptureError, MicroBatchWarning
from lpzero_hf.expressions.tables import Table, Wanted, tabulate
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.minibatch import embedded_tokenizer
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import StatisticProxy
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.scores import Scores
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.table_cache import make_tables
from tests.support.evaluated import evaluate
from tests.support.families import tiny_model

Lpz = Callable[..., tuple[int, str, str]]
SINGLE = [
    n
    for n, c in installed_proxies(load_plugins()).items()
    if isinstance(c.item, StatisticProxy) and c.item.network is LOSS
]
FAMILIES = ("gpt2", "llama", "bert", "t5", "flexibert")
ROUGHER = {  # proxies that enlarge rounding
    "synaptic_diversity": 1e-8,  # a singular value of 0 comes out as 1e-8 of the largest
    "synaptic_diversity_lpzero": 1e-8,
    "dss": 1e-8,
}
# The first position of a decoder sees one key, so the gradient of its query is 0; T5's attention computes it as 1e-17,
# of which this proxy takes the logarithm.
T5 = ROUGHER | {"lpzero-flexibert": 1e-2}


def double(family: str) -> PreTrainedModel:
    """A tiny model in double precision."""
    if family != "flexibert":
        return tiny_model(family, seed=1).double()
    torch.manual_seed(1)
    layers = [LayerSpec(operation=op, heads=4, width=48, count=1) for op in ("sdp", "dft", "conv5")]
    sizes = dict(vocab_size=4200, embedding_size=16, hidden_size=32, max_position_embeddings=32)
    return FlexiBertForMaskedLM(FlexiBertConfig(layers=layers, **sizes)).eval().double()  # type: ignore[arg-type]


def padded(model: PreTrainedModel, samples: int = 5, length: int = 16) -> dict[str, Tensor]:
    """A minibatch whose sequences have different lengths and numbers of targets."""
    made = minibatch(model, tokenizer=embedded_tokenizer(), batch_size=samples, seq_len=length)
    made["attention_mask"][0, length - 4 :] = 0
    made["attention_mask"][3, length // 2 :] = 0
    if "labels" in made:
        made["labels"][made["attention_mask"] == 0] = -100
        made["labels"][4, :6] = made["input_ids"][4, :6]  # more targets than the others have
    return made


def assert_same(part: Scores, whole: Scores, rougher: dict[str, float] = ROUGHER) -> None:
    assert [(r.proxy, r.status, r.reason) for r in part.rows] == [(r.proxy, r.status, r.reason) for r in whole.rows]
    assert any(row.value for row in whole.rows)
    for row in whole.rows:
        within = rougher.get(row.proxy, 1e-9)
        assert part[row.proxy].value == (row.value and pytest.approx(row.value, rel=within)), row.proxy


@contextmanager
def room_for(samples: int, *modules: nn.Module | type[nn.Module]) -> Iterator[list[int]]:
    """Raise what a device raises when it is out of memory, in modules that are fed more than so many samples."""
    sizes: list[int] = []

    def check(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        size = len(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)))
        sizes.append(size)
        if size > samples and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            forward = module.forward

            def tight(*args: Any, _forward: Any = forward, **kwargs: Any) -> Any:
                check(nn.Identity(), args[isinstance(args[0], nn.Module) :] if args else args, kwargs)
                return _forward(*args, **kwargs)

            patch.setattr(module, "forward", tight)
        yield sizes


# The same scores -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_proxy_scores_as_on_the_whole_minibatch(family: str, size: int) -> None:
    model = double(family)
    batch = padded(model)
    part, whole = score(model, batch, SINGLE, micro_batch=size), score(model, batch, SINGLE)
    assert_same(part, whole, T5 if family == "t5" else ROUGHER)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_that_of_the_whole_minibatch(family: str, size: int) -> None:
    model = double(family)
    batch, layout = padded(model), layout_of(model)
    places = {
        "linear": "WGAJ", "mixer": ("H", "S", "dH"), "embedding": "AJ", "ffn_hidden": "A", "ffn_output": "J",
        "block": "A",
    }  # fmt: skip
    reads = [Reduction(place, (name,), Tensor.clone) for place, names in places.items() for name in names]  # type: ignore[arg-type]
    whole = capture(model, batch, reads, layout)
    part = capture(model, batch, reads, layout, micro_batch=size)
    assert not whole.failures
    assert not part.failures
    for reduction, sites in whole.values.items():
        assert sites
        assert [site[:2] for site in part.values[reduction]] == [site[:2] for site in sites]
        for expected, found in zip(sites, part.values[reduction], strict=True):
            apart = (found.value - expected.value).abs().max()
            assert apart <= 1e-9 * expected.value.abs().max(), (reduction.reads, expected.site)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_tables_of_every_chain_are_those_of_the_whole_minibatch(family: str, size: int) -> None:
    model = double(family)
    batch, layout, wanted = padded(model), layout_of(model), ExpressionSpace().wanted
    if family == "t5":  # see above: its J is noise where it is 0, and some chains enlarge it
        kept = {name: chains for name, chains in wanted.chains.items() if name != "J"}
        wanted = Wanted(kept, tuple(pair for pair in wanted.pairs if "J" not in pair), wanted.operations)

    def table(micro_batch: int | None) -> Table:
        captured = capture(model, batch, list(wanted.reductions.values()), layout, micro_batch=micro_batch)
        return tabulate(wanted, captured)

    whole, part = table(None), table(size)
    for kind in ("counts", "totals", "products", "matmuls"):
        expected, found = getattr(whole, kind), getattr(part, kind)
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            scale = tensor.nan_to_num(0, 0, 0).abs().amax(dim=-1, keepdim=True)  # sums of terms that cancel
            apart = (found[name] - tensor).abs() / (tensor.abs() + scale)
            assert not (apart > 1e-9).any(), (kind, name)
            assert torch.equal(found[name].isfinite(), tensor.isfinite())


def test_single_precision_and_checkpointing_go_with_micro_batches() -> None:
    model = tiny_model("llama")
    batch = padded(model)
    whole = score(model, batch, SINGLE)
    part = score(model, batch, SINGLE, micro_batch=2, checkpointing=True)
    discrete = {"nwot", "activation_distance", "activation_distance_lpzero", "eznas"}  # signs of what is almost 0
    for row in whole.rows:
        if row.proxy not in discrete:
            assert part[row.proxy].value == pytest.approx(row.value, rel=1e-3), row.proxy


def test_a_part_without_targets_adds_nothing() -> None:
    for family in ("gpt2", "bert"):
        model = double(family)
        batch = padded(model)
        labels = batch.get("labels", batch["input_ids"]).clone()
        labels[1:3] = -100
        batch["labels"] = labels
        assert_same(score(model, batch, SINGLE, micro_batch=1), score(model, batch, SINGLE))


def test_a_model_without_a_loss_is_projected_in_parts() -> None:
    model = BertModel(tiny_model("bert").config).eval().double()
    batch = padded(model)
    assert_same(score(model, batch, SINGLE, micro_batch=2), score(model, batch, SINGLE))


def test_tensors_whose_rows_are_no_samples_are_not_taken_for_some() -> None:
    """With one sample at a time, the relative positions [1, 16, d] of this family look like activations."""
    model = tiny_model("deberta-v2", position_buckets=8).double()
    batch = padded(model)
    assert_same(score(model, batch, SINGLE, micro_batch=1), score(model, batch, SINGLE))


# Out of memory ---------------------------------------------------------------------------------------------


def test_running_out_of_memory_halves_the_micro_batch_and_says_so() -> None:
    model = double("gpt2")
    batch = padded(model)
    whole = score(model, batch, SINGLE)
    with room_for(1, model.transformer) as sizes, pytest.warns(MicroBatchWarning) as told:
        halved = score(model, batch, SINGLE)
    halvings = [str(warning.message) for warning in told if warning.category is MicroBatchWarning]
    assert ["of 2 of 5" in halvings[0], "of 1 of 5" in halvings[1], len(halvings)] == [True, True, 2]
    assert sizes[0] == 5
    assert sizes[-5:] == [1] * 5
    assert_same(halved, whole)


def test_running_out_of_memory_in_the_second_run_of_a_block_halves_too() -> None:
    model = double("gpt2")
    batch = padded(model)
    whole = score(model, batch, SINGLE)
    with pytest.MonkeyPatch.context() as patch:
        forward, runs = GPT2Block.forward, []

        def tight(self: nn.Module, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            runs.append(len(hidden))
            if torch._C._current_graph_task_id() != -1 and len(hidden) > 3:  # in a backward pass
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return forward(self, hidden, *args, **kwargs)

        patch.setattr(GPT2Block, "forward", tight)
        with pytest.warns(MicroBatchWarning, match="2 of 5"):
            halved = score(model, batch, SINGLE, checkpointing=True)
    assert_same(halved, whole)


def test_no_room_for_one_sequence_is_an_error_that_names_what_needs_less() -> None:
    model = tiny_model("gpt2")
    batch = padded(model)
    with room_for(0, model.transformer), warnings.catch_warnings():
        warnings.simplefilter("ignore", MicroBatchWarning)
        row = score(model, batch, "snip")["snip"]
        assert row.status == "failed"
        assert all(flag in row.reason for flag in ("`seq_len=`", "`dtype=", "`checkpointing="))
        assert "batch_size" not in row.reason
        assert "`checkpointing=" not in score(model, batch, "snip", checkpointing=True)["snip"].reason
        other = score(model, batch, "synflow")["synflow"]
        assert "synflow" in other.reason
        assert "`batch_size=" in score(model, batch, "grasp")["grasp"].reason


def test_a_reduction_that_has_no_room_fails_alone() -> None:
    def greedy(A: Tensor, mask: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model = tiny_model("gpt2")
    hungry, modest = Reduction("linear", ("A", "mask"), greedy), Reduction("linear", ("G",), torch.linalg.vector_norm)
    with pytest.warns(MicroBatchWarning):
        captured = capture(model, padded(model), [hungry, modest], layout_of(model))
    assert isinstance(captured.failures[hungry], torch.OutOfMemoryError)
    assert modest not in captured.failures
    assert len(captured.values[modest]) == 8


def test_benchmarks_halve_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    config, setting = tiny_model("gpt2").config, Setting(batch_size=4, seq_len=8)
    whole = evaluate({"a": config}, ["snip"], setting)["a"]["snip"]["value"]
    with room_for(2, GPT2LMHeadModel), pytest.warns(MicroBatchWarning, match="2 of 4"):
        halved = evaluate({"a": config}, ["snip"], setting)["a"]["snip"]["value"]
    assert halved == pytest.approx(whole, rel=1e-5)


def test_what_ran_in_parts_for_want_of_memory_is_not_kept_as_that_of_the_whole(tmp_path: Path) -> None:
    configs, setting = {"a": tiny_model("gpt2").config}, Setting(batch_size=4, seq_len=8)
    whole = evaluate(configs, ["snip"], setting)["a"]["snip"]["value"]
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        with room_for(2, GPT2LMHeadModel), pytest.warns(MicroBatchWarning):
            evaluate(configs, ["snip"], setting, cache=cache)
        with warnings.catch_warnings():
            warnings.simplefilter("error", MicroBatchWarning)
            assert evaluate(configs, ["snip"], setting, cache=cache)["a"]["snip"]["value"].hex() == whole.hex()
        with room_for(2, GPT2LMHeadModel):  # now it is there, and nothing runs
            assert evaluate(configs, ["snip"], setting, cache=cache)["a"]["snip"]["value"].hex() == whole.hex()
    plugins = load_plugins()
    wanted = ExpressionSpace().wanted
    with room_for(2, GPT2LMHeadModel), pytest.warns(MicroBatchWarning, match="2 of 4"):
        (halved,) = make_tables(configs, wanted, setting, tmp_path / "tables", plugins=plugins)
    assert not list(tmp_path.glob("tables/*.safetensors"))
    (table,) = make_tables(configs, wanted, setting, tmp_path / "tables", plugins=plugins)
    assert len(list(tmp_path.glob("tables/*.safetensors"))) == 1
    assert halved.totals.keys() == table.totals.keys()


def test_the_command_takes_micro_batches_and_tells_of_halving(lpz: Lpz) -> None:
    small = ("score", "gpt2-variant", "-p", "snip", "--batch-size", "4", "--seq-len", "8", "--csv")
    whole = float(lpz(*small)[1].splitlines()[1].split(",")[2])
    code, out, err = lpz(*small, "--micro-batch", "3")
    assert (code, err) == (0, "")
    assert float(out.splitlines()[1].split(",")[2]) == pytest.approx(whole, rel=1e-4)
    with room_for(2, GPT2LMHeadModel):
        code, out, err = lpz(*small)
    assert code == 0
    assert "2 of 4" in err
    assert float(out.splitlines()[1].split(",")[2]) == pytest.approx(whole, rel=1e-4)
    assert lpz(*small, "--micro-batch", "0")[0] == 2


# Refused ---------------------------------------------------------------------------------------------------


def refusal(model: PreTrainedModel, batch: dict[str, Tensor], network: Network = LOSS) -> str:
    """Why a micro-batch of 2 is refused."""
    snip = Reduction("linear", ("G",), torch.linalg.vector_norm)
    captured = capture(model, batch, [snip], layout_of(model), micro_batch=2, network=network)
    assert isinstance(captured.failures[snip], CaptureError)
    assert captured.values[snip] == []
    return str(captured.failures[snip])


def test_a_loss_with_a_part_of_its_own_is_refused() -> None:
    model = tiny_model("mixtral", output_router_logits=True)
    assert isinstance(model, MixtralForCausalLM)
    assert "aux_loss" in refusal(model, padded(model))


def test_a_refusal_that_no_flag_asked_for_is_told_as_want_of_memory() -> None:
    model = tiny_model("mixtral", output_router_logits=True)
    with room_for(2, model.model), pytest.warns(MicroBatchWarning):
        reason = score(model, padded(model), "snip")["snip"].reason
    assert reason.startswith("CaptureError")
    assert "memory" in reason
    assert "aux_loss" in reason
    assert all(flag in reason for flag in ("`batch_size=", "`seq_len=`", "`dtype=", "`checkpointing="))
    assert "micro_batch" not in reason
    assert "without `micro_batch=`" in refusal(tiny_model("mixtral", output_router_logits=True), padded(model))


def test_a_loss_that_is_no_mean_over_targets_is_refused() -> None:
    class Smoothed(GPT2LMHeadModel):
        def forward(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            output = super().forward(*args, **kwargs)
            output.loss = output.loss + 0.01 * output.logits.square().mean()
            return output

    model = Smoothed(tiny_model("gpt2").config).eval()
    assert "cross-entropy" in refusal(model, padded(model))


def test_samples_that_see_each_other_are_refused() -> None:
    class Centred(nn.Module):
        def __init__(self, norm: nn.Module) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            normed: Tensor = self.norm(x)
            return normed - normed.mean(0)

    model = tiny_model("gpt2")
    model.transformer.ln_f = Centred(model.transformer.ln_f)
    assert "influence each other" in refusal(model, padded(model))


def test_random_draws_are_refused() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1e-9 * torch.randn_like(x)

    model = tiny_model("gpt2")
    model.transformer.drop = Noisy()
    assert "random" in refusal(model, padded(model))


def test_a_network_whose_objective_is_unknown_is_refused() -> None:
    model = tiny_model("gpt2")
    other = Network("squared", lambda model, batch, seed: LOSS.objective(model, batch, seed) ** 2)
    assert "'squared'" in refusal(model, padded(model), other)


def test_what_belongs_to_no_sample_is_refused() -> None:
    model = tiny_model("gpt2")
    batch = padded(model) | {"position_ids": torch.arange(16).repeat(3, 1)}
    assert "'position_ids'" in refusal(model, batch)
