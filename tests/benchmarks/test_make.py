"""Benchmarks made by training: losses that fall, the same bits again, interruptions, and files that went bad.

The file is long because one toy space, trained in a moment, serves the training, the benchmark and the command.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lpz_zoo.flexibert import FlexiBertConfig, LayerSpec
from lpz_zoo.gpt2 import FlexibleGPT2Config
from torch import Tensor
from transformers import BertConfig, LlamaConfig, PreTrainedModel

from lpzero_hf import hookimpl
from lpzero_hf.benchmarks import make as making
from lpzero_hf.benchmarks import train as training
from lpzero_hf.benchmarks.agreement import kendall, spearman
from lpzero_hf.benchmarks.benchmark import made_benchmark
from lpzero_hf.benchmarks.make import BenchmarkSpec, body_parameters, make_benchmark
from lpzero_hf.benchmarks.train import Recipe, TrainingOutcome, train, validation_loss
from lpzero_hf.errors import LpzError, MinibatchError, UsageError
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.executors.process import ProcessExecutor
from lpzero_hf.models.body_parameters import count_body_parameters
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import count_parameters
from lpzero_hf.models.minibatch import embedded_tokenizer, token_stream
from lpzero_hf.models.objective import objective
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.spaces.space import Choice, Space, Value
from tests.support.commands import overriding

Lpz = Callable[..., tuple[int, str, str]]
UNIFORM = math.log(4096)
RECIPE = Recipe(steps=8, batch_size=2, seq_len=8, learning_rate=1e-2, warmup=2, windows=5, evaluations=2)


def toy_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> FlexibleGPT2Config:
    blocks = [{"heads": int(layer["heads"]), "inner": 16} for layer in layers]
    return FlexibleGPT2Config(
        d_model=int(shared["width"]), d_embed=8, k=2, layers=blocks, vocab_size=4096, cutoffs=(512, 1024),
        max_position_embeddings=32, dropout=0.1,
    )  # fmt: skip


TOY = Space(
    name="toy",
    summary="",
    shared=(Choice("d", "width", (8, 16)),),
    depths=(1, 2),
    layer=(Choice("h", "heads", (1, 2)),),
    build=toy_config,
)


def llama_config(shared: Mapping[str, Value], layers: Sequence[Mapping[str, Value]]) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=int(shared["width"]), intermediate_size=16, num_hidden_layers=len(layers), num_attention_heads=2,
        vocab_size=4096, max_position_embeddings=32,
    )  # fmt: skip


STACKED = replace(TOY, build=llama_config)  # whose models can be stacked


@hookimpl
def lpz_spaces() -> list[Space]:
    """What this module offers as a plugin."""
    return [TOY]


TOYS = PluginRegistry(found=[EntryPoint("toy", __name__, "lpzero_hf")])
CONFIG = TOY.config(TOY.parse("d16-h2-h1"))
PLAN = BenchmarkSpec("toy", n=3, repeats=1, seeds=2, recipe=RECIPE)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A text to train on and one to validate on."""
    folder, text = (
        tmp_path_factory.mktemp("texts"),
        files("lpzero_hf.models").joinpath("data", "text.txt").read_text("utf-8"),
    )
    train_file, validation_file = folder / "train.txt", folder / "validation.txt"
    train_file.write_text(text[:30_000], encoding="utf-8")
    validation_file.write_text(text[-6000:], encoding="utf-8")
    return train_file, validation_file


@pytest.fixture
def streams(texts: tuple[Path, Path]) -> tuple[torch.Tensor, torch.Tensor]:
    text, validation = (token_stream(file, embedded_tokenizer()) for file in texts)
    return text, validation


@pytest.fixture
def make(texts: tuple[Path, Path], tmp_path: Path) -> Callable[..., Path]:
    """Make a benchmark of the toy space in a folder of this test."""

    def call(out: str = "run", plan: BenchmarkSpec = PLAN, space: Space = TOY, **changes: Any) -> Path:
        text, validation = texts
        return make_benchmark(
            plan, space, tmp_path / out, **(dict(name="toy", text=text, validation=validation) | changes)
        )

    return call


def timeless(file: Path) -> dict[str, Any]:
    """A benchmark's document without what may differ: seconds, and the command."""
    document: dict[str, Any] = json.loads(file.read_text())
    document.pop("command")
    for row in document["trained"]:
        assert row.pop("seconds") > 0
    return document


# Training one -------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_more_the_longer_it_lasts(streams: tuple[torch.Tensor, torch.Tensor]) -> None:
    recipe = replace(RECIPE, batch_size=8, seq_len=16, windows=16, warmup=5, evaluations=4)
    losses = [train(CONFIG, *streams, replace(recipe, steps=steps)).loss for steps in (1, 20, 120)]
    assert losses[0] == pytest.approx(UNIFORM, abs=0.5)
    assert losses[1] < losses[0] - 0.3
    assert losses[2] < losses[1] - 0.3
    assert losses[2] < UNIFORM
    outcome = train(CONFIG, *streams, replace(recipe, steps=10, learning_rate=0.0))
    assert len({loss for _, loss in outcome.curve}) == 1  # nothing else moves the weights
    assert [step for step, _ in outcome.curve] == [2, 5, 8, 10]


def test_an_outcome_is_repeated_bit_for_bit_and_depends_on_the_seed(
    streams: tuple[torch.Tensor, torch.Tensor],
) -> None:
    torch.manual_seed(7)
    before, told = torch.get_rng_state(), []
    one = train(CONFIG, *streams, RECIPE, seed=1, progress=told.append)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)  # the caller's seed has no say in the dropout
    two = train(CONFIG, *streams, RECIPE, seed=1)
    assert replace(one, seconds=0) == replace(two, seconds=0)
    assert train(CONFIG, *streams, RECIPE, seed=2).loss not in (one.loss, None)
    model = build_model(CONFIG)
    assert (one.parameters, one.body_parameters) == (count_parameters(model), count_body_parameters(model))
    assert one.curve[-1] == (8, one.loss)
    assert one.seconds > 0
    assert told == list(range(1, 9))


def test_without_a_validation_text_the_last_tenth_is_held_out(
    make: Callable[..., Path], texts: tuple[Path, Path], streams: tuple[Tensor, Tensor]
) -> None:
    whole = streams[0]
    cut = len(whole) * 9 // 10
    corpus = json.loads(make(plan=replace(PLAN, n=1, repeats=0), validation=None).read_text())["corpus"]
    expected = {"text": whole[:cut], "validation": whole[cut:]}
    assert {name: part["tokens"] for name, part in corpus.items()} == {"text": cut, "validation": len(whole) - cut}
    assert {name: part["sha256"] for name, part in corpus.items()} == {
        name: hashlib.sha256(ids.numpy().tobytes()).hexdigest() for name, ids in expected.items()
    }


def test_the_validation_loss_is_the_mean_over_evenly_spaced_windows(
    streams: tuple[torch.Tensor, torch.Tensor],
) -> None:
    model, validation = build_model(CONFIG), streams[1]
    recipe = replace(RECIPE, windows=70, seq_len=10)  # more than one batch
    model.train()  # dropout must not matter
    found = validation_loss(model, validation, recipe)
    losses = []
    for i in range(70):
        start = int((len(validation) - 10) * i / 69)
        window = validation[start : start + 10][None]
        with torch.no_grad():
            losses.append(F.nll_loss(model(window).logits[0, :-1], window[0, 1:]).item())
    assert found == pytest.approx(statistics.mean(losses), rel=1e-5)


def test_a_masked_language_model_learns_too(streams: tuple[torch.Tensor, torch.Tensor]) -> None:
    layers = [LayerSpec(operation=name, heads=2, width=16, count=1) for name in ("sdp", "conv5")]
    config = FlexiBertConfig(vocab_size=4096, embedding_size=8, hidden_size=16, layers=layers)
    recipe = replace(RECIPE, batch_size=8, seq_len=16, steps=60, learning_rate=2e-2)
    outcome = train(config, *streams, recipe, mask_id=embedded_tokenizer().mask_token_id)
    assert outcome.loss is not None
    assert outcome.loss < UNIFORM - 0.5
    with pytest.raises(UsageError, match="mask token"):
        train(config, *streams, recipe)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, torch.Tensor, torch.Tensor]]:
    """Whether in training mode, the input and the labels of every batch."""
    batches: list[tuple[bool, torch.Tensor, torch.Tensor]] = []

    def recorded(model: PreTrainedModel, batch: dict[str, torch.Tensor], seed: int) -> torch.Tensor:
        batches.append((model.training, batch["input_ids"], batch["labels"]))
        return objective(model, batch, seed)

    monkeypatch.setattr(training, "unchecked_objective", recorded)
    return batches


def test_the_seed_draws_the_sequences_and_validation_always_sees_the_same(
    streams: tuple[torch.Tensor, torch.Tensor], fed: list[tuple[bool, torch.Tensor, torch.Tensor]]
) -> None:
    text = streams[0].unfold(0, 8, 1)
    seen: list[list[torch.Tensor]] = []
    for seed in (1, 1, 2):
        fed.clear()
        train(CONFIG, *streams, RECIPE, seed=seed)
        assert [mode for mode, _, _ in fed] == ([True] * 4 + [False]) * 2
        assert all(torch.equal(ids, labels) for _, ids, labels in fed)
        assert torch.equal(fed[4][1], fed[9][1])
        assert len({tuple(row.tolist()) for mode, ids, _ in fed if mode for row in ids}) > 12
        assert all((text == row).all(1).any() for row in fed[0][1])
        seen.append([ids for _, ids, _ in fed])
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not torch.equal(seen[0][0], seen[2][0])
    assert torch.equal(seen[0][4], seen[2][4])


def test_a_masked_language_model_predicts_hidden_tokens_alone(
    streams: tuple[torch.Tensor, torch.Tensor], fed: list[tuple[bool, torch.Tensor, torch.Tensor]]
) -> None:
    layers = [LayerSpec(operation="dft", heads=2, width=16, count=1)]
    config = FlexiBertConfig(vocab_size=4096, embedding_size=8, hidden_size=16, layers=layers)
    train(config, *streams, replace(RECIPE, seq_len=20), mask_id=1234)
    for _, ids, labels in fed:
        assert torch.equal(ids == 1234, labels != -100)
        assert ((ids == 1234).sum(1) == 3).all()  # 15%
    assert torch.equal(fed[4][1], fed[9][1])
    assert len({tuple((ids[0] == 1234).tolist()) for mode, ids, _ in fed if mode}) == 8


def test_a_training_that_diverges_has_no_loss(streams: tuple[torch.Tensor, torch.Tensor]) -> None:
    told: list[int] = []
    recipe = replace(RECIPE, learning_rate=1e30, steps=8, evaluations=8)
    outcome = train(CONFIG, *streams, recipe, progress=told.append)
    assert outcome.loss is None
    assert len(told) < 7  # it stops
    assert outcome.curve[0][0] == 1
    assert all(math.isfinite(loss) for _, loss in outcome.curve)
    assert len(outcome.curve) < 8


def test_what_cannot_be_trained_is_refused(streams: tuple[torch.Tensor, torch.Tensor]) -> None:
    bare = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    bare.architectures = ["BertModel"]
    with pytest.raises(UsageError, match="BertModel"):
        train(bare, *streams, RECIPE)
    with pytest.raises(UsageError, match="8 tokens"):
        train(CONFIG, streams[0], streams[1][:8], RECIPE)
    with pytest.raises(MinibatchError, match="32 positions"):
        train(CONFIG, *streams, replace(RECIPE, seq_len=33))
    small = TOY.config(TOY.nth(0))
    small.vocab_size = 2000
    with pytest.raises(MinibatchError, match="2000"):
        train(small, *streams, RECIPE)


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"batch_size": 0}, {"windows": 0}, {"evaluations": -1}, {"seq_len": 1}]
)
def test_a_recipe_without_anything_to_do_is_refused(change: dict[str, int]) -> None:
    word = "seq" if "seq_len" in change else f"{next(iter(change))} is {next(iter(change.values()))}"
    with pytest.raises(UsageError, match=word):
        replace(RECIPE, **change)


# Plans --------------------------------------------------------------------------------------------------------


def test_a_plan_draws_different_architectures_of_the_asked_size() -> None:
    sizes = [body_parameters(TOY, TOY.nth(i)) for i in range(TOY.size())]
    assert sizes == [count_body_parameters(build_model(TOY.config(TOY.nth(i)))) for i in range(TOY.size())]
    low, high = sorted(sizes)[2], sorted(sizes)[-3]
    plan = replace(PLAN, n=6, min_parameters=low, max_parameters=high)
    drawn = plan.architectures(TOY)
    assert len(set(drawn)) == 6
    assert all(low <= body_parameters(TOY, a) <= high for a in drawn)
    assert drawn == plan.architectures(TOY)
    assert set(replace(PLAN, n=12).architectures(TOY)) == {TOY.nth(i) for i in range(12)}
    assert drawn != replace(plan, seed=43).architectures(TOY)


def test_runs_are_all_architectures_then_some_with_further_seeds() -> None:
    names = [TOY.text(a) for a in PLAN.architectures(TOY)]
    plan = replace(PLAN, repeats=2, seeds=3)
    assert plan.runs(TOY) == [(n, 42) for n in names] + [(n, s) for n in names[:2] for s in (43, 44)]
    assert replace(plan, seeds=1).runs(TOY) == [(n, 42) for n in names]
    assert len(set(replace(plan, repeats=9).runs(TOY))) == 9


def test_a_plan_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(UsageError, match="only 12"):
        replace(PLAN, n=13).architectures(TOY)
    with pytest.raises(UsageError, match="100 to 200"):
        replace(PLAN, min_parameters=100, max_parameters=200).architectures(TOY)
    for change in ({"n": 0}, {"seeds": 0}):
        with pytest.raises(UsageError, match="at least one"):
            replace(PLAN, **change)


# Benchmarks ---------------------------------------------------------------------------------------------------


def test_a_made_benchmark_holds_what_training_found_and_can_be_read(
    make: Callable[..., Path], streams: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    file = make(command="lpz bench train toy", progress=lambda done, total: told.append((done, total)))
    document = json.loads(file.read_text())
    assert file == tmp_path / "run" / "benchmark.json"
    assert told == [(i, 4) for i in range(5)]
    assert document["command"] == "lpz bench train toy"
    assert document["plan"]["recipe"]["learning_rate"] == 0.01
    assert document["corpus"]["validation"]["tokens"] == len(streams[1])
    assert document["versions"]["torch"] == torch.__version__
    assert [(row["architecture"], row["seed"]) for row in document["trained"]] == PLAN.runs(TOY)
    for row in document["trained"]:
        outcome = train(TOY.config(TOY.parse(row["architecture"])), *streams, RECIPE, seed=row["seed"])
        assert row["loss"] == outcome.loss
        assert [tuple(point) for point in row["curve"]] == list(outcome.curve)
        assert row["parameters"] == outcome.parameters

    benchmark = made_benchmark(file, TOYS)
    assert (benchmark.name, benchmark.space, benchmark.larger_is_better) == ("toy", TOY, False)
    assert benchmark.seq_len == 8
    assert benchmark.here()
    entries = benchmark.trained()
    assert [entry.architecture for entry in entries] == PLAN.architectures(TOY)
    assert [entry.quality for entry in entries] == [row["loss"] for row in document["trained"][:3]]


@pytest.mark.integration
def test_two_workers_make_the_bits_of_one(make: Callable[..., Path]) -> None:
    assert timeless(make("one")) == timeless(make("two", executor=ProcessExecutor(2)))


def test_only_what_is_missing_is_trained_again(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []

    def counted(*arguments: Any, **named: Any) -> TrainingOutcome:
        trained.append(named["seed"])
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **named)

    monkeypatch.setattr(making, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        make()
    told: list[tuple[int, int]] = []
    file = make(progress=lambda done, total: told.append((done, total)))
    assert len(trained) == 3 + 2
    assert told[0] == (2, 4)
    before = file.read_bytes()
    assert make().read_bytes() == before
    assert len(trained) == 5
    assert timeless(make("other")) == timeless(file)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"plan": replace(PLAN, n=2)}, "n was 3"),
        ({"plan": replace(PLAN, recipe=replace(RECIPE, steps=9))}, "recipe.steps was 8"),
        ({"plan": replace(PLAN, seed=43)}, "seed was 42"),
        ({"executor": LocalExecutor(2)}, "threads was 1"),
        ({"text": None}, "corpus.text.sha256 was"),
    ],
)
def test_a_folder_with_a_run_of_other_settings_is_refused(
    make: Callable[..., Path], tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    file = make(plan=replace(PLAN, repeats=0, recipe=RECIPE))
    before = file.read_bytes()
    changes["plan"] = replace(changes.get("plan", PLAN), repeats=0)
    with pytest.raises(UsageError, match="out=") as caught:
        make(**changes)
    assert named in str(caught.value)
    assert str(tmp_path / "run") in str(caught.value)
    assert file.read_bytes() == before


def test_a_folder_whose_text_was_replaced_does_not_remember_the_old_one(
    make: Callable[..., Path], texts: tuple[Path, Path], tmp_path: Path
) -> None:
    first = timeless(make())
    for file in (tmp_path / "run").rglob("*.json"):
        file.unlink()
    assert timeless(make(validation=texts[0]))["trained"][0]["loss"] != first["trained"][0]["loss"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "\udce4"])
@pytest.mark.parametrize("which", ["plan.json", "result"])
def test_a_file_gone_bad_is_named(make: Callable[..., Path], tmp_path: Path, content: str, which: str) -> None:
    file = make(plan=replace(PLAN, n=1, repeats=0))
    (result,) = (tmp_path / "run" / "trained").iterdir()
    bad = result if which == "result" else tmp_path / "run" / which
    bad.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(LpzError) as caught:
        make(plan=replace(PLAN, n=1, repeats=0))
    message = str(caught.value)
    assert str(bad if (which, content) != ("plan.json", '{"a": 1}') else bad.parent) in message
    assert "delete" in message or "choose another `out=`" in message
    assert "\n" not in message
    assert file.exists()


def test_the_result_of_another_training_is_not_taken_for_this_one(make: Callable[..., Path], tmp_path: Path) -> None:
    make(plan=replace(PLAN, n=2, repeats=0))
    one, other = (tmp_path / "run" / "trained").iterdir()
    one.write_bytes(other.read_bytes())
    with pytest.raises(LpzError, match=f"'{one}'"):
        make(plan=replace(PLAN, n=2, repeats=0))


def test_a_diverged_training_is_written_down_and_not_ranked(make: Callable[..., Path]) -> None:
    file = make(plan=replace(PLAN, recipe=replace(RECIPE, learning_rate=1e30)))
    document = json.loads(file.read_text())
    assert [row["loss"] for row in document["trained"]] == [None] * 4
    with pytest.raises(LpzError, match="no trained"):
        made_benchmark(file, TOYS).trained()
    document["trained"][1]["loss"] = 5.0
    file.write_text(json.dumps(document))
    (entry,) = made_benchmark(file, TOYS).trained()
    assert (entry.key, entry.quality) == (PLAN.runs(TOY)[1][0], 5.0)


def test_a_folder_that_cannot_be_made_or_filled_is_told(make: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in ("file", "file/run"):
        with pytest.raises(LpzError, match=f"'{tmp_path}/{out}'"):
            make(out)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a disk that is full soon
    try:
        with pytest.raises(LpzError, match="disk space") as caught:
            make()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert {file.name for file in (tmp_path / "run").iterdir()} == {".lock", "plan.json", "trained"}
    assert make().exists()


def test_validating_on_the_training_text_is_possible(make: Callable[..., Path], texts: tuple[Path, Path]) -> None:
    assert make(plan=replace(PLAN, n=1, repeats=0), validation=texts[0]).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "something"}, "no benchmark"),
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
        ({"plan": None}, "is damaged"),
        ({"trained": [{"architecture": "d8-h1"}]}, "KeyError: 'loss'"),
        ({"trained": [{"architecture": "d9-h1", "seed": 42, "loss": 1.0}]}, "'d9'"),
    ],
)
def test_a_document_of_another_kind_is_refused(make: Callable[..., Path], change: dict[str, Any], message: str) -> None:
    file = make(plan=replace(PLAN, n=1, repeats=0))
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(LpzError, match=message):
        made_benchmark(file, TOYS)
    for content in ("[]", "{", '"text"'):
        file.write_text(content)
        with pytest.raises(LpzError, match=r"benchmark\.json"):
            made_benchmark(file, TOYS)


def test_a_loss_that_is_no_finite_number_is_refused(make: Callable[..., Path]) -> None:
    file = make(plan=replace(PLAN, n=1, repeats=0))
    document = json.loads(file.read_text())
    document["trained"][0]["loss"] = math.nan
    file.write_text(json.dumps(document))
    with pytest.raises(LpzError, match="NaN is no"):
        made_benchmark(file, TOYS).trained()


# The command --------------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(texts: tuple[Path, Path]) -> list[str]:
    """The command that makes a benchmark of the smallest models of the zoo's space."""
    text, validation = texts
    return [
        "bench", "train", "tiny-gpt2", "--text", str(text), "--validation", str(validation), "--n", "4",
        "--repeats", "3", "--seeds", "2", "--max-params", "120000", "--steps", "6", "--batch-size", "2",
        "--seq-len", "16", "--windows", "4", "--device", "cpu", "--name", "mine",
    ]  # fmt: skip


@pytest.mark.integration
def test_train_then_show_tells_the_noise(lpz: Lpz, arguments: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    code, printed, err = lpz(*arguments, "--out", out, "--workers", "1", "--json")
    assert (code, err) == (0, "")
    assert json.loads(printed) == {"benchmark": f"{out}/benchmark.json"}
    document = json.loads(Path(out, "benchmark.json").read_text())
    assert all(row["body_parameters"] <= 120_000 for row in document["trained"])
    code, printed, err = lpz("bench", "show", out, "--json")
    facts = json.loads(printed)
    assert (code, err) == (0, "")
    assert (facts["benchmark"], facts["architectures"], facts["better"]) == ("mine", 4, "smaller")
    assert facts["training"]["steps"] == 6
    rows = document["trained"]
    one, other = [row["loss"] for row in rows[:3]], [row["loss"] for row in rows[4:]]
    assert [row["seed"] for row in rows] == [42] * 4 + [43] * 3
    assert facts["spread"]["minimum"] == min(row["loss"] for row in rows[:4])
    assert facts["noise"] == {
        "seeds": 2,
        "architectures_with_several_seeds": 3,
        "spearman_between_seeds": spearman(one, other),
        "kendall_between_seeds": kendall(one, other),
        "standard_deviation_of_a_seed": statistics.pstdev([a - b for a, b in zip(one, other, strict=True)]) / 2**0.5,
    }
    code, printed, _ = lpz("bench", "show", out)
    assert code == 0
    assert "spearman" in printed
    code, printed, err = lpz(*overriding(tuple(arguments), "--out", out, "--workers", "1", "--steps", "7"))
    assert (code, printed) == (2, "")
    assert "recipe.steps" in err
    assert err.count("\n") == 1


def test_without_further_seeds_there_is_no_noise_to_tell(make: Callable[..., Path], lpz: Lpz) -> None:
    file = make(plan=replace(PLAN, n=2, repeats=2))
    document = json.loads(file.read_text()) | {"space": "tiny-gpt2"}
    for row in document["trained"]:
        row["architecture"] = (
            "d64.e32.k1-h1.i64" if row["architecture"] == PLAN.runs(TOY)[0][0] else "d64.e32.k2-h1.i64"
        )
    file.write_text(json.dumps(document))
    assert json.loads(lpz("bench", "show", str(file), "--json")[1])["noise"] is None
    assert lpz("bench", "show", str(file))[0] == 0


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (("--space", "tiny-gpt"), 2, "'tiny-gpt2'"),
        (("--text", "nowhere.txt"), 1, "'nowhere.txt'"),
        (("--validation", "nowhere.txt"), 1, "'nowhere.txt'"),
        (("--out", "file"), 1, "'file'"),
        (("--seq-len", "129"), 1, "128 positions"),
        (("--seq-len", "100000"), 2, "100000 tokens"),
    ],
)
def test_bad_requests_get_one_line_and_an_exit_code(
    changes: tuple[str, str], code: int, message: str,
    lpz: Lpz, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    if changes[0] == "--space":
        arguments[2], changes = changes[1], ("--n", "1")
    got, out, err = lpz(*overriding((*arguments, "--out", "run", "--workers", "1"), *changes))
    assert (got, out) == (code, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def results(folder: Path) -> dict[str, bytes]:
    """The finished trainings of a run."""
    if not (folder / "trained").exists():
        return {}
    return {f.name: f.read_bytes() for f in (folder / "trained").iterdir() if not f.name.startswith(".")}


@pytest.mark.integration
def test_a_killed_run_leaves_no_worker_and_goes_on_where_it_stopped(
    lpz: Lpz, arguments: list[str], tmp_path: Path
) -> None:
    arguments = [*overriding(tuple(arguments), "--steps", "30")]
    run = [sys.executable, "-c", "from lpz_cli.main import main; main()", *arguments]
    process = subprocess.Popen(
        [*run, "--out", str(tmp_path / "killed"), "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        while len(results(tmp_path / "killed")) < 2:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    finally:
        process.kill()
    process.communicate()  # returns when the last worker that holds the pipes has gone
    assert process.returncode == -signal.SIGKILL
    finished = results(tmp_path / "killed")
    assert 2 <= len(finished) < 7
    assert not (tmp_path / "killed" / "benchmark.json").exists()

    assert lpz(*arguments, "--out", str(tmp_path / "killed"), "--workers", "1")[0] == 0
    assert lpz(*arguments, "--out", str(tmp_path / "whole"), "--workers", "1")[0] == 0
    assert timeless(tmp_path / "killed" / "benchmark.json") == timeless(tmp_path / "whole" / "benchmark.json")
    assert finished.items() <= results(tmp_path / "killed").items()


@pytest.mark.parametrize("more", [{"n": 5}, {"repeats": 2}, {"seeds": 3}, {"seeds": 4}], ids=str)
def test_a_stacked_benchmark_grows_by_what_is_new(make: Callable[..., Path], more: dict[str, int]) -> None:
    stacked: dict[str, Any] = {"space": STACKED, "stack": True}
    files = {file: file.read_bytes() for file in (make(**stacked).parent / "trained").iterdir()}
    grown = replace(PLAN, **more)  # type: ignore[arg-type]  # whole numbers
    one, other = timeless(make(plan=grown, **stacked)), timeless(make("fresh", plan=grown, **stacked))
    assert {file: file.read_bytes() for file in files} == files
    losses = [[row["loss"] for row in document["trained"]] for document in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # further seeds are stacked apart, which rounds otherwise
    assert len(losses[0]) == len(grown.runs(TOY))


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_cannot_be_stacked_is_told_before_anything_is_trained(
    seeds: int, make: Callable[..., Path], tmp_path: Path
) -> None:
    if seeds == 1:  # which stacks nothing
        make(plan=replace(PLAN, seeds=1), stack=True)
    before = set((tmp_path / "run").rglob("*")) if seeds == 1 else set()
    plan = (tmp_path / "run" / "plan.json").read_text() if before else ""
    with pytest.raises(UsageError, match="as a stack") as refused:
        make(plan=replace(PLAN, seeds=3), stack=True)
    assert "`stack=True`" in str(refused.value)
    assert set((tmp_path / "run").rglob("*")) == before
    assert not before or (tmp_path / "run" / "plan.json").read_text() == plan


@pytest.mark.parametrize("more", [{"n": 5}, {"repeats": 2}, {"seeds": 3}], ids=str)
def test_a_finished_benchmark_grows_without_training_anything_again(
    make: Callable[..., Path], tmp_path: Path, more: dict[str, int]
) -> None:
    before = make()
    files = {file: file.stat().st_mtime_ns for file in (before.parent / "trained").iterdir()}
    grown = replace(PLAN, **more)  # type: ignore[arg-type]  # whole numbers
    assert len(grown.runs(TOY)) > len(files) == len(PLAN.runs(TOY))
    assert timeless(make(plan=grown)) == timeless(make("fresh", plan=grown))
    assert {file: file.stat().st_mtime_ns for file in files} == files
    with pytest.raises(UsageError, match="not"):
        make(plan=PLAN)  # fewer is another specification
