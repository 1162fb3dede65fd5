"""The rows of a minibatch are the first by seed, as many as it needs, whatever holds them and whatever the model is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lpzero_hf import DatasetText, minibatch
from lpzero_hf.errors import MinibatchError
from lpzero_hf.models import text_tokens
from lpzero_hf.models.minibatch import embedded_tokenizer
from lpzero_hf.models.text_source import read_text
from lpzero_hf.models.text_tokens import BLOCK_ROWS, draw_rows, shuffled, tokenizer_for
from lpzero_hf.scoring.setting import Setting
from tests.support.families import tiny_model


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Five hundred rows of different lengths."""
    rows = [{"text": f"[{i}] " + "the quick brown fox jumps " * (i % 9 + 1)} for i in range(500)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "t.jsonl"


def test_rows_are_packed_and_end_with_the_token_for_it(table: Path) -> None:
    drawn = draw_rows(DatasetText(str(table)), embedded_tokenizer(), 6, 40, 42)
    tokens = []
    for row in drawn.rows:
        tokens += [*embedded_tokenizer()(row)["input_ids"], embedded_tokenizer().eos_token_id][:40]
    assert minibatch(text=table, batch_size=6, seq_len=40)["input_ids"].flatten().tolist() == tokens[:240]
    assert not drawn.whole
    assert embedded_tokenizer().eos_token_id in tokens[:240]
    assert len(tokens) >= 240 > len(tokens) - 40  # no row more than needed


def test_the_seed_draws_the_rows(table: Path) -> None:
    first, again, other = (minibatch(text=table, batch_size=2, seq_len=30, seed=s)["input_ids"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_larger_minibatch_begins_as_a_smaller_one(table: Path) -> None:
    small, large = (minibatch(text=table, batch_size=b, seq_len=30)["input_ids"] for b in (2, 8))
    assert torch.equal(small, large[:2])


def test_no_more_than_a_block_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"row {read} of many"

    rows = shuffled(endless(), 0, 10**6)
    assert len({next(rows) for _ in range(BLOCK_ROWS)}) == BLOCK_ROWS
    assert read == BLOCK_ROWS
    next(rows)
    assert read == 2 * BLOCK_ROWS
    monkeypatch.setattr(text_tokens, "BLOCK_CHARACTERS", 100)
    before = read
    next(shuffled(endless(), 0, 10**6))
    assert read - before < 10


def test_long_rows_are_cut_before_they_are_kept() -> None:
    assert [len(row) for row in shuffled(iter(["a" * 1000, "b" * 5]), 0, 100)] in ([100, 5], [5, 100])


def test_a_small_dataset_is_drawn_from_as_a_text(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "one two three four five six seven eight nine ten"}))
    ids = minibatch(text=tmp_path / "t.jsonl", batch_size=16, seq_len=6)["input_ids"]
    assert len({tuple(row) for row in ids.tolist()}) > 3
    with pytest.raises(MinibatchError, match="seq_len="):
        minibatch(text=tmp_path / "t.jsonl", seq_len=60)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_encoders_and_decoders_see_the_same_rows(family: str, table: Path) -> None:
    batch = minibatch(tiny_model(family), text=table, batch_size=4, seq_len=32)
    ids = minibatch(text=table, batch_size=4, seq_len=32)["input_ids"]
    seen = batch["input_ids"]
    if family == "bert":
        seen = torch.where(batch["labels"] == -100, seen, batch["labels"])
    assert torch.equal(seen, ids)


def test_a_text_and_random_tokens_are_refused(table: Path) -> None:
    with pytest.raises(MinibatchError, match="two sources"):
        minibatch(tiny_model("gpt2"), text=table, random_tokens=True)


def test_a_small_vocabulary_gets_the_first_merges() -> None:
    whole, small = embedded_tokenizer(), tokenizer_for(384)
    text = "In the beginning God created the heaven and the earth. \u00e9\u4e2d"
    ids = small(text)["input_ids"]
    assert max(ids) < 384
    assert small.decode(ids) == text
    assert len(whole(text)["input_ids"]) < len(ids) < len(tokenizer_for(259)(text)["input_ids"])
    assert len(tokenizer_for(259)(text)["input_ids"]) == len(text.encode())  # bytes
    assert small.get_vocab().items() <= whole.get_vocab().items()
    assert (small.mask_token_id, small.eos_token_id, small.pad_token_id) == (
        whole.mask_token_id, whole.eos_token_id, whole.pad_token_id,
    )  # fmt: skip


def test_the_first_merges_are_what_training_at_that_size_gives() -> None:
    import runpy

    script = runpy.run_path("scripts/make_data.py")
    script["train"].__globals__["VOCABULARY"] = 384
    assert script["train"](read_text(None)).get_vocab() == tokenizer_for(384).get_vocab()


def test_a_vocabulary_without_all_bytes_or_a_large_one_gets_the_whole_tokenizer() -> None:
    assert [tokenizer_for(size) is embedded_tokenizer() for size in (2, 258, 259, 4095, 4096, 50_000)] == [
        True, True, False, False, True, True,
    ]  # fmt: skip
    assert tokenizer_for(300) is tokenizer_for(300)


def test_a_model_with_a_small_vocabulary_is_given_text_and_rows(table: Path) -> None:
    model = tiny_model("llama", vocab_size=300)
    ids = minibatch(model, batch_size=4, seq_len=32)["input_ids"]
    assert int(ids.max()) < 300
    assert len(set(ids.flatten().tolist())) > 20
    assert tokenizer_for(300).decode(ids[0]).strip() in read_text(None)
    packed = minibatch(model, text=table, batch_size=4, seq_len=32)["input_ids"]
    drawn = Setting(text=DatasetText(str(table)), batch_size=4, seq_len=32).portable()
    assert torch.equal(drawn.minibatch(model)["input_ids"], packed)  # rows that the whole tokenizer has counted
