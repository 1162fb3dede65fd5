"""What `lpz score` says of what it compares, draws by several seeds, and what it records, to be repeated."""

from __future__ import annotations

import copy
import csv
import io
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.families import tiny_model

Lpz = Callable[..., tuple[int, str, str]]
SMALL = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder, the same drawn five times as wide, and a text."""
    monkeypatch.chdir(tmp_path)
    config = tiny_model("gpt2").config
    config.save_pretrained("a")
    wide = copy.deepcopy(config)
    wide.initializer_range = 0.1
    wide.save_pretrained("b")
    Path("t.txt").write_text("to be or not to be " * 99)
    Path("t.jsonl").write_text("".join(json.dumps({"text": f"row {i} of a few", "n": i}) + "\n" for i in range(99)))


def document(lpz: Lpz, *arguments: str) -> dict[str, Any]:
    code, out, err = lpz("score", *arguments, "--json")
    assert code == 0, err
    made: dict[str, Any] = json.loads(out)
    return made


def test_other_initial_weights_are_told_in_every_form_and_drawn_alike_on_demand(lpz: Lpz) -> None:
    asked = ("a", "b", "-p", "snip", *SMALL)
    code, out, err = lpz("score", *asked)
    assert (code, err) == (0, "")
    assert "warning: random weights" in out
    made = document(lpz, *asked)
    assert ["initializer_range 0.1: b" in line for line in made["warnings"]] == [True]
    code, out, err = lpz("score", *asked, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert all("initializer_range 0.1: b" in row["warnings"] for row in rows)
    assert "initializer_range 0.1: b" in err
    alike = document(lpz, *asked, "--same-init", "0.02")
    first, second = (model["scores"][0]["value"] for model in alike["models"])
    assert first == second == made["models"][0]["scores"][0]["value"]
    assert alike["warnings"] == []
    code, out, err = lpz("compare", *asked, "--seeds", "1", "--csv")
    assert all("initializer_range" in row["warnings"] for row in csv.DictReader(io.StringIO(out)))


@pytest.mark.parametrize("std", ["0", "nan", "-1", "1e9"])
def test_what_is_no_deviation_is_wrong_usage(std: str, lpz: Lpz) -> None:
    code, out, err = lpz("score", "a", "-p", "snip", "--same-init", std, *SMALL)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_seeds_give_mean_and_deviation_and_say_what_is_beyond_them(lpz: Lpz) -> None:
    asked = ("a", "b", "-p", "snip", "-p", "num_heads", *SMALL)
    made = document(lpz, *asked, "--seeds", "3", "--seed", "7")
    snip = made["models"][0]["scores"][0]
    singly = [document(lpz, *asked, "--seed", str(seed))["models"][0]["scores"][0]["value"] for seed in (7, 8, 9)]
    assert snip["seeds"]["values"] == singly
    assert snip["value"] == singly[0]
    assert snip["seeds"]["mean"] == pytest.approx(sum(singly) / 3)
    assert made["differences"]["snip"] == [{"first": "a", "second": "b", "beyond_seeds": True}]
    assert made["differences"]["num_heads"][0]["beyond_seeds"] is False  # equal
    code, out, _ = lpz("score", *asked, "--seeds", "3")
    assert code == 0
    assert " ± " in out
    assert "beyond seeds" in out
    row = next(csv.DictReader(io.StringIO(lpz("score", *asked, "--seeds", "3", "--csv")[1])))
    assert float(row["sd"]) > 0


def test_a_winner_of_other_minibatches_is_marked(lpz: Lpz) -> None:
    asked = ("a", "-p", "lpzero-flexibert", "-p", "snip")
    code, out, _ = lpz("score", *asked, "--batch-size", "2", "--seq-len", "8")
    assert code == 0
    assert "lpzero-flexibert *" in out
    assert "snip *" not in out
    assert "searched on minibatches of" in out
    rows = document(lpz, *asked, *SMALL)["models"][0]["scores"]
    assert (bool(rows[0]["searched_on"]), rows[1]["searched_on"]) == (True, None)


@pytest.mark.parametrize(
    "options",
    ["", "--text t.txt --micro-batch 1", "--text t.jsonl --column text", "--random-tokens --dtype float64",
     "--checkpointing --attn eager --same-init 0.05 --seed 5", "--seeds 2"],
)  # fmt: skip
def test_a_record_repeats_its_score_to_the_last_digit(options: str, lpz: Lpz) -> None:
    made = document(lpz, "a", "b", "-p", "snip", "-p", "fisher", *SMALL, *shlex.split(options))
    Path("s.json").write_text(json.dumps(made))
    code, out, err = lpz("score", "--from", "s.json", "--json")
    assert code == 0, err
    assert "all 4 scores are those of" in err
    again = json.loads(out)
    assert again["settings"] == made["settings"]
    for before, after in zip(made["models"], again["models"], strict=True):
        assert [row["value"] for row in before["scores"]] == [row["value"] for row in after["scores"]]
        assert before["tokens_sha256"] == after["tokens_sha256"]
    assert {"text", "text_sha256", "threads", "micro_batch", "checkpointing", "dtype", "attn"} <= set(made["settings"])
    assert made["models"][0]["tokenizer"] == "embedded"


def test_a_record_holds_what_was_recommended_then(lpz: Lpz) -> None:
    made = document(lpz, "a", *SMALL)
    made["models"][0]["scores"] = made["models"][0]["scores"][:2]
    Path("s.json").write_text(json.dumps(made))
    code, out, _ = lpz("score", "--from", "s.json", "--json")
    assert code == 0
    assert len(json.loads(out)["models"][0]["scores"]) == 2


def test_what_has_changed_since_is_told(lpz: Lpz) -> None:
    made = document(lpz, "a", "-p", "snip", "--text", "t.txt", *SMALL)
    Path("s.json").write_text(json.dumps(made))
    config = json.loads(Path("a/config.json").read_text())
    Path("a/config.json").write_text(json.dumps(config | {"initializer_range": 0.5}))
    code, _, err = lpz("score", "--from", "s.json")
    assert code == 1
    assert "1 of 1 scores are others, snip (config)" in err
    Path("t.txt").write_text("another text altogether " * 99)
    code, out, err = lpz("score", "--from", "s.json")
    assert (code, out) == (1, "")
    assert "'t.txt' is not what it was" in err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d["settings"].pop("threads"), "threads"),
        (lambda d: d["settings"].update(batch_size="2"), "batch_size"),
        (lambda d: d["settings"].update(dtype="load"), "dtype"),
        (lambda d: d["settings"].update(models=["a", "b"]), "models"),
        (lambda d: d.pop("models"), "models"),
    ],
)
def test_a_record_that_is_none_is_refused(change: Callable[[Any], None], told: str, lpz: Lpz) -> None:
    made = document(lpz, "a", "-p", "params", *SMALL)
    change(made)
    Path("s.json").write_text(json.dumps(made))
    code, out, err = lpz("score", "--from", "s.json")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert told in err


@pytest.mark.parametrize(
    "arguments", [("a",), ("-p", "snip"), ("--seed", "1"), ("--text", "t.txt"), ("--seeds", "2"), ("--seq-len", "8")]
)
def test_a_record_and_other_options_are_wrong_usage(arguments: tuple[str, ...], lpz: Lpz) -> None:
    code, out, err = lpz("score", *arguments, "--from", "s.json")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "leave out" in err
    assert lpz("score")[0] == 2


def test_the_field_of_a_table_of_text_has_two_names_of_option(lpz: Lpz) -> None:
    asked = ("a", "-p", "snip", "--text", "t.jsonl", *SMALL)
    assert document(lpz, *asked, "--text-field", "text")["models"] is not None
    code, _, err = lpz("score", *asked, "--text-field", "tekst")
    assert (code, "did you mean 'text'" in err) == (2, True)


def test_an_error_of_one_model_names_it(lpz: Lpz) -> None:
    code, _, err = lpz("score", "a", "b", "-p", "snip", "--seq-len", "4096", "--batch-size", "1")
    lines = err.splitlines()
    assert code == 1
    assert [line.split(":")[1].strip() for line in lines] == ["a", "b"]
