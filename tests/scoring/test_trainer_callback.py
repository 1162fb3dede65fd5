"""Proxies in the log of a Trainer: they are there, and the training is the same as without them."""

import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from lpzero_hf import ProxyCallback, recommended, score
from lpzero_hf.errors import MinibatchWarning, ModelWarning, UsageError

pytest.importorskip("accelerate", reason="the Trainer needs it")
ROOT = Path(__file__).parent.parent.parent
PROXIES = ["snip", "params", "synflow", "zen"]


def rows() -> list[dict[str, Any]]:
    drawn = torch.randint(5, 90, (32, 12), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": row, "token_count": 12} for row in drawn]


def trainer(folder: Path, data: Any = None, collator: Any = None, **arguments: Any) -> Trainer:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=100, n_positions=16, bos_token_id=0, eos_token_id=0)
    )
    assert model.config.resid_pdrop > 0  # so that the random numbers matter
    given = {"max_steps": 6, "logging_steps": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-2} | arguments
    settings = TrainingArguments(
        str(folder), report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True, seed=3, **given
    )
    return Trainer(model, settings, train_dataset=data or rows(), data_collator=collator)  # type: ignore[arg-type]  # a list is a data set


def losses(made: Trainer) -> list[float]:
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


def logged(made: Trainer, name: str) -> dict[int, float]:
    return {entry["step"]: entry[name] for entry in made.state.log_history if name in entry}


def test_scores_are_logged_at_the_start_and_every_few_steps(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.add_callback(ProxyCallback(made, PROXIES, every=2))
    batch = {name: torch.stack([row[name] for row in rows()[:4]]) for name in ("input_ids", "labels")}
    assert made.model is not None
    before = score(made.model, batch, PROXIES)
    made.train()
    for name in PROXIES:
        found = logged(made, f"proxy/{name}")
        assert sorted(found) == [0, 2, 4, 6]
        assert found[0] == before[name].value
    after = score(made.model, batch, PROXIES)
    assert logged(made, "proxy/snip")[6] == after["snip"].value != before["snip"].value


def test_without_names_those_recommended_for_the_model_are_logged(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.add_callback(ProxyCallback(made, every=None))
    made.train()
    first = {name.removeprefix("proxy/") for name in made.state.log_history[0] if name.startswith("proxy/")}
    assert first == {proxy.name for proxy in recommended("decoder")}


def test_the_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    plain = trainer(tmp_path / "a")
    plain.train()
    watched = trainer(tmp_path / "b")
    watched.add_callback(ProxyCallback(watched, PROXIES, every=1))
    watched.train()
    assert losses(plain) == losses(watched)
    assert len(losses(plain)) == 6
    assert plain.model is not None
    assert watched.model is not None
    for one, other in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other)


class Drawing:
    """A collator with random numbers of its own, of rows that hold texts."""

    def __init__(self) -> None:
        self.numbers = torch.Generator().manual_seed(7)

    def __call__(self, found: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = torch.tensor([[len(word) for word in row["text"].split()] for row in found])
        return {"input_ids": ids, "labels": torch.randint(5, 90, ids.shape, generator=self.numbers)}


class Stream(IterableDataset[dict[str, Any]]):
    """Rows that are read once, one after the other; it knows its length."""

    def __init__(self) -> None:
        self.left = rows() * 2

    def __len__(self) -> int:
        return 64

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self.left:
            yield self.left.pop(0)


TEXTS = [{"text": " ".join("x" * int(n) for n in row["input_ids"][:5])} for row in rows()]


@pytest.mark.parametrize(
    ("data", "settings"),
    [(lambda: TEXTS, {"collator": Drawing, "remove_unused_columns": False}), (Stream, {})],
    ids=["texts and random labels", "a stream"],
)
def test_data_and_collators_of_ones_own_serve_the_training_as_without(
    tmp_path: Path, data: Any, settings: dict[str, Any]
) -> None:
    def trained(watched: bool) -> list[float]:
        own = {"collator": settings["collator"]()} if "collator" in settings else {}
        made = trainer(tmp_path / str(watched), data(), **{**settings, **own})
        if watched:
            made.add_callback(ProxyCallback(made, "snip", every=2))
        made.train()
        assert not watched or sorted(logged(made, "proxy/snip")) == [0, 2, 4, 6]
        return losses(made)

    assert trained(True) == trained(False)


def test_gradients_modes_and_random_numbers_are_as_before(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    seen: list[tuple[Any, ...]] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            model = kwargs["model"]
            grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
            seen.append((grads, model.training, torch.get_rng_state(), control.should_log))

    for callback in (Watch(), ProxyCallback(made, PROXIES, every=1), Watch()):
        made.add_callback(callback)  # type: ignore[arg-type]  # a callback is one
    made.callback_handler.callbacks = [c for c in made.callback_handler.callbacks if not isinstance(c, Watch)]
    watches = [Watch(), Watch()]
    place = next(i for i, c in enumerate(made.callback_handler.callbacks) if isinstance(c, ProxyCallback))
    made.callback_handler.callbacks.insert(place + 1, watches[1])
    made.callback_handler.callbacks.insert(place, watches[0])
    made.train()
    assert len(seen) == 12
    for (grads, mode, numbers, due), (grads2, mode2, numbers2, due2) in zip(seen[::2], seen[1::2], strict=True):
        assert (mode, due) == (mode2, due2) == (True, True)
        assert torch.equal(numbers, numbers2)
        for one, other in zip(grads, grads2, strict=True):
            assert (one is None and other is None) or torch.equal(one, other)


def test_the_start_alone_and_a_minibatch_of_ones_own(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    own = {"input_ids": torch.arange(5, 25).view(2, 10), "text": ["a", "b"]}
    made.add_callback(ProxyCallback(made, "snip", every=None, batch=own, prefix="zero_cost_"))
    with pytest.warns(MinibatchWarning) as told:
        made.train()
    assert len([one for one in told if one.category is MinibatchWarning]) == 1
    assert list(logged(made, "zero_cost_snip")) == [0]


def test_a_proxy_without_a_score_is_told_of_once_and_not_logged(tmp_path: Path) -> None:
    def broken(model: Any, batch: Any) -> float:
        return math.nan

    made = trainer(tmp_path)
    made.add_callback(ProxyCallback(made, ["params", broken], every=1))
    with pytest.warns(ModelWarning, match="broken is not logged") as told:
        made.train()
    assert len([one for one in told if "broken" in str(one.message)]) == 1
    assert logged(made, "proxy/broken") == {}
    assert len(logged(made, "proxy/params")) == 7


def test_wrong_settings_are_refused_before_the_training(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    with pytest.raises(UsageError, match="every 0 steps"):
        ProxyCallback(made, "snip", every=0)
    with pytest.raises(UsageError, match="unknown proxy"):
        ProxyCallback(made, "snipp")


@pytest.mark.integration
def test_the_example_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "trainer_proxies.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    for step in (0, 5, 10, 15, 20):
        assert f"step {step:2}: proxy/snip" in done.stdout
    assert done.stdout.count("loss") == 4


@pytest.mark.parametrize("attribute", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_weights_in_parts_are_refused_in_every_process(tmp_path: Path, attribute: str) -> None:
    made = trainer(tmp_path)
    callback = ProxyCallback(made, PROXIES)
    setattr(made, attribute, True)
    for first in (True, False):
        made.state.is_world_process_zero = first
        with pytest.raises(UsageError, match="no process may hold"):
            callback.on_train_begin(made.args, made.state, made.control)


def test_what_every_step_would_warn_of_is_said_once_a_training(tmp_path: Path) -> None:
    data = [{"input_ids": row["input_ids"], "labels": 0} for row in rows()]
    made = trainer(tmp_path, data)
    config = made.model.config  # type: ignore[union-attr]  # it has a model
    config.pad_token_id = 0
    made.model = made.model_wrapped = GPT2ForSequenceClassification(config)
    given = {"input_ids": torch.stack([row["input_ids"] for row in rows()[:4]])}  # without labels
    made.add_callback(ProxyCallback(made, ["snip", "params"], every=1, batch=given))
    for _ in range(2):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            made.train()
        said = [one for one in told if one.category is ModelWarning]
        assert ["no loss of its own" in str(one.message) for one in said] == [True]
        assert said[0].filename == __file__
