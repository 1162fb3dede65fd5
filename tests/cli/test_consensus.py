"""`lpz bench consensus`: what it chooses, what it writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lpzero_hf.artifacts.artifact import read_artifact
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import find_proxy

Lpz = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.integration
SMALL = ("--limit", "40", "--batch-size", "2", "--seq-len", "8", "-p", "params", "-p", "snip", "-p", "num_layers")


def test_it_writes_a_proxy_that_scores_and_is_not_graded_where_it_was_chosen(lpz: Lpz, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    code, out, err = lpz("bench", "consensus", "tiny-gpt2", *SMALL, "--name", "mine", "--out", str(file), "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found["members"]) | set(found["left_out"]) == {"params", "snip", "num_layers"}
    assert read_artifact(file).expressions == (found["proxy"],)
    assert find_proxy(file, load_plugins()).formula == found["proxy"]
    code, out, err = lpz("bench", "eval", "tiny-gpt2", "-p", str(file), "--limit", "40", "--json", *SMALL[2:6])
    assert code == 0, err
    graded = {one["proxy"]: one for one in json.loads(out)["grades"]}["mine"]
    assert graded["agreement"] is None
    assert list(graded["unscored"].values()) == [40]


def test_its_table_names_members_and_the_reasons_of_the_others(lpz: Lpz) -> None:
    code, out, err = lpz("bench", "consensus", "tiny-gpt2", *SMALL)
    assert code == 0, err
    assert "member" in out
    assert "num_layers" in out
    code, out, _ = lpz("bench", "consensus", "tiny-gpt2", *SMALL, "--csv")
    head, first, *_ = out.splitlines()
    assert head == "proxy,tiny-gpt2,place,warnings"
    assert len(first.split(",")[1]) > 8  # all digits


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-p", "num_layers"), "a consensus needs 2"),
        (("-p", "snipp"), "did you mean 'snip'"),
        (("-p", "params", "-p", "snip", "--name", "Not A Name"), "no name for a proxy"),
        (("-p", "params", "-p", "snip", "--within", "0.5"), "within"),
    ],
)
def test_what_it_cannot_do_is_one_line(lpz: Lpz, arguments: tuple[str, ...], told: str) -> None:
    code, out, err = lpz("bench", "consensus", "tiny-gpt2", *SMALL[:6], *arguments)
    assert code in (1, 2)
    assert out == ""
    assert told in err
    assert len(err.strip().splitlines()) <= 2
