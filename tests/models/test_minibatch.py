"""Text becomes a minibatch that fits the model, or an error that says what to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, PreTrainedModel

from lpzero_hf import minibatch, score
from lpzero_hf.errors import LpzError, MinibatchError
from lpzero_hf.models.minibatch import embedded_tokenizer, position_limit
from lpzero_hf.models.objective import with_labels
from scripts.make_data import DATA, train
from tests.support.families import tiny_model


def test_the_embedded_text_is_large_and_its_tokenizer_loses_nothing() -> None:
    text = (DATA / "text.txt").read_text(encoding="utf-8")
    assert len(text.encode()) >= 64 * 1024
    sample = text[:500] + " naïve — 北京"
    tokenizer = embedded_tokenizer()
    assert tokenizer.decode(tokenizer(sample)["input_ids"]) == sample
    assert len(tokenizer) == 4096


def test_training_the_tokenizer_again_gives_the_shipped_file() -> None:
    again = train((DATA / "text.txt").read_text(encoding="utf-8"))
    assert again.get_vocab() == embedded_tokenizer().get_vocab()


def test_the_seed_chooses_the_windows() -> None:
    first = minibatch(seed=1)["input_ids"]
    assert first.shape == (16, 128)
    assert torch.equal(first, minibatch(seed=1)["input_ids"])
    assert not torch.equal(first, minibatch(seed=2)["input_ids"])


def test_a_users_text_is_used(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("to be or not to be " * 50, encoding="utf-8")
    ids = minibatch(text=tmp_path / "t.txt", batch_size=2, seq_len=20)["input_ids"]
    assert set(embedded_tokenizer().decode(ids[0]).split()) <= {"to", "be", "or", "not", "o", "e", "r", "t", "ot"}


def test_masked_language_models_get_hidden_tokens_as_labels() -> None:
    model = tiny_model("bert")
    batch = minibatch(model, batch_size=8, seq_len=40)
    hidden = batch["labels"] != -100
    assert hidden.sum(1).tolist() == [6] * 8  # 15% of 40
    assert torch.all(batch["input_ids"][hidden] == embedded_tokenizer().mask_token_id)
    assert torch.equal(batch["labels"][hidden], minibatch(batch_size=8, seq_len=40)["input_ids"][hidden])


def test_causal_labels_leave_out_padding(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    batch["attention_mask"][2, 5:] = 0
    labels = with_labels(gpt2, batch, 42)["labels"]
    assert torch.all(labels[2, 5:] == -100)
    assert torch.equal(labels[:2], batch["input_ids"][:2])


def test_a_callers_own_dict_is_taken_as_it_is(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    only_ids = {"input_ids": batch["input_ids"]}
    assert score(gpt2, only_ids, "snip")["snip"].value == pytest.approx(score(gpt2, batch, "snip")["snip"].value)
    labels = batch["input_ids"].clone()
    labels[:, :6] = -100
    with_own = score(gpt2, batch | {"labels": labels}, "snip")["snip"].value
    assert with_own != score(gpt2, batch, "snip")["snip"].value
    assert set(batch) == {"input_ids", "attention_mask"}


def test_random_tokens_cover_the_models_vocabulary(gpt2: PreTrainedModel) -> None:
    ids = minibatch(gpt2, random_tokens=True, seq_len=64, batch_size=64)["input_ids"]
    assert 0 <= int(ids.min()) < 50
    assert 4150 < int(ids.max()) < 4200


def test_roberta_starts_its_positions_behind_the_padding_id() -> None:
    model = tiny_model("roberta")
    limit = position_limit(model)
    assert limit == 79
    assert score(model, minibatch(model, batch_size=2, seq_len=limit), "snip")["snip"].status == "ok"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seq_len": 65}, "seq_len=64"),
        ({"seq_len": 1}, "length 1"),
        ({"batch_size": 0}, "size 0"),
        ({"text": "no/such/file.txt"}, "'no/such/file.txt'"),
    ],
)
def test_bad_requests_are_refused(options: dict[str, Any], message: str, gpt2: PreTrainedModel) -> None:
    with pytest.raises(MinibatchError, match=message):
        minibatch(gpt2, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"  \n ", "empty"), (b"short", "too few"), (b"\xff\xfe\x00", "UTF-8")],
)
def test_bad_texts_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(MinibatchError, match=message):
        minibatch(text=tmp_path / "t.txt", seq_len=16)


def test_a_vocabulary_that_is_too_small_is_refused() -> None:
    with pytest.raises(MinibatchError, match="random_tokens=True"):
        minibatch(tiny_model("gpt2", vocab_size=258))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({}, "'input_ids'"),
        ({"input_ids": torch.zeros(0, 5, dtype=torch.long)}, r"\[0, 5\]"),
        ({"input_ids": torch.zeros(2, 5, 3, dtype=torch.long)}, "integers"),
        ({"input_ids": torch.zeros(2, 5)}, "integers"),
        ({"input_ids": torch.full((2, 5), -1)}, "id -1"),
        ({"input_ids": torch.ones(2, 5, dtype=torch.long), "labels": torch.ones(3, 5)}, "'labels'"),
        (
            {"input_ids": torch.ones(2, 5, dtype=torch.long), "attention_mask": torch.zeros(2, 5)},
            "masked",
        ),
    ],
)
def test_bad_minibatches_are_refused(broken: dict[str, Tensor], message: str, gpt2: PreTrainedModel) -> None:
    with pytest.raises(MinibatchError, match=message):
        score(gpt2, broken, "params")


def test_padding_changes_no_score_of_real_tokens(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    """Activations and attention at padded positions are left out."""
    names = ["attention_confidence", "softmax_confidence", "v_pca", "activation_distance", "snip", "grad_norm"]
    pad = torch.full((4, 3), 7)
    padded = {
        "input_ids": torch.cat([batch["input_ids"], pad], 1),
        "attention_mask": torch.cat([batch["attention_mask"], torch.zeros_like(pad)], 1),
    }
    plain, longer = score(gpt2, batch, names), score(gpt2, padded, names)
    for name in names:
        assert longer[name].value == pytest.approx(plain[name].value, rel=1e-4), name


def test_a_model_that_names_no_embedding_of_tokens_is_refused_in_one_line() -> None:
    class Wordless(PreTrainedModel):
        config_class = GPT2Config

        def __init__(self, config: GPT2Config) -> None:
            super().__init__(config)
            self.layer = torch.nn.Linear(2, 2)

    with pytest.raises(LpzError):
        score(Wordless(GPT2Config()), minibatch(Wordless(GPT2Config())), "params")


def test_token_ids_of_any_whole_numbers_are_scored_and_those_without_values_are_refused() -> None:
    model = tiny_model("gpt2")
    ids = torch.arange(16).view(2, 8)
    wanted = score(model, {"input_ids": ids}, "snip")["snip"].require()
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert score(model, {"input_ids": ids.to(dtype)}, "snip")["snip"].require() == wanted
    for wrong in (ids.to("meta"), ids.bool(), ids.float()):
        with pytest.raises(MinibatchError):
            score(model, {"input_ids": wrong}, "snip")


def test_one_token_alone_is_told_to_have_no_next_one() -> None:
    rows = score(tiny_model("gpt2"), {"input_ids": torch.ones(2, 1, dtype=torch.long)}, ["snip", "params"])
    assert rows["params"].status == "ok"
    assert "no next one" in rows["snip"].reason
