"""Ranking architectures, and the spaces and architectures that the command line names."""

from __future__ import annotations

import csv
import io
import json

import pytest
from transformers import GPT2Config

from lpzero_hf import Setting, load_model, rank, recommended
from lpzero_hf.errors import UsageError
from lpzero_hf.spaces.named import named_config

SMALL = Setting(batch_size=2, seq_len=8)


def gpt2(layers: int, width: int = 16, heads: int = 2) -> GPT2Config:
    return GPT2Config(n_layer=layers, n_embd=width, n_head=heads, vocab_size=4096, n_positions=32)


def shallower_is_better(model, batch) -> float:
    """minus the number of layers"""
    return -model.config.n_layer


def test_the_best_comes_first_whatever_the_orientation() -> None:
    configs = {"two": gpt2(2), "four": gpt2(4), "three": gpt2(3)}
    assert [r.name for r in rank(configs, "num_layers", setting=SMALL)] == ["four", "three", "two"]
    assert [r.name for r in rank(configs, shallower_is_better, setting=SMALL)] == ["two", "three", "four"]
    first = rank(configs, "num_layers", setting=SMALL)[0]
    assert (first.rank, first.rows["num_layers"].value) == (1.0, 4.0)


def test_an_orientation_of_minus_one_is_turned_round() -> None:
    from lpzero_hf import ModelProxy

    deep = ModelProxy(name="deep", formula="", orientation=-1, evaluate=lambda subject: subject.layout.depth)
    assert [r.name for r in rank({"a": gpt2(2), "b": gpt2(1)}, deep, setting=SMALL)] == ["b", "a"]


def test_several_proxies_vote_by_mean_rank() -> None:
    configs = {"deep": gpt2(3, heads=1), "wide": gpt2(1, heads=4), "middle": gpt2(2, heads=4)}
    ranking = rank(configs, ["num_layers", "num_heads"], setting=SMALL)
    # layers: deep 1, middle 2, wide 3; heads: middle 8, wide 4, deep 3
    assert [(r.name, r.rank) for r in ranking] == [("middle", 1.5), ("deep", 2.0), ("wide", 2.5)]


def test_an_architecture_without_a_score_comes_last() -> None:
    def odd(model, batch) -> float:
        """fails for three layers"""
        return float("nan") if model.config.n_layer == 3 else 1.0

    ranking = rank({"bad": gpt2(3), "good": gpt2(1)}, odd, setting=SMALL)
    assert [(r.name, r.rank) for r in ranking] == [("good", 1.0), ("bad", None)]


def test_a_space_is_sampled_with_the_seed() -> None:
    names = [{r.name for r in rank("tiny-gpt2", "num_layers", n=5, setting=Setting(2, 8, seed=s))} for s in (1, 1, 2)]
    assert all(named_config(name) is not None for name in names[0])  # as `load_model` takes them
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == 5


def test_nothing_to_rank_is_an_error() -> None:
    with pytest.raises(UsageError, match="no architectures"):
        rank({}, "params", setting=SMALL)
    with pytest.raises(UsageError, match="'tiny-gpt2'"):
        rank("tiny-gpt", "params", setting=SMALL)


def test_rank_prints_a_table_json_and_csv(lpz) -> None:
    wanted = ("rank", "tiny-gpt2", "-p", "num_layers", "-p", "decoder_params", "--n", "4", "--batch-size", "2")
    options = ("--seq-len", "8", "--workers", "1")
    code, out, err = lpz(*wanted, *options, "--top", "2")
    assert (code, err) == (0, "")
    assert "best 2 of 4" in out
    code, out, err = lpz(*wanted, *options, "--json")
    rows = json.loads(out)["ranking"]
    assert [row["place"] for row in rows] == [1, 2, 3, 4]
    assert rows == sorted(rows, key=lambda row: row["rank"])
    code, out, err = lpz(*wanted, *options, "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert [row["architecture"] for row in table] == [row["architecture"] for row in rows]
    best = rows[0]["architecture"]
    assert load_model(best).model.config.num_hidden_layers == rows[0]["num_layers"]


def test_rank_says_what_is_wrong(lpz) -> None:
    assert lpz("rank", "tiny-gpt", "-p", "params")[0] == 2
    code, out, err = lpz("rank", "tiny-gpt2", "-p", "parms")
    assert (code, out) == (2, "")
    assert "'params'" in err
    code, _, err = lpz("rank", "flexibert", "-p", "params", "--n", "99999999")
    assert code == 2
    assert "10621440" in err
    code, _, err = lpz("rank", "tiny-gpt2", "-p", "flops", "--n", "2", "--seq-len", "500", "--workers", "1")
    assert code == 1
    assert "--seq-len 128" in err


def test_the_recommended_proxies_rank_where_none_is_named(lpz) -> None:
    kinds = {"decoder": "tiny-gpt2", "encoder": "flexibert"}
    for kind, space in kinds.items():
        expected = [proxy.name for proxy in recommended(kind) if proxy.name not in ("params", "decoder_params")]
        ranking = rank(space, n=3, setting=SMALL)
        assert ranking.proxies == expected
        assert ranking[0].rank is not None
    mixed = rank({"a": gpt2(2), "b": load_model("bert-mini").model.config}, setting=SMALL)
    assert set(mixed.proxies) > set(expected)
    asked = ("rank", "tiny-gpt2", "--n", "3", "--batch-size", "2", "--seq-len", "8", "--workers", "1")
    code, out, _ = lpz(*asked)
    assert (code, "recommended proxies; --proxy" in out) == (0, True)
    document = json.loads(lpz(*asked, "--json")[1])
    assert list(document["proxies"]) == rank("tiny-gpt2", n=3, setting=SMALL).proxies
    assert "recommended" not in lpz(*asked, "-p", "params")[1]


def test_what_cannot_be_built_has_no_recommended_proxies() -> None:
    with pytest.raises(UsageError, match="no proxy is recommended"):
        rank({"a": gpt2(2, width=16, heads=3)}, setting=SMALL)


def test_the_zoo_shows_its_spaces(lpz) -> None:
    code, out, _ = lpz("zoo", "--json")
    assert {"flexibert", "gpt2", "tiny-gpt2"} <= {row["space"] for row in json.loads(out)["spaces"]}
    code, out, _ = lpz("zoo", "show", "flexibert", "--json")
    shown = json.loads(out)
    layers = [choice["values"] for choice in shown["choices"] if choice["name"] == "layers"]
    assert (code, shown["size"], layers) == (0, 10_621_440, [[2, 4]])
    assert load_model(shown["example"]).model.config.model_type == "lpz-flexibert"
    code, out, _ = lpz("zoo", "show", "gpt2")
    assert "1.504e+60" in out
    assert "i512 to i2048" in out
    code, _, err = lpz("zoo", "show", "gpt3")
    assert code == 2
    assert "'gpt2'" in err


def test_an_architecture_of_a_space_is_a_model(lpz) -> None:
    code, out, _ = lpz("score", "tiny-gpt2:d64.e32.k2-h2.i64-h4.i128", "-p", "num_heads", "--json")
    assert (code, json.loads(out)["models"][0]["scores"][0]["value"]) == (0, 6.0)
    code, _, err = lpz("score", "tiny-gpt2:d65.e32.k2-h2.i64", "-p", "num_heads")
    assert code == 2
    assert "'d65'" in err
    assert named_config("nonsense:d64") is None
