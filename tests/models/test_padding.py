"""Padding changes no score: neither its amount, on either side, nor the token ids under it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from lpzero_hf import score
from lpzero_hf.models.objective import objective, with_labels
from lpzero_hf.models.padding import without_padding
from tests.support.families import FAMILIES, RARE, VOCABULARY, tiny_model

SHOWN = ["gpt2", "bert", "roberta", "llama", "t5", "bart", "xlm", "xlnet", "mixtral", "mamba", "fnet", "rwkv", "funnel",
         "recurrent_gemma", "longformer", "convbert", "bamba", "mbart"]  # fmt: skip
BARE = ["gpt2", "bert", "t5", "mamba", "fnet"]
EXPRESSIONS = [
    "sum(sum(product(abs(W), abs(G))))",
    "sum(mean(product(abs(A), abs(J))))",
    "mean(mean(sum(abs(H), abs(A))))",
    "mean(mean(sum(exp(S), sigmoid(W))))",
    "mean(mean(matmul(softmax(A), J)))",
]


def padded() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two minibatches [4, 12] and [4, 17] of the same real tokens, with different padding on both sides."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, VOCABULARY, (4, 12), generator=generator)
    mask = torch.ones_like(ids)
    for row, real in enumerate((slice(0, 11), slice(0, 9), slice(2, 11), slice(0, 7))):
        mask[row] = 0
        mask[row, real] = 1
    more = torch.nn.functional.pad(mask, (2, 3))
    other = torch.randint(3, VOCABULARY, more.shape, generator=generator)
    other[more.bool()] = ids[mask.bool()]
    first = {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}
    return first, {"input_ids": other, "attention_mask": more}


def bare(family: str) -> PreTrainedModel:
    """The model without a head."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModel.from_config(tiny_model(family).config)
    return model.eval()


def classifier(family: str) -> PreTrainedModel:
    """The model with a head that classifies sequences."""
    torch.manual_seed(0)
    config = tiny_model(family, pad_token_id=0).config
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    return model.eval()


def cases() -> list[object]:
    """The quick ones, and the rest of the families."""
    quick = [(tiny_model, f) for f in SHOWN] + [(bare, f) for f in BARE] + [(classifier, f) for f in ("gpt2", "bert")]
    slow = [(make, f) for make in (tiny_model, bare) for f in (FAMILIES | RARE) if (make, f) not in quick]
    marked = [
        pytest.param(*case, marks=pytest.mark.slow)
        for case in slow
        if case[1] != "reformer" and case != (bare, "funnel")
    ]
    return [*quick, *marked]


@pytest.mark.parametrize(("make", "family"), cases())
def test_padding_changes_no_score(make: Callable[[str], PreTrainedModel], family: str) -> None:
    model = make(family)
    batches = padded()
    if make is classifier:
        for batch in batches:
            batch["labels"] = torch.tensor([0, 1, 0, 1])
    first, second = (score(model, batch, ["all", *EXPRESSIONS]) for batch in batches)
    assert {row.proxy: row.value for row in first.rows} == {row.proxy: row.value for row in second.rows}
    assert [row.status for row in first.rows] == [row.status for row in second.rows]
    assert "failed" not in {row.status for row in first.rows}


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5"])
def test_the_objective_of_a_model_without_a_loss_is_over_real_tokens(family: str) -> None:
    """Of one sample with padding, that other samples are in the way of cutting off, it is the sample's own."""
    model = bare(family)
    batch, _ = padded()
    short, longest = ({k: v[row : row + 1] for k, v in batch.items()} for row in (3, 0))
    both = {k: torch.cat([short[k], longest[k]]) for k in short}
    one, other, together = (objective(model, with_labels(model, b, 42), 42).detach() for b in (short, longest, both))
    expected = (7 * one + 11 * other) / 18
    assert float(together) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_micro_batches_of_a_model_without_a_loss_count_real_tokens(family: str) -> None:
    model = bare(family).double()
    batch, _ = padded()
    whole, parts = (score(model, batch, ["snip", "fisher"], micro_batch=size) for size in (None, 2))
    for name, row in whole.items():
        assert parts[name].value == pytest.approx(row.require(), rel=1e-9)


def test_padding_may_exceed_positions_and_vocabulary() -> None:
    model = tiny_model("gpt2", n_positions=12)
    batch = padded()[1]
    batch["input_ids"][batch["attention_mask"] == 0] = VOCABULARY
    assert score(model, batch, "snip")["snip"].status == "ok"


def test_every_entry_with_a_column_per_token_is_cut() -> None:
    first, _ = padded()
    mask = first["attention_mask"].clone()
    mask[:, :1], mask[:, 10:] = 0, 0
    batch = first | {
        "attention_mask": mask,
        "labels": torch.arange(48).view(4, 12),
        "position_ids": torch.arange(12)[None],
        "three": torch.arange(3 * 48).view(3, 4, 12),
        "perm_mask": torch.arange(4 * 144).view(4, 12, 12),
        "class": torch.arange(4),
        "use": True,
    }
    cut = without_padding(batch, 5)
    kept = slice(1, 10)
    assert cut["input_ids"].shape == (4, 9)
    assert torch.equal(cut["input_ids"][mask[:, kept] == 0], torch.full(((mask[:, kept] == 0).sum(),), 5))  # type: ignore[call-overload]
    assert torch.equal(cut["labels"], batch["labels"][:, kept])  # type: ignore[index]
    assert torch.equal(cut["position_ids"], torch.arange(1, 10)[None])
    assert torch.equal(cut["three"], batch["three"][:, :, kept])  # type: ignore[index]
    assert torch.equal(cut["perm_mask"], batch["perm_mask"][:, kept, kept])  # type: ignore[index]
    assert cut["class"] is batch["class"]
    assert cut["use"] is True


def test_targets_of_a_decoder_are_cut_on_their_own() -> None:
    first, _ = padded()
    labels = torch.arange(20).view(4, 5)
    labels[:, 3:] = -100
    cut = without_padding(first | {"labels": labels, "decoder_input_ids": labels + 1}, 0, apart=True)
    assert cut["input_ids"].shape == (4, 11)
    assert cut["labels"].shape == cut["decoder_input_ids"].shape == (4, 3)
    real = torch.ones(4, 5, dtype=torch.long)
    kept = without_padding(first | {"labels": labels, "decoder_attention_mask": real}, 0, apart=True)
    assert kept["labels"].shape == (4, 5)


@pytest.mark.parametrize("read", [1, 2, 3, 4, 5])
def test_targets_and_what_a_decoder_reads_are_both_kept(read: int) -> None:
    first, _ = padded()
    labels = torch.arange(20).view(4, 5)
    labels[:, 3:] = -100
    mask = (torch.arange(5) < read).long().repeat(4, 1)
    cut = without_padding(first | {"labels": labels, "decoder_attention_mask": mask}, 0, apart=True)
    columns = max(3, read)
    assert cut["labels"].shape == cut["decoder_attention_mask"].shape == (4, columns)


def test_a_minibatch_without_padding_is_not_touched() -> None:
    ids = torch.arange(8).view(2, 4)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert all(value is batch[name] for name, value in without_padding(batch, 0).items())
