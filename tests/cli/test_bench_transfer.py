"""`lpz bench transfer`: what it prints in each form, and what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lpzero_hf.benchmarks.grade import BASELINES
from tests.support.searches import LOSSES, NAMES, OPTIONS, few_resamples, write
from tests.support.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
BRIEF = "--strategy random --iterations 4 --population 4 --batch-size 2 --seq-len 8"
PROXIES = ("-p", "snip", "--within", "2")


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two benchmarks beside each other, of which one architecture is in both."""
    monkeypatch.chdir(tmp_path)
    write(Path("one"), LOSSES[:7])
    others = [name.replace("e32", "e64") for name in NAMES[:6]]
    write_benchmark(Path("two"), dict(zip([*others, NAMES[0]], LOSSES[5:], strict=True)))
    return "one", "two"


@pytest.mark.integration
def test_transfer_prints_one_document_and_goes_on(lpz: Lpz, two: tuple[str, str]) -> None:
    command = ("bench", "transfer", *two, *OPTIONS, *PROXIES, "--search", BRIEF, "--search", f"{BRIEF} --unary 2,1")
    with few_resamples():
        code, out, err = lpz(*command, "--out", "run", "--ceiling", "--json")
        assert (code, err) == (0, "")
        document = json.loads(out)
        assert document.pop("warnings") == []
        assert document == json.loads(Path("run/transfer.json").read_text())
        code, out, err = lpz(*command, "--out", "run", "--ceiling", "--resume", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["rows"] == document["rows"]
    rules = {f"searched {BRIEF}": [1, 1], f"searched {BRIEF} --unary 2,1": [2, 1]}
    assert {name: plan["unary"] for name, plan in document["searches"].items()} == rules
    kinds = ("one expression", "ensemble", "fittest on all")
    names = {row["name"] for row in document["rows"]}
    assert names == {"snip", *BASELINES, *(f"{rule}: {what}" for rule in rules for what in kinds)}
    assert document["left_out"] == {"one": {"two": 1}, "two": {"one": 1}}
    means = [row["matched"]["mean"]["value"] for row in document["rows"]]
    assert means == sorted(means, reverse=True)
    assert document["matched"] == {"match": "decoder_params", "within": 2.0}
    assert document["benchmarks"]["one"]["setting"]["batch_size"] == 2


@pytest.mark.integration
def test_transfer_prints_tables_and_csv(lpz: Lpz, two: tuple[str, str]) -> None:
    command = ("bench", "transfer", *two, *OPTIONS, *PROXIES, "--search", BRIEF)
    with few_resamples():
        code, out, err = lpz(*command, "--more")
        assert (code, err) == (0, "")
        for told in ("searched: one expression", "searched: ensemble", "num_heads", "decoder_params", "left out"):
            assert told in out
        assert "1 architectures of two are in one too" in out
        code, out, err = lpz(*command, "--csv")
    assert (code, err) == (0, "")
    lines = [line for line in csv.DictReader(out.splitlines()) if line["proxy"] == "searched: ensemble"]
    assert [(line["over"], line["benchmark"]) for line in lines] == [
        ("benchmark", "one"), ("benchmark", "two"), ("mean", ""), ("worst", ""),
    ]  # fmt: skip
    one, other, mean, worst = (float(line["matched"]) for line in lines)
    assert mean == pytest.approx((one + other) / 2)
    assert worst == min(one, other)
    assert float(lines[2]["matched_low"]) <= mean <= float(lines[2]["matched_high"])
    assert lines[0]["found"].count("(") > 5


def test_transfer_grades_each_benchmark_on_its_own_minibatch(lpz: Lpz, two: tuple[str, str]) -> None:
    code, out, _ = lpz("bench", "transfer", *two, "--workers", "1", "-p", "params", "--json", "--limit", "4")
    settings = [facts["setting"] for facts in json.loads(out)["benchmarks"].values()]
    assert code == 0
    assert [(setting["batch_size"], setting["seq_len"]) for setting in settings] == [(16, 8)] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("one", "--search", ""), "more benchmarks"),
        (("one", "one"), "different"),
        (("one", "nowhere"), "'nowhere'"),
        (("one", "two", "-p", "snipp"), "'snipp'"),
        (("one", "two", "--resume"), "--out"),
        (("one", "two", "--ceiling"), "--search"),
        (("one", "two", "--search", "", "--search", " "), "same options"),
        (("one", "two", "--search", "'"), "quotation"),
        (("one", "two", "--search", "--unary 7"), "1 to 4"),
        (("one", "two", "--search", "--strategy exhaustive --unary 3"), "enumerate"),
        (("one", "two", "--json", "--csv"), "--csv"),
        (("one", "two", "--within", "0.5"), "0.5"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], message: str, lpz: Lpz, two: tuple[str, str]) -> None:
    code, out, err = lpz("bench", "transfer", *arguments, *OPTIONS)
    assert (code, out) == (2, "")
    assert message in err
    assert (err[:7], err.count("\n")) == ("error: ", 1)


@pytest.mark.parametrize("text", ["--fitnes matched", "--fitness matche", "--iterations 0", "stray"])
def test_options_that_no_search_has_are_refused(text: str, lpz: Lpz, two: tuple[str, str]) -> None:
    code, out, err = lpz("bench", "transfer", *two, *OPTIONS, "--search", text)
    assert (code, out) == (2, "")
    assert "error" in err
