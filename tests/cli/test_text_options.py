"""Every command that takes a text takes tables and datasets, and says in one line what is wrong."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from lpz_report.command import command

from lpzero_hf import DatasetText, Setting
from lpzero_hf.searching.config import SearchConfig

Lpz = Callable[..., tuple[int, str, str]]
SMALL = ("--batch-size", "2", "--seq-len", "8")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and a dataset in the current folder."""
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"[{i}] the quick brown fox", "story": f"once upon a time {i}"} for i in range(200)]
    for name in ("t.jsonl", "data/train.jsonl", "data/validation.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("t.txt").write_text("to be or not to be " * 99)


def value(lpz: Lpz, *options: str) -> float:
    code, out, err = lpz("score", "gpt2-variant", "--proxy", "snip", *SMALL, "--json", *options)
    assert code == 0, err
    return float(json.loads(out)["models"][0]["scores"][0]["value"])


def test_a_table_and_a_dataset_give_the_same_score(lpz: Lpz) -> None:
    table = value(lpz, "--text", "t.jsonl")
    assert table == value(lpz, "--dataset", "data") == value(lpz, "--dataset", "t.jsonl", "--column", "text")
    story = value(lpz, "--text", "t.jsonl", "--column", "story")
    assert len({table, story, value(lpz, "--text", "t.txt")}) == 3
    assert story == value(lpz, "--dataset", "data", "--split", "validation", "--column", "story")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--dataset data --text t.txt", "choose one"),
        ("--dataset data --random-tokens", "--random-tokens"),
        ("--text t.txt --random-tokens", "--random-tokens"),
        ("--column text --random-tokens", "--random-tokens"),
        ("--column story", "--column is of"),
        ("--text t.txt --column text", "--column is of"),
        ("--split train", "--split is of"),
        ("--text t.jsonl --split train", "--split is of"),
        ("--text t.jsonl --dataset-config c", "--dataset-config is of"),
        ("--text t.jsonl --column stroy", "did you mean 'story'"),
        ("--dataset data --split test", "there are train, validation"),
        ("--dataset data --column stroy", "did you mean 'story'"),
        ("--dataset data --dataset-config c", "--dataset-config"),
        ("--text data", "as --dataset"),
        ("--dataset t.txt", "as --text"),
    ],
)
@pytest.mark.parametrize(
    "words",
    ["score gpt2-variant -p snip", "rank tiny-gpt2 -p snip --n 3", "bench eval tiny-gpt2 -p snip --limit 3",
     "search tiny-gpt2 --strategy random --limit 4 --train 3 --iterations 2 --out run",
     "nas tiny-gpt2 -p snip --max-params 900000 --trials 2 --out run"],
)  # fmt: skip
def test_wrong_options_are_one_line(words: str, options: str, message: str, lpz: Lpz) -> None:
    code, out, err = lpz(*words.split(), *shlex.split(options))
    assert (code, out) == (2, "")
    lines = err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert message in lines[-1]
    assert "Traceback" not in err
    assert not Path("run/plan.json").exists()


def test_rank_and_bench_eval_take_a_dataset(lpz: Lpz) -> None:
    source = ("--dataset", "data", "--column", "story", *SMALL)
    for words in (
        ("rank", "tiny-gpt2", "-p", "nwot", "--n", "3"),
        ("bench", "eval", "tiny-gpt2", "-p", "nwot", "--limit", "3"),
    ):
        code, out, err = lpz(*words, *source, "--json", "--executor", "local")
        assert code == 0, err
        assert out != lpz(*words, *SMALL, "--json", "--executor", "local")[1]
    assert json.loads(out)["setting"]["text"] == {"name": "data", "split": "train", "column": "story", "config": None}


def test_an_interrupted_nas_goes_on_only_with_its_dataset(lpz: Lpz) -> None:
    words = ("nas", "tiny-gpt2", "-p", "nwot", "--max-params", "900000", "--out", "nas", *SMALL)
    code, _, err = lpz(*words, "--trials", "2", "--text", "t.jsonl")
    assert code == 0, err
    code, _, err = lpz(*words, "--trials", "3", "--resume", "--text", "t.jsonl", "--column", "story")
    assert (code, "setting.text.column was text, not story" in err) == (2, True)
    assert lpz(*words, "--trials", "3", "--resume", "--text", "t.jsonl")[0] == 0
    Path("t.jsonl").write_text('{"text": "something else altogether, that is not what it was at all"}')
    code, _, err = lpz(*words, "--trials", "4", "--resume", "--text", "t.jsonl")
    assert (code, "text_sha256" in err) == (2, True)


def test_bench_train_takes_tables_and_datasets(lpz: Lpz) -> None:
    words = ("bench", "train", "tiny-gpt2", "--n", "1", "--repeats", "0", "--steps", "2", *SMALL, "--windows", "4")
    runs = {"table": "--text t.jsonl --validation t.jsonl --column story",
            "dataset": "--dataset data --column story --validation-split validation"}  # fmt: skip
    corpora = []
    for out, options in runs.items():
        code, _, err = lpz(*words, *options.split(), "--out", out, "--executor", "local")
        assert code == 0, err
        corpora.append(json.loads(Path(out, "benchmark.json").read_text())["corpus"])
    assert corpora[0] == corpora[1]
    assert corpora[0]["text"]["tokens"] < 60  # of 32 wanted, and not of all 200 rows
    for options in (
        "--dataset data --column story",
        "--text t.jsonl --column story",
        "--validation t.txt --validation-split x",
        "--validation-split x",
        "--text t.txt --column text",
    ):
        code, _, err = lpz(*words, *options.split(), "--out", "other")
        assert (code, err.count("error: ")) == (2, 1), err


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (DatasetText("user/data", "test", "story", "en"),
         "--dataset user/data --dataset-config en --split test --column story"),
        (DatasetText("user/data"), "--dataset user/data"),
        (DatasetText("my t.jsonl", column="story"), "--text 'my t.jsonl' --column story"),
        (Path("t.txt"), "--text t.txt"),
        (None, ""),
    ],
)  # fmt: skip
def test_a_report_repeats_the_options(source: DatasetText | Path | None, words: str) -> None:
    text = command(SearchConfig(("tiny-gpt2",), setting=Setting(4, 32, source)))
    assert text == f"lpz search tiny-gpt2 --strategy evolution {words} --device cpu".replace("  ", " ")
