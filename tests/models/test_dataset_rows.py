"""Datasets of folders and of the Hub: the same rows as from files, no code run, and errors of one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from lpzero_hf import DatasetText, minibatch
from lpzero_hf.errors import LpzError, MinibatchError, UsageError
from lpzero_hf.models import dataset_rows
from lpzero_hf.models.text_source import texts_of

TEXTS = [f"[{i}] the quick brown fox jumps over the lazy dog" for i in range(120)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of datasets of every kind."""
    home = tmp_path_factory.mktemp("datasets")
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": [1] * 120})
    data.save_to_disk(home / "saved")
    datasets.DatasetDict({"train": data, "test": data.select([0, 1, 2])}).save_to_disk(home / "dict")
    for folder in ("parquet", "jsonl", "csv", "gz", "nothing", "plain", "many", "broken", "array"):
        (home / folder).mkdir()
    data.to_parquet(home / "parquet" / "train.parquet")
    data.select([0, 1, 2]).to_parquet(home / "parquet" / "test.parquet")
    data.to_json(home / "jsonl" / "train.jsonl")
    data.to_csv(home / "csv" / "train.csv", index=False)
    data.to_json(home / "gz" / "train.jsonl.gz", compression="gzip")
    (home / "plain" / "train.txt").write_text("\n".join(TEXTS))
    (home / "broken" / "train.jsonl").write_text('{"text": "a"}\n{"text"')
    (home / "array" / "train.json").write_text('[{"text": "a"}, {"text"')
    for name in ("a", "b"):
        (home / "many" / name).mkdir()
        (home / "many" / name / "train.csv").write_text("text\n" + f"{name} word\n" * 99)
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.csv\n" for name in ("a", "b"))
    (home / "many" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    for script in ("script", "parquet_script"):
        (home / script).mkdir()
        (home / script / f"{script}.py").write_text(f"open({str(home / 'EVIL')!r}, 'w')")
    data.to_parquet(home / "parquet_script" / "train.parquet")
    return home


@pytest.mark.parametrize("name", ["saved", "dict", "parquet", "jsonl", "csv", "gz", "plain"])
def test_every_folder_gives_the_same_texts(name: str, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert list(texts_of(DatasetText(str(home / name)))) == TEXTS
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["dict", "parquet"])
def test_a_split_is_chosen(name: str, home: Path) -> None:
    assert list(texts_of(DatasetText(str(home / name), split="test"))) == TEXTS[:3]


def test_datasets_is_quiet_only_while_it_is_read(home: Path) -> None:
    before = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    rows = texts_of(DatasetText(str(home / "saved")))
    next(rows)
    assert (datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()) == (50, True)
    list(rows)
    assert (datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()) == before


def test_a_configuration_is_chosen(home: Path) -> None:
    assert set(texts_of(DatasetText(str(home / "many"), config="b"))) == {"b word"}


TABLES = ("saved", "parquet", "jsonl", "csv")
BAD: list[tuple[str, dict[str, Any], str, type[LpzError]]] = [
    ("nothing", {}, "no data files", UsageError),
    ("many", {}, "'a', 'b'.*config=", UsageError),
    ("many", {"config": "c"}, "'a', 'b'.*config=", UsageError),
    ("saved", {"config": "c"}, "leave out `config=`", UsageError),
    ("saved", {"split": "test"}, "there are train", UsageError),
    ("parquet", {"split": "tset"}, "did you mean 'test'.*there are", UsageError),
    ("parquet", {"split": "train[:1%]"}, "there are train, test", UsageError),
    *(
        (name, {"column": "texts"}, "there are text, label", UsageError)
        for name in ("saved", "parquet", "jsonl", "csv")
    ),
    *((name, {"column": "label"}, "not text", UsageError) for name in ("saved", "parquet", "jsonl", "csv")),
    ("broken", {}, "line 2 of", MinibatchError),
    ("array", {}, "cannot be read", MinibatchError),
    ("script", {}, "no script is run", UsageError),
    ("parquet_script", {}, "no script is run", UsageError),
    ("script/script.py", {}, "no script is run", UsageError),
    ("plain/train.txt", {}, "text=", UsageError),
]


@pytest.mark.parametrize(("name", "options", "message", "kind"), BAD, ids=[f"{case[0]} {case[1]}" for case in BAD])
def test_what_is_wrong_is_one_line(
    name: str,
    options: dict[str, Any],
    message: str,
    kind: type[LpzError],
    home: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(kind, match=message) as raised:
        minibatch(text=DatasetText(str(home / name), **options))
    assert "\n" not in str(raised.value)
    assert name.partition("/")[0] in str(raised.value)
    assert not (home / "EVIL").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["json", "parquet", "pandas"])
def test_a_format_is_no_dataset(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` would read the files that lie in this folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.json").write_text(json.dumps([{"text": "mine"}]))
    with pytest.raises(UsageError, match="is a format"):
        minibatch(text=DatasetText(name))


def test_no_possible_id_is_unknown() -> None:
    with pytest.raises(UsageError, match="unknown dataset"):
        minibatch(text=DatasetText("no/such/folder"))


def test_without_a_network_the_remedy_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(self: object, name: str, **options: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    with pytest.raises(MinibatchError, match="local folder"):
        minibatch(text=DatasetText("some/dataset"))


def test_a_dataset_of_the_hub_is_streamed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder in place of the Hub: nothing is prepared, and of the stream only the first block is read."""
    import huggingface_hub

    asked: list[str] = []
    builder = datasets.load_dataset_builder(str(home / "plain"))
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, **options: asked.append(name))
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda name, config: builder)
    monkeypatch.setattr(type(builder), "download_and_prepare", lambda *_, **__: pytest.fail("downloaded"))
    assert list(texts_of(DatasetText("some/dataset"))) == TEXTS
    assert asked == ["some/dataset"]


def test_without_datasets_the_extra_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_rows.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MinibatchError, match=r"lpzero-hf\[datasets\]"):
        minibatch(text=DatasetText(str(home / "saved")))
