"""The rows that are measured on a GPU: each in its file as soon as it is there, whatever happens to the others."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from studies.cost import costs, owed
from studies.cost.devices import ProxyComparison, by_proxy, exact
from studies.cost.on_gpu import sections
from studies.cost.owed import Row, Task
from studies.study import one_record_a_line

CPU = ["--device", "cpu"]


def good(task: Task) -> None:
    task.keep({"first": 1})
    task.keep({"second": [math.nan, 2.0]})


def bad(task: Task) -> None:
    task.keep({"first": 1})
    raise RuntimeError("no such kernel")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {1: Row("one", "one", 60, bad), 2: Row("two", "two", 60, good), 3: Row("three", "three", 3000, good)}
    monkeypatch.setattr(owed, "ROWS", made)


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("rows")
def test_a_row_that_fails_keeps_what_it_measured_and_the_next_ones_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert owed.main(["--out", str(tmp_path), *CPU, "--rows", "1,2", "--minutes", "5"]) == 1
    failed, made = read(tmp_path / "one.json"), read(tmp_path / "two.json")
    assert (failed["first"], failed["complete"], failed["error"]) == (1, False, "RuntimeError: no such kernel")
    assert "Traceback" in capsys.readouterr().err
    assert (made["first"], made["second"], made["complete"]) == (1, [None, 2.0], True)
    assert {"torch", "transformers", "python"} <= set(made["machine"])
    assert str(tmp_path) not in (tmp_path / "two.json").read_text()
    assert (tmp_path / "two.json").read_text() == one_record_a_line(made)


@pytest.mark.usefixtures("rows")
def test_a_row_begins_only_if_there_is_time_and_is_not_made_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert owed.main(["--out", str(tmp_path), *CPU, "--rows", "2,3", "--minutes", "5"]) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["two.json"]
    assert "row 3: needs 3000 s" in capsys.readouterr().out
    before = (tmp_path / "two.json").stat().st_mtime_ns
    assert owed.main(["--out", str(tmp_path), *CPU, "--rows", "2"]) == 0
    assert (tmp_path / "two.json").stat().st_mtime_ns == before


def test_a_row_leaves_the_next_ones_the_time_that_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, float] = {}
    made = {
        number: Row(f"row{number}", "", seconds, lambda task, number=number: told.update({str(number): task.left()}))
        for number, seconds in ((1, 10), (2, 40), (3, 200))
    }
    monkeypatch.setattr(owed, "ROWS", made)
    assert owed.main(["--out", str(tmp_path), *CPU, "--minutes", "10"]) == 0
    assert told["1"] < 600 - 240
    assert told["2"] < 600 - 200 < told["3"] < 600


@pytest.mark.parametrize("rows", ["0", "1,9", "x"])
def test_an_unknown_row_is_wrong_usage(rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        owed.main(["--out", str(tmp_path), *CPU, "--rows", rows])
    assert stopped.value.code == 2
    assert "--rows" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_card_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert owed.main(["--out", str(tmp_path)]) == 2
    assert "--device cpu" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def compared(**changes: Any) -> ProxyComparison:
    return ProxyComparison(
        **({"family": "gpt2", "proxy": "snip", "models": 3, "difference": 1e-6, "rho": 1.0} | changes)
    )


def test_values_ranks_and_statuses_each_make_a_proxy_disagree() -> None:
    assert compared().agrees
    assert not compared(difference=1e-3).agrees
    assert not compared(rho=0.5).agrees
    assert not compared(apart=("failed (why) and not ok ()",)).agrees
    assert compared(proxy="zico", difference=1e-3, rho=0.5).agrees  # known to hang on rounding
    assert not compared(proxy="zico", difference=0.2).agrees


def test_a_proxy_is_summed_up_by_its_worst_family() -> None:
    other = compared(family="bert", difference=0.5, rho=0.8, apart=("a",))
    (row,) = by_proxy([compared(), other, compared(family="t5", rho=None)])
    assert (row["difference"], row["of"], row["lowest_rho"], row["ranks_of"]) == (0.5, "bert", 0.8, "bert")
    assert (row["ranks_equal"], row["families_ranked"], row["scores"], row["apart"]) == (1, 2, 9, ["bert: a"])


def test_float32_is_exact_for_a_while() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    try:
        with exact():
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before[0])
    assert torch.backends.cudnn.allow_tf32 == before[1]


def test_the_page_of_costs_shows_the_files_that_there_are(tmp_path: Path) -> None:
    assert sections(tmp_path) == []
    document = {
        "command": "python -m studies.cost.owed --out FOLDER", "made": "2026-11-26", "complete": False,
        "machine": {"card": "H100", "driver": "580", "torch": "2.11", "transformers": "5.17", "python": "3.12"},
        "error": "OutOfMemoryError: too little", "gemm": {"rows": 300, "elements": 4096, "tflops": 20.0,
                                                          "peak_tflops": 40.0, "share": 0.5},
    }  # fmt: skip
    (tmp_path / "gpu_search.json").write_text(one_record_a_line(document), encoding="utf-8")
    (text,) = sections(tmp_path)
    for part in ("H100, driver 580, torch 2.11", "50% of a large square product", "OutOfMemoryError: too little"):
        assert part in text


@pytest.mark.slow
def test_all_rows_run_in_small_on_a_cpu_and_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert owed.main(["--out", str(tmp_path), *CPU, "--small"]) == 0
    agreement = read(tmp_path / "gpu_agreement.json")
    assert agreement["disagree"] == []
    assert {row["difference"] for row in agreement["proxies"]} == {0.0}
    assert agreement["table"]["share_equal"] == 1.0
    assert agreement["search"]["device"] == agreement["search"]["cpu"]
    assert read(tmp_path / "gpu_search.json")["ranks"]["lowest"] == 1.0
    for model in read(tmp_path / "gpu_large.json")["models"]:
        assert {name: len(seconds) for name, seconds in model["seconds"].items()} == dict(plain=3, linear=3, all=3)
        assert model["failed"] == {}
    evolved = read(tmp_path / "gpu_evolution.json")
    assert evolved["store"]["evaluated"] > 0
    assert evolved["tables"]["enumeration"]["whole"]
    assert evolved["tables"]["evolutions"][0]["best"] <= evolved["tables"]["enumeration"]["best"]
    for name in ("scaling", "sizes", "llama_7b_weights", "llama_1b_backward"):
        (tmp_path / f"{name}.json").write_bytes((costs.RESULTS / f"{name}.json").read_bytes())
    monkeypatch.setattr(costs, "RESULTS", tmp_path)
    text = costs.CostStudy().show({})
    assert text.count("tried on the CPU") == 4
    assert "| lpzero-any |" in text
