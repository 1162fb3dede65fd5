"""What is given in a wrong way or place is told, by every command alike: nothing is overwritten, cut or passed over."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lpz_nas.goals import Goal

from lpzero_hf import LpzError, compare, load_plugins
from lpzero_hf.models.text_source import read_text, texts_of
from lpzero_hf.proxies.base import ModelProxy
from lpzero_hf.proxies.resolve import find_proxy, parted, resolve
from lpzero_hf.scoring.setting import Setting
from tests.support.families import tiny_model
from tests.support.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
SMALL = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu")
NAMES = [f"d64.e32.k1-h{heads}.i{inner}" for heads in (1, 2) for inner in (64, 128)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "cache"))


def test_scores_are_not_written_over_a_file(lpz: Lpz) -> None:
    table = "architecture,loss\n" + "".join(f"{name},{5 + i}\n" for i, name in enumerate(NAMES))
    Path("t.csv").write_text(table)
    how = ("t.csv", "--metric", "loss", "--space", "tiny-gpt2", "-p", "params", *SMALL)
    code, out, err = lpz("bench", "eval", *how, "--scores", "t.csv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "exists already" in err
    assert Path("t.csv").read_text() == table


def test_a_report_is_not_written_over_anything_else(lpz: Lpz) -> None:
    pytest.importorskip("plotly")
    write_benchmark(Path("made"), {name: 5.0 + i for i, name in enumerate(NAMES)})
    code, out, _ = lpz("bench", "eval", "made", "-p", "params", *SMALL, "--workers", "1", "--json")
    assert code == 0
    Path("eval.json").write_text(out)
    code, _, err = lpz("report", "eval.json", "--out", "eval.json")
    assert (code, "no report" in err) == (2, True)
    assert Path("eval.json").read_text() == out
    for _ in range(2):  # its own is replaced
        assert lpz("report", "eval.json", "--out", "r.html")[0] == 0


def test_no_number_of_a_front_is_cut() -> None:
    many = Goal("proxy:many", ModelProxy(name="many", formula="", evaluate=lambda subject: 0.0))
    assert many.show(1_235_814.0) == "1,235,814"
    assert many.show(0.1234567) == "0.123457"


@pytest.mark.integration
def test_no_cost_beside_a_front_is_cut(lpz: Lpz) -> None:
    asked = ("nas", "tiny-gpt2", "-o", "proxy:params", "--max", "params=9M", "--trials", "2", "--out", "run", *SMALL)
    code, out, err = lpz(*asked)
    assert code == 0, err
    assert "e+0" not in out


@pytest.mark.parametrize("name", ["./mine", "../mine", "runs/mine", "runs/mine.csv", "runs/mine/", "a/b/c"])
def test_no_path_of_a_proxy_is_looked_for_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> Any:
        raise AssertionError(name)

    monkeypatch.setattr("lpzero_hf.artifacts.hub.pull", asked)
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/plan.json").write_text("{}")
    with pytest.raises(LpzError) as refused:
        find_proxy(name)
    assert "Hub" not in str(refused.value)


@pytest.mark.parametrize("name", ["runs.csv.gz", "runs.xlsx", "runs.arrow", "runs.feather", "runs.db", "runs"])
def test_a_file_that_is_no_benchmark_is_not_to_be_trained_again(name: str, lpz: Lpz) -> None:
    Path(name).write_bytes(gzip.compress(b"architecture,loss\n"))
    code, _, err = lpz("bench", "eval", name)
    assert code == 2
    assert "bench train" not in err


@pytest.mark.parametrize(
    "content",
    ['{"text": "one"}\n{"text": "two"}\n', '{\n "cells": [1,\n 2]}', '[{"text": "one"}]', '\ufeff {"a": 1}\nmore'],
)
@pytest.mark.parametrize("name", ["t.txt", "t.ipynb", "t"])
def test_json_under_another_name_is_no_text(content: str, name: str) -> None:
    Path(name).write_text(content)
    with pytest.raises(LpzError) as refused:
        read_text(Path(name))
    assert (refused.value.exit_code, "holds JSON" in str(refused.value)) == (2, True)


@pytest.mark.parametrize("content", ["[1] the first note\n", "{{ a }} of a template", "[1, 2]\n", "{} \u00e9"])
def test_a_text_that_begins_with_a_bracket_is_one(content: str) -> None:
    Path("t.txt").write_text(content)
    assert read_text(Path("t.txt")) == content


def test_other_endings_of_tables_are_read_by_their_column() -> None:
    from lpzero_hf.models.text_source import source_of

    Path("t.jsonlines").write_text('{"text": "one"}\n')
    Path("t.tab").write_text("n\ttext\n1\tone\n")
    for name in ("t.jsonlines", "t.tab"):
        assert list(texts_of(source_of(name))) == ["one"]  # type: ignore[arg-type]  # a table


def test_an_error_of_one_of_several_models_names_it_where_none_is_left(lpz: Lpz) -> None:
    tiny_model("gpt2").config.save_pretrained("a")
    tiny_model("llama").config.save_pretrained("b")
    with pytest.raises(LpzError) as refused:
        compare(["a", "b"], "snip", setting=Setting(2, 4096, device="cpu"), seeds=1)
    assert "a: " in str(refused.value)
    code, out, err = lpz("cost", "a", "b", "-c", "params,kv_cache")
    assert (code, err) == (0, "")
    assert "kv_cache" in out


def test_an_error_that_no_one_expects_names_its_model(lpz: Lpz, monkeypatch: pytest.MonkeyPatch) -> None:
    from lpzero_hf.scoring import costs

    tiny_model("gpt2").config.save_pretrained("a")
    measure = costs.measure_costs

    def broken(*arguments: Any, name: str, **options: Any) -> Any:
        if name == "a":
            raise KeyError("gone")
        return measure(*arguments, name=name, **options)

    monkeypatch.setattr(costs, "measure_costs", broken)
    code, out, err = lpz("cost", "a", "gpt2-variant", "-c", "params")
    assert (code, err.count("\n")) == (1, 1)
    assert "'a'" in err
    assert "gpt2-variant" in out


def test_warnings_of_costs_are_in_csv_too(lpz: Lpz) -> None:
    code, out, _ = lpz("cost", "gpt2-variant", "-c", "params", "--csv")
    assert (code, out.splitlines()[0].endswith(",reason,warnings")) == (0, True)


@pytest.mark.parametrize("option", [("--which", "ensemble"), ("--split", "1")])
def test_what_chooses_from_a_search_is_refused_with_an_expression(option: tuple[str, str], lpz: Lpz) -> None:
    code, out, err = lpz("export", "sum(sum(product(W, G)))", "--name", "x", *option)
    assert (code, out) == (2, "")
    assert option[0] in err
    assert not list(Path().glob("*.json"))


def test_names_with_commas_are_several_beside_expressions_and_files() -> None:
    assert parted(["a,f(b, g(c, d)), e", "h"]) == ["a", "f(b, g(c, d))", "e", "h"]
    assert len(resolve("snip,sum(sum(product(W, G)))", load_plugins())) == 2
    Path("a,b.json").write_text(json.dumps({}))
    assert parted(["a,b.json"]) == ["a,b.json"]


def test_two_proxies_of_nas_with_a_comma_are_two(lpz: Lpz) -> None:
    code, _, err = lpz("nas", "tiny-gpt2", "-p", "snip,params", "--max-params", "1M", "--out", "run")
    assert (code, "one --proxy" in err) == (2, True)
