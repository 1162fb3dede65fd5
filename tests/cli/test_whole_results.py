"""What JSON and CSV of a result say: what decides its numbers, and all that was warned of it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf.plugins import PluginRegistry
from tests.support.families import tiny_model
from tests.support.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
SMALL = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu")
WINNER = "lpzero-flexibert"  # searched on larger minibatches
NAMES = [f"d64.e32.k{k}-h{heads}.i{inner}" for k in (1, 2) for heads in (1, 2) for inner in (64, 128)]
STRANGE = """
from lpzero_hf import hookimpl
def bad(model, batch):
    return float("nan")
@hookimpl
def lpz_proxies():
    return [bad]
"""
COMMANDS = {
    "rank": ("rank", "tiny-gpt2", "--n", "4", "--workers", "1"),
    "compare": ("compare", "a", "b", "--seeds", "1"),
    "eval": ("bench", "eval", "made", "--workers", "1"),
    "transfer": ("bench", "transfer", "made", "--workers", "1"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models, a text, a benchmark, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "cache"))
    tiny_model("gpt2").config.save_pretrained("a")
    tiny_model("llama").config.save_pretrained("b")
    Path("t.txt").write_text("to be or not to be " * 99)
    write_benchmark(Path("made"), {name: 5 + i % 5 / 7 + i / 100 for i, name in enumerate(NAMES)})


def document(lpz: Lpz, *arguments: str) -> dict[str, Any]:
    code, out, err = lpz(*arguments, "--json")
    assert code == 0, err
    made: dict[str, Any] = json.loads(out)
    return made


def rows(lpz: Lpz, *arguments: str) -> list[dict[str, str]]:
    code, out, err = lpz(*arguments, "--csv")
    assert code == 0, err
    return list(csv.DictReader(io.StringIO(out)))


@pytest.mark.parametrize("command", COMMANDS)
def test_json_holds_what_decides_its_numbers(command: str, lpz: Lpz) -> None:
    asked = (*COMMANDS[command], "-p", "snip", *SMALL, "--text", "t.txt", "--seed", "5")
    made = document(lpz, *asked)
    assert made["text_sha256"] == hashlib.sha256(Path("t.txt").read_bytes()).hexdigest()
    for part in made["benchmarks"].values() if command == "transfer" else [made]:
        setting = part["setting"]
        assert (setting["text"], setting["seed"], setting["seq_len"]) == ("t.txt", 5, 8)
    assert made["threads"] >= 1
    assert {"lpzero-hf", "torch", "transformers", "python"} <= set(made["versions"])


def test_json_of_a_ranking_names_its_draw_and_its_proxies(lpz: Lpz) -> None:
    made = document(lpz, *COMMANDS["rank"], "-p", "snip", "-p", "hidden_size", *SMALL, "--sample", "architecture")
    assert (made["n"], made["sample"]) == (4, "architecture")
    assert made["proxies"]["snip"]["orientation"] == 1
    assert made["proxies"]["snip"]["version"]
    assert made["fingerprint"] == "tiny-gpt2"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_warning_is_in_json_and_csv(command: str, lpz: Lpz) -> None:
    asked = (*COMMANDS[command], "-p", WINNER, *SMALL)
    assert any("searched on minibatches" in one for one in document(lpz, *asked)["warnings"])
    found = rows(lpz, *asked)
    assert found
    assert all("searched on minibatches" in row["warnings"] for row in found)


def test_why_a_score_is_missing_is_in_json_and_csv(lpz: Lpz, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [*entry_points(group="lpzero_hf"), EntryPoint("strange", "strange_scores", "lpzero_hf")]
    Path("strange_scores.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(".")
    for module in ("rank", "bench"):
        monkeypatch.setattr(f"lpz_cli.{module}.load_plugins", lambda off: PluginRegistry(off, points))
    asked = (*COMMANDS["rank"], "-p", "bad", "-p", "params", *SMALL)
    for row in (*document(lpz, *asked)["ranking"], *rows(lpz, *asked)):
        assert row["reason"].startswith("bad is invalid")
    asked = (*COMMANDS["eval"], "-p", "bad", *SMALL)
    unscored = {row["proxy"]: row["unscored"] for row in rows(lpz, *asked)}
    assert unscored["bad"].startswith("8 invalid")
    assert unscored["params"] == ""


def test_rows_left_out_of_a_table_are_told_in_json_and_csv(lpz: Lpz) -> None:
    lines = ["architecture,loss", *(f"{name},{5 + i / 7}" for i, name in enumerate(NAMES)), f"{NAMES[0]},nothing"]
    Path("t.csv").write_text("\n".join(lines) + "\n")
    how = ("t.csv", "--metric", "loss", "--space", "tiny-gpt2", "--skip-bad-rows")
    for words in (("bench", "show", *how), ("bench", "eval", *how, *SMALL, "-p", "params", "--workers", "1")):
        assert any("left out" in one for one in document(lpz, *words)["warnings"]), words
    assert all("left out" in row["warnings"] for row in rows(lpz, *words))


def test_what_a_checkpoint_holds_is_recorded(lpz: Lpz) -> None:
    tiny_model("gpt2").save_pretrained("c")
    asked = ("score", "c", "--pretrained", "-p", "l2_norm", *SMALL)
    made = document(lpz, *asked)
    assert made["models"][0]["checkpoint"].startswith("sha256 ")
    Path("s.json").write_text(json.dumps(made))
    assert lpz("score", "--from", "s.json")[0] == 0
    tiny_model("gpt2", seed=1).save_pretrained("c")
    code, _, err = lpz("score", "--from", "s.json")
    assert (code, "(checkpoint)" in err) == (1, True)


def test_every_seed_is_compared_with_a_record(lpz: Lpz) -> None:
    made = document(lpz, "score", "a", "-p", "snip", "--seeds", "2", *SMALL)
    Path("s.json").write_text(json.dumps(made))
    assert lpz("score", "--from", "s.json")[0] == 0
    made["models"][0]["scores"][0]["seeds"]["mean"] += 1
    Path("s.json").write_text(json.dumps(made))
    code, _, err = lpz("score", "--from", "s.json")
    assert (code, "1 of 1 scores are others" in err) == (1, True)
