"""Costs measured elsewhere are read from tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf import Cost, CostSubject, Deployment, NotApplicable, costs_from_table, load_plugins, load_space
from lpzero_hf.benchmarks.cost_table import costs_from_files
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.spaces.named import named_config

SPACE = load_space("tiny-gpt2")
IDS = [SPACE.text(one) for one in SPACE.samples(3, by="choice")]


def value(cost: Cost, text: str, name: str = "") -> Any:
    config = named_config(text)
    assert config is not None
    return cost.measure(CostSubject(config, Deployment(), load_plugins(), name))


def test_a_column_with_a_unit_is_a_cost(tmp_path: Path) -> None:
    file = tmp_path / "phone.csv"
    lines = [
        "model,latency_ms,peak (MiB),energy,note",
        "gpt2-variant,12.5,20,3,a",
        "bert-mini,4,10,,b",
        "bert-mini,8,10,1,c",
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    costs = costs_from_table(file)
    assert {name: cost.unit for name, cost in costs.items()} == {
        "latency_ms": "seconds", "peak (MiB)": "bytes", "energy": "energy",
    }  # fmt: skip
    assert value(costs["latency_ms"], "gpt2-variant") == pytest.approx(0.0125)
    assert value(costs["latency_ms"], "bert-mini") == pytest.approx(0.006)  # the median of two rows
    assert value(costs["peak (MiB)"], "bert-mini", "bert-mini") == 10 * 2**20
    assert value(costs["energy"], "bert-mini") == 1
    with pytest.raises(NotApplicable, match=r"phone\.csv"):
        value(costs["energy"], f"tiny-gpt2:{IDS[0]}")


def test_rows_of_a_space_are_found_by_id_or_configuration(tmp_path: Path) -> None:
    rows = [{"architecture": f"tiny-gpt2:{IDS[0]}", "latency": 0.5}, {"architecture": IDS[1], "latency": 0.25}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    cost = costs_from_table(tmp_path / "a.jsonl", space="tiny-gpt2")["latency"]
    assert cost.unit == "seconds"  # that of the installed cost
    for name in ("", IDS[0], f"tiny-gpt2:{IDS[0]}", "another"):
        assert value(cost, f"tiny-gpt2:{IDS[0]}", name) == 0.5
    with pytest.raises(NotApplicable):
        value(cost, f"tiny-gpt2:{IDS[2]}", IDS[2])
    by_model = costs_from_table([{"model": f"tiny-gpt2:{IDS[1]}", "kv_bytes": 7}])["kv_bytes"]
    assert (by_model.unit, value(by_model, f"tiny-gpt2:{IDS[1]}")) == ("bytes", 7)


def test_a_bad_table_is_told_with_the_place(tmp_path: Path) -> None:
    for name, text, word in (
        ("none.csv", "model,note\ngpt2-variant,x\n", "column of numbers"),
        ("which.csv", "what,latency_ms\ngpt2-variant,1\n", "what"),
        ("id.csv", "architecture,latency_ms\nd64.e32.k2-h2.i64,1\nd65,1\n", "line 3"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(LpzError, match=word):
            costs_from_table(tmp_path / name, space="tiny-gpt2" if name == "id.csv" else None)
    good = tmp_path / "good.csv"
    good.write_text("model,latency_ms\ngpt2-variant,1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="'latency_ms'"):
        costs_from_files([good, good], None, None, load_plugins())
