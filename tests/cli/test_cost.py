"""`lpz cost`: what it shows, costs of plugins and of tables, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lpzero_hf import Cost, CostSubject, hookimpl
from lpzero_hf.plugins import PluginRegistry
from tests.support.families import tiny_model

Lpz = Callable[..., tuple[int, str, str]]


def phone(subject: CostSubject) -> float:
    """Looked up by depth, as a table of a device would be."""
    return {6: 0.02}[subject.layout.depth]


@hookimpl
def lpz_costs() -> list[Cost]:
    """What this module offers as a plugin."""
    return [Cost(name="phone", unit="seconds", summary="on a phone", measure=phone, stage="shapes")]


def test_lpz_cost_shows_models_side_by_side(lpz: Lpz, tmp_path: Path) -> None:
    tiny_model("llama").config.save_pretrained(tmp_path / "llama")
    wanted = ("cost", "gpt2-variant", str(tmp_path / "llama"), "-c", "params", "-c", "kv_cache", "-c", "latency")
    wanted += ("--prompt-len", "8", "--repeats", "2", "--warmup", "0", "--prompts", "2")
    code, out, _ = lpz(*wanted)
    assert code == 0
    assert "6,967,296" in out
    assert "12.00 KiB" in out
    code, out, _ = lpz(*wanted, "--json", "--threads", "2", "--dtype", "bfloat16")
    document = json.loads(out)
    assert code == 0
    assert [model["model"] for model in document["models"]] == ["gpt2-variant", str(tmp_path / "llama")]
    rows = {row["cost"]: row for row in document["models"][0]["costs"]}
    assert rows["kv_cache"]["value"] == 6 * 2**10  # half of what it is in float32
    assert rows["latency"]["low"] <= rows["latency"]["value"] <= rows["latency"]["high"]
    deployment = document["deployment"]
    assert (deployment["threads"], deployment["prompt"], deployment["batch_size"], deployment["dtype"]) == (
        2,
        8,
        2,
        "bfloat16",
    )
    code, out, _ = lpz(*wanted, "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert [(row["cost"], row["unit"]) for row in table[:3]] == [
        ("params", "parameters"),
        ("kv_cache", "bytes"),
        ("latency", "seconds"),
    ]
    assert float(table[0]["value"]) == 6967296


def test_a_plugin_and_a_table_offer_costs(lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("phone", __name__, "lpzero_hf")]
    points += [EntryPoint(name, name, "lpzero_hf") for name in ("lpz_costs", "lpz_zoo")]
    registry = PluginRegistry(found=points)
    monkeypatch.setattr("lpz_cli.cost.load_plugins", lambda disabled: registry)
    (tmp_path / "t.csv").write_text("model,watts\nbert-mini,3\n", encoding="utf-8")
    wanted = (
        "cost",
        "gpt2-variant",
        "bert-mini",
        "-c",
        "phone",
        "-c",
        "watts",
        "--cost-table",
        str(tmp_path / "t.csv"),
    )
    code, out, err = lpz(*wanted, "--json")
    documents = json.loads(out)["models"]
    values = {(m["model"], row["cost"]): row["value"] for m in documents for row in m["costs"]}
    assert values == {
        ("gpt2-variant", "phone"): 0.02, ("gpt2-variant", "watts"): None,
        ("bert-mini", "phone"): None, ("bert-mini", "watts"): 3,
    }  # fmt: skip
    assert (code, "bert-mini" in err, err.count("\n")) == (1, True, 1)  # the phone knows no such depth


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("-c", "latncy"), "'latency'"),
        (("-c", "latency", "--device", "cuda:77"), "cuda:77"),
        (("--cost-table", "nowhere.csv"), "nowhere.csv"),
        (("--json", "--csv"), "choose one"),
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(lpz: Lpz, arguments: tuple[str, ...], word: str) -> None:
    code, out, err = lpz("cost", "gpt2-variant", *arguments)
    assert (out, word in err, err.count("\n")) == ("", True, 1), err
    assert code == 2


def test_a_model_that_is_not_there_ends_no_other(lpz: Lpz) -> None:
    code, out, err = lpz("cost", "gpt2-varian", "bert-mini", "-c", "params", "--json")
    assert (code, "gpt2-variant" in err) == (2, True)
    models = json.loads(out)["models"]
    assert "error" in models[0]
    assert models[1]["costs"][0]["value"] == 11201594
