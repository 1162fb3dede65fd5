"""A dataset in a setting: read once, the same in every worker, cached by what is drawn, and named in JSON."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from lpzero_hf import DatasetText, ProcessExecutor, Setting
from lpzero_hf.errors import UsageError
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.models import text_tokens
from lpzero_hf.models.text_source import DrawnRows
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.search import search
from tests.support.architectures import SMALL, TWO
from tests.support.evaluated import evaluate


def write(path: Path, words: str = "the quick brown fox", rows: int = 2000) -> Path:
    path.write_text("".join(json.dumps({"body": f"[{i}] {words} " * 3}) + "\n" for i in range(rows)))
    return path


@pytest.fixture
def table(tmp_path: Path) -> DatasetText:
    return DatasetText(str(write(tmp_path / "t.jsonl")), column="body")


def values(setting: Setting, workers: int = 0) -> dict[str, object]:
    executor = ProcessExecutor(workers) if workers else LocalExecutor()
    rows = evaluate(TWO, ["snip", "nwot"], setting, executor=executor)
    return {f"{name} {proxy}": row["value"] for name, some in rows.items() for proxy, row in some.items()}


@pytest.mark.integration
def test_workers_score_the_same_rows(table: DatasetText) -> None:
    setting = replace(SMALL, text=table)
    assert values(setting) == values(setting, 1) == values(setting, 2)
    assert values(setting) != values(SMALL)


def test_what_travels_needs_no_file(table: DatasetText) -> None:
    setting = replace(SMALL, text=table)
    portable = pickle.loads(pickle.dumps(setting.portable()))
    before = values(setting)
    Path(table.name).unlink()
    assert values(portable) == before
    assert isinstance(portable.text, DrawnRows)
    assert portable.portable() == portable
    assert portable.to_json() == setting.to_json()
    assert len(pickle.dumps(portable)) < 10_000


def test_a_dataset_is_read_once_for_all_architectures(table: DatasetText, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, draw = [], text_tokens.texts_of
    monkeypatch.setattr(text_tokens, "texts_of", lambda source: calls.append(source) or draw(source))
    values(replace(SMALL, text=table))
    assert calls == [table]


def test_the_key_is_of_the_rows_drawn(table: DatasetText, tmp_path: Path) -> None:
    setting = replace(SMALL, text=table)
    key = setting.key(1)
    copy = DatasetText(str(write(tmp_path / "copy.jsonl")), column="body")
    assert replace(setting, text=copy).key(1) == key == setting.portable().key(1)
    with Path(table.name).open("a") as file:
        file.write('{"body": "a row that is not drawn"}\n')
    assert setting.key(1) == key
    write(Path(table.name), "another fox")
    assert setting.key(1) != key != replace(setting, text=copy, seed=7).key(1)


def test_a_dataset_is_named_in_json(table: DatasetText) -> None:
    setting = replace(SMALL, text=replace(table, name="user/data", config="en", split="test"))
    data = json.loads(json.dumps(setting.to_json()))
    assert data["text"] == {"name": "user/data", "split": "test", "column": "body", "config": "en"}
    assert Setting.from_json(data) == setting
    config = SearchConfig(("tiny-gpt2",), setting=setting)
    assert SearchConfig.from_json(json.loads(json.dumps(config.to_json()))).to_json() == config.to_json()


def test_a_table_by_its_path_is_the_same_setting(table: DatasetText) -> None:
    assert Setting(text=Path("t.jsonl")) == Setting(text=DatasetText("t.jsonl"))
    assert Setting(text=Path("t.txt")).text == Path("t.txt")


def test_a_search_goes_on_only_with_the_rows_that_it_began_with(table: DatasetText, tmp_path: Path) -> None:
    setting = replace(SMALL, text=table)
    config = SearchConfig(("tiny-gpt2",), "random", train=4, limit=6, iterations=5, population=4, setting=setting)
    search(config, out=tmp_path / "run")
    other = write(tmp_path / "other.jsonl", "another fox")
    changed = replace(config, setting=replace(setting, text=replace(table, name=str(other))))
    with pytest.raises(UsageError, match=r"setting\.text\.name was"):
        search(changed, out=tmp_path / "run", resume=True)
    search(config, out=tmp_path / "run", resume=True)
    write(Path(table.name), "a changed fox")
    with pytest.raises(UsageError, match="text of the minibatch"):
        search(config, out=tmp_path / "run", resume=True)
