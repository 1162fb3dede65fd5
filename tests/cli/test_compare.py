"""`lpz compare`: tables, JSON and CSV, what is warned of, and what goes wrong."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lpzero_hf import load_model, recommended
from tests.support.families import tiny_model

Lpz = Callable[..., tuple[int, str, str]]
SMALL = ("--batch-size", "2", "--seq-len", "16", "--device", "cpu")
MEMBER, WIDER = "tiny-gpt2:d64.e32.k2-h2.i64-h4.i128", "tiny-gpt2:d128.e32.k2-h2.i64-h4.i128"


def test_two_names_of_one_architecture_share_a_place_and_the_last_line_says_so(lpz: Lpz, tmp_path: Path) -> None:
    load_model(MEMBER).model.config.save_pretrained(tmp_path)
    code, out, _ = lpz("compare", MEMBER, str(tmp_path), WIDER, "--seeds", "2", *SMALL)
    assert code == 0
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if line.startswith("│")]
    place = {row[2]: row[1] for row in rows if row[3] == "decoder"}
    assert place[MEMBER] == place[str(tmp_path)]
    assert len(set(place.values())) == 2
    header = [cell.strip() for cell in next(line for line in out.splitlines() if "┃ proxy" in line).split("┃")]
    votes = [row for row in rows if row[1] in [proxy.name for proxy in recommended("decoder")]]
    assert len(votes) == len(recommended("decoder")) - 2
    assert all(row[header.index(MEMBER)] == row[header.index(str(tmp_path))] for row in votes)
    last = out.splitlines()[-1]
    assert f"{' and '.join(sorted([str(tmp_path), MEMBER]))} are the same architecture" in last
    assert f"{WIDER} is ahead of" in last
    assert "of 2 draws by" in last
    assert "mostly one of size" in out


def test_json_holds_all_and_csv_a_row_per_model(lpz: Lpz) -> None:
    asked = ("compare", WIDER, MEMBER, "-p", "snip", "-p", "num_heads", "--seeds", "1", "--seed", "7", *SMALL)
    document = json.loads(lpz(*asked, "--json")[1])
    assert [model["place"] for model in document["models"]] == [1, 2]
    assert document["seeds"] == [7]
    assert (document["setting"]["batch_size"], document["setting"]["seq_len"]) == (2, 16)
    assert document["evidence"]["snip"]["decoder"]["benchmarks"] > 1
    (pair,) = document["pairs"]
    assert {pair["first"], pair["second"]} == {MEMBER, WIDER}
    assert document["sentence"].endswith(".")
    assert document["versions"]["torch"]
    rows = list(csv.DictReader(io.StringIO(lpz(*asked, "--csv")[1])))
    assert [row["model"] for row in rows] == [model["name"] for model in document["models"]]
    assert [int(row["place by snip"]) for row in rows] == [model["places"]["snip"] for model in document["models"]]
    assert float(rows[0]["params"]) == document["models"][0]["sizes"]["params"]


def test_a_proxy_that_has_no_meaning_on_one_model_has_no_vote_and_is_told(lpz: Lpz, tmp_path: Path) -> None:
    tiny_model("fnet").config.save_pretrained(tmp_path)
    asked = ("-p", "attention_confidence", "-p", "num_layers", "--seeds", "1")
    code, out, err = lpz("compare", str(tmp_path), "bert-mini", *asked, *SMALL)
    assert code == 0
    assert f"'attention_confidence' has no vote: it is not applicable for {tmp_path}" in err
    row = next(line.split("│") for line in out.splitlines() if "attention_confidence" in line)
    assert [cell.strip() for cell in row[2:4]] == ["—", "—"]
    code, out, err = lpz("compare", str(tmp_path), "bert-mini", "-p", "attention_confidence", *SMALL)
    assert (code, out) == (1, "")
    assert "no proxy scores all" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gpt2-variant",), 2, "at least two"),
        (("gpt2-variant", "gpt2-variant"), 2, "named twice"),
        (("gpt2-variant", "no-such/model name"), 2, "'no-such/model name'"),
        (("gpt2-variant", "bert-mini", "-p", "snipp"), 2, "'snipp'"),
        (("gpt2-variant", "bert-mini", "--seeds", "0"), 2, "--seeds"),
        (("gpt2-variant", "bert-mini", "--sure", "0.3"), 2, "0.5"),
        (("gpt2-variant", "bert-mini", "--seq-len", "513"), 1, "512 positions"),
        (("gpt2-variant", "bert-mini", "--json", "--csv"), 2, "--csv"),
        (("gpt2-variant", "bert-mini", "--text", "nowhere.txt"), 1, "'nowhere.txt'"),
    ],
)
def test_bad_requests_name_the_fault(arguments: tuple[str, ...], code: int, message: str, lpz: Lpz) -> None:
    got, out, err = lpz("compare", *arguments)
    assert (got, out) == (code, "")
    assert message in err


def test_a_bad_model_is_told_and_the_others_are_compared(lpz: Lpz) -> None:
    code, out, err = lpz("compare", MEMBER, "not there", WIDER, "-p", "num_heads", "--seeds", "1", "--json", *SMALL)
    document = json.loads(out)
    assert code == 2
    assert "'not there'" in document["failed"]["not there"]
    assert len(document["models"]) == 2
    assert err.count("error:") == 1
