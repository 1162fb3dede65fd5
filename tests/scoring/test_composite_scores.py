"""Rank ensembles in a set: the ranks of their members, in `rank`, `evaluate`, `grade` and the command line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lpz_nas import ProxyEvaluator
from scipy.stats import rankdata
from transformers import GPT2Config

from lpzero_hf import Setting, rank
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import grade
from lpzero_hf.errors import NotApplicable, UsageError
from lpzero_hf.proxies.base import ModelProxy, Proxy, Subject
from lpzero_hf.proxies.ensemble import EnsembleProxy
from lpzero_hf.proxies.resolve import find_proxy
from lpzero_hf.scoring.cache import ScoreCache
from tests.support.evaluated import evaluate

Lpz = Callable[..., tuple[int, str, str]]
SMALL = Setting(batch_size=2, seq_len=8)
BOTH = "ensemble(num_layers, l2_norm)"


def gpt2(layers: int, width: int, heads: int = 2) -> GPT2Config:
    return GPT2Config(n_layer=layers, n_embd=width, n_head=heads, vocab_size=4096, n_positions=32)


CONFIGS = {"a": gpt2(1, 16), "b": gpt2(2, 8), "c": gpt2(2, 24), "d": gpt2(3, 8)}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ScoreCache]:
    with ScoreCache(tmp_path / "scores.sqlite") as opened:
        yield opened


def made_of(*members: Proxy) -> EnsembleProxy:
    return EnsembleProxy(name="mixed", formula="", members=members)


def test_the_score_is_the_mean_of_the_members_ranks() -> None:
    rows = evaluate(CONFIGS, [find_proxy(BOTH)], SMALL)
    alone = evaluate(CONFIGS, [find_proxy("num_layers"), find_proxy("l2_norm")], SMALL)
    ranks = [rankdata([alone[name][proxy]["value"] for name in CONFIGS]) / 4 for proxy in ("num_layers", "l2_norm")]
    assert [list(row) for row in rows.values()] == [[BOTH]] * 4  # members are not shown unless asked for
    assert [rows[name][BOTH]["value"] for name in CONFIGS] == pytest.approx(list((ranks[0] + ranks[1]) / 2))
    assert ranks[0].tolist() == [0.25, 0.625, 0.625, 1.0]


def test_lower_is_better_is_turned_round_and_logarithms_are_added() -> None:
    shallow = ModelProxy(name="shallow", formula="", orientation=-1, evaluate=lambda subject: subject.layout.depth)
    heads = find_proxy("num_heads")  # 2, 4, 4, 6
    rows = evaluate(CONFIGS, [made_of(shallow, heads)], SMALL)
    assert [rows[name]["mixed"]["value"] for name in CONFIGS] == [0.625] * 4
    logs = EnsembleProxy(name="mixed", formula="", members=(shallow, heads), logarithmic=True)
    rows = evaluate(CONFIGS, [logs], SMALL)
    expected = [math.log(0.25), 2 * math.log(0.625), 2 * math.log(0.625), math.log(0.25)]
    assert [rows[name]["mixed"]["value"] for name in CONFIGS] == pytest.approx(expected)


def test_an_ensemble_of_ensembles_ranks_the_inner_scores() -> None:
    inner, outer = find_proxy(BOTH), find_proxy(f"ensemble({BOTH}, num_heads)")
    rows = evaluate(CONFIGS, [outer, inner], SMALL)
    parts = [[rows[name][BOTH]["value"] for name in CONFIGS], [2, 4, 4, 6]]
    expected = (rankdata(parts[0]) + rankdata(parts[1])) / 8
    assert [rows[name][outer.name]["value"] for name in CONFIGS] == pytest.approx(list(expected))


def test_an_architecture_that_a_member_does_not_score_has_no_rank() -> None:
    def fails_at_two(subject: Subject) -> float:
        if subject.layout.depth == 2:
            raise NotApplicable("it has two blocks")
        return subject.layout.depth

    picky = ModelProxy(name="picky", formula="", evaluate=fails_at_two)
    rows = evaluate(CONFIGS, [made_of(picky, find_proxy("num_heads"))], SMALL)
    found = {
        name: (row["mixed"]["value"], row["mixed"]["status"], row["mixed"]["reason"]) for name, row in rows.items()
    }
    assert found["b"] == found["c"] == (None, "not applicable", "picky: it has two blocks")
    assert (found["a"][0], found["d"][0]) == (0.5, 1.0)  # of the two that are left


def test_one_architecture_is_no_set() -> None:
    row = evaluate({"a": CONFIGS["a"]}, [find_proxy(BOTH)], SMALL)["a"][BOTH]
    assert (row["value"], row["status"]) == (None, "not applicable")
    assert "ranks a set" in row["reason"]


def test_members_are_cached_and_shared(cache: ScoreCache) -> None:
    calls = []

    def counted(model, batch) -> float:
        """layers"""
        calls.append(model)
        return model.config.n_layer

    from lpzero_hf.proxies.base import as_proxy

    member = as_proxy(counted)
    both = [made_of(member, find_proxy("num_heads")), member]
    first = evaluate(CONFIGS, both, SMALL, cache=cache)
    assert len(calls) == 4  # once for the ensemble and for itself
    evaluate(CONFIGS, [find_proxy("num_heads")], SMALL, cache=cache)
    smaller = {name: CONFIGS[name] for name in "ab"}
    assert evaluate(smaller, both, SMALL, cache=cache)["b"]["mixed"]["value"] == 1.0  # the set decides, not the cache
    assert first["b"]["mixed"]["value"] == 0.625


def test_rank_and_grade_rank_by_an_ensemble() -> None:
    ranking = rank(CONFIGS, BOTH, setting=SMALL)
    scores = {ranked.name: ranked.rows[BOTH].value for ranked in ranking}
    assert [ranked.name for ranked in ranking] == sorted(scores, key=scores.__getitem__, reverse=True)
    report = grade("tiny-gpt2", "ensemble(params, num_layers)", limit=6)
    values = report.scores["ensemble(params, num_layers)"]
    params, layers = (rankdata(report.scores[name]) for name in ("params", "num_layers"))
    assert values == pytest.approx(list((params + layers) / 12))


def test_what_a_member_was_searched_on_is_not_graded() -> None:
    known = load_benchmark("tiny-gpt2").trained()[0].key

    class Searched(ModelProxy):
        trained_on = {"tiny-gpt2": (known,)}  # type: ignore[assignment]

    member = Searched(name="searched", formula="", evaluate=lambda subject: subject.layout.depth)
    report = grade("tiny-gpt2", made_of(member, find_proxy("params")), limit=6)
    (graded,) = [graded for graded in report.grades if graded.proxy == "mixed"]
    assert list(graded.unscored.values()) == [1]
    assert report.scores["mixed"][report.to_dict()["architectures"].index(known)] is None


def test_a_search_that_scores_one_by_one_refuses_it() -> None:
    with pytest.raises(UsageError, match="ranks a given set"):
        ProxyEvaluator(BOTH, space="tiny-gpt2")


def test_the_command_line_takes_ensembles(lpz: Lpz) -> None:
    text = "ensemble(params, num_layers)"
    code, out, _ = lpz("rank", "tiny-gpt2", "-p", "ensemble( params,num_layers )", "--n", "5", "--csv")
    assert code == 0
    values = [float(row[text]) for row in csv.DictReader(io.StringIO(out))]
    assert values == sorted(values, reverse=True)
    code, out, _ = lpz("bench", "eval", "tiny-gpt2", "-p", text, "--limit", "6", "--json")
    assert (code, text in {row["proxy"] for row in json.loads(out)["grades"]}) == (0, True)
    code, out, err = lpz("score", "gpt2-variant", "-p", text, "--json")
    (row,) = json.loads(out)["models"][0]["scores"]
    assert (row["value"], "use rank" in row["reason"]) == (None, True)
    code, out, err = lpz("score", "gpt2-variant", "-p", "ensemble(params, snipp)")
    assert (code, out) == (2, "")
    assert "did you mean 'snip'" in err
