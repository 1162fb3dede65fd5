"""What callers have as a minibatch works as it comes; what the model does not take is left out, with one note."""

import warnings
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import BatchEncoding, PreTrainedModel

from lpzero_hf import LpzError, load_proxy, minibatch, score
from lpzero_hf.errors import MinibatchError, MinibatchWarning
from lpzero_hf.models.given_batch import as_batch
from tests.support.families import tiny_model

IDS = [[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]]
WANTED = {"input_ids": torch.tensor(IDS), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
PROXIES = ["snip", "params", "jacobian_cosine"]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_model("llama")


def values(model: PreTrainedModel, batch: Any) -> list[float | None]:
    return [row.value for row in score(model, batch, PROXIES).rows]


def rows() -> list[dict[str, Any]]:
    return [{"input_ids": row, "attention_mask": [1] * 6, "text": "words", "label": 1} for row in IDS]


def datasets_batch() -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_list(rows())


FORMS: dict[str, Any] = {
    "tokenizer output": lambda: BatchEncoding({"input_ids": IDS, "attention_mask": [[1] * 6] * 2}),
    "tensors of a tokenizer": lambda: BatchEncoding(WANTED),
    "arrays": lambda: {"input_ids": numpy.array(IDS)},
    "lists": lambda: {"input_ids": IDS},
    "a data loader": lambda: DataLoader([{"input_ids": torch.tensor(row)} for row in IDS], batch_size=2),
    "a data loader of lists": lambda: DataLoader([{"input_ids": row, "text": "a"} for row in IDS], batch_size=2),
    "a dataset of tensors": lambda: datasets_batch().with_format("torch"),
    "a data loader of a dataset": lambda: DataLoader(datasets_batch(), batch_size=2),
    "a batch of a dataset": lambda: {"input_ids": IDS, "text": ["a", "b"], "label": [0, 1]},
    "rows of a dataset": rows,
    "a dataset": datasets_batch,
    "a slice of a dataset": lambda: datasets_batch()[:2],
    "columns of a dataset": lambda: {name: datasets_batch()[name] for name in ("input_ids", "attention_mask", "text")},
    "a slice of a dataset in pandas": lambda: datasets_batch().with_format("pandas")[:2],
    "a data frame": lambda: pytest.importorskip("pandas").DataFrame(rows()),
    "columns of a data frame": lambda: dict(pytest.importorskip("pandas").DataFrame(rows())),
    "token types": lambda: WANTED | {"token_type_ids": torch.zeros(2, 6, dtype=torch.long)},
    "a class of each sequence": lambda: WANTED | {"labels": torch.tensor([0, 1])},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_minibatch_is_scored_alike(model: PreTrainedModel, form: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MinibatchWarning)
        assert values(model, FORMS[form]()) == values(model, WANTED)
        assert load_proxy("snip")(model, FORMS[form]()) == values(model, WANTED)[0]


def test_what_a_model_does_not_take_is_named_in_one_note(model: PreTrainedModel) -> None:
    extra = {"token_type_ids": torch.zeros(2, 6), "text": ["a", "b"], "label": [0, 1]}
    with pytest.warns(MinibatchWarning) as told:
        score(model, WANTED | extra, PROXIES)
    (only,) = [one for one in told if one.category is MinibatchWarning]
    assert all(f"'{name}'" in str(only.message) for name in extra)
    assert only.filename == __file__
    with pytest.warns(MinibatchWarning) as told:
        load_proxy("snip")(model, WANTED | extra)
    assert len(told) == 1


def test_no_note_where_all_is_taken(model: PreTrainedModel) -> None:
    bert = tiny_model("bert")
    with warnings.catch_warnings():
        warnings.simplefilter("error", MinibatchWarning)
        score(model, WANTED | {"labels": WANTED["input_ids"]}, "snip")
        score(bert, WANTED | {"token_type_ids": torch.zeros(2, 6, dtype=torch.long)}, "snip")
        for family in ("mamba", "t5"):
            given = tiny_model(family)
            score(given, minibatch(given, batch_size=2, seq_len=8), "params")


def test_labels_of_a_model_without_a_head_are_left_out() -> None:
    headless = tiny_model("gpt2").base_model
    with pytest.warns(MinibatchWarning, match="'labels'"):
        assert set(as_batch(WANTED | {"labels": WANTED["input_ids"]}, headless)) == set(WANTED)


def test_rows_of_unequal_length_are_padded_and_masked(model: PreTrainedModel) -> None:
    made = as_batch({"input_ids": [[5, 6, 7], [8]], "labels": [[5, 6, 7], [8]]}, model)
    assert made["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert made["input_ids"][0].tolist() == [5, 6, 7]
    assert made["labels"][1].tolist() == [8, -100, -100]
    assert as_batch({"input_ids": [5, 6, 7]}, model)["input_ids"].shape == (1, 3)


def test_a_loader_that_shuffles_leaves_the_random_numbers_as_they_are(model: PreTrainedModel) -> None:
    rows: list[dict[str, Tensor]] = [{"input_ids": torch.randint(5, 50, (6,))} for _ in range(16)]
    loader = DataLoader(rows, batch_size=4, shuffle=True)  # type: ignore[arg-type]  # a list is a data set
    before = torch.get_rng_state()
    first = values(model, loader)
    assert torch.equal(torch.get_rng_state(), before)
    assert values(model, loader) == first


@pytest.mark.parametrize(
    ("given", "message"),
    [("text", "this is a str"), ([], "this is a list"), (DataLoader([]), "loader is empty"),
     ({"input_ids": [[1, [2]]]}, "'input_ids'"), ({"input_ids": ["a"]}, "'input_ids'"), ({}, "'input_ids'")],
)  # fmt: skip
def test_what_is_no_minibatch_is_one_line(model: PreTrainedModel, given: Any, message: str) -> None:
    with pytest.raises(MinibatchError, match=message):
        score(model, given, "snip")


def test_a_whole_dataset_is_no_minibatch(model: PreTrainedModel) -> None:
    datasets = pytest.importorskip("datasets")
    with pytest.raises(LpzError, match="rows is no minibatch"):
        score(model, datasets.Dataset.from_dict({"input_ids": [[1, 2]] * 5000}), "snip")


SINGLE: dict[str, dict[str, Any]] = {
    "lists": {"input_ids": IDS[0], "labels": [-100, -100, -100, 8, 9, 10]},
    "tensors": {"input_ids": torch.tensor(IDS[0]), "labels": torch.tensor([-100, -100, -100, 8, 9, 10])},
}


@pytest.mark.parametrize("form", SINGLE)
def test_one_row_is_one_sequence_with_all_its_entries(model: PreTrainedModel, form: str) -> None:
    assert values(model, SINGLE[form]) == values(model, [SINGLE["lists"]])
    assert values(model, SINGLE[form]) != values(model, {"input_ids": IDS[:1]})


def test_a_shuffled_loader_gives_the_same_and_is_as_before(model: PreTrainedModel) -> None:
    numbers = torch.Generator().manual_seed(3)
    data = [{"input_ids": torch.randint(5, 90, (6,))} for _ in range(20)]
    loader = DataLoader(data, batch_size=2, shuffle=True, generator=numbers)
    before = numbers.get_state()
    assert values(model, loader) == values(model, loader)
    assert torch.equal(numbers.get_state(), before)


class Counted(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Rows, and in which process they were read."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        worker = torch.utils.data.get_worker_info()
        return {"input_ids": torch.tensor(IDS[place % 2]), "worker": torch.tensor(-1 if worker is None else worker.id)}


def test_workers_of_a_loader_that_persist_are_left_alone(model: PreTrainedModel) -> None:
    loader = DataLoader(Counted(), batch_size=2, num_workers=1, persistent_workers=True, timeout=30)
    with pytest.warns(MinibatchWarning, match="worker"):
        assert as_batch(loader, model)["input_ids"].tolist() == IDS
    assert vars(loader)["_iterator"] is None
    assert (loader.num_workers, loader.persistent_workers, loader.timeout) == (1, True, 30)
    assert [int(batch["worker"][0]) for batch in loader] == [0] * 4
