"""The text of a rank ensemble: what it names, and one clear line for what it cannot name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import lpzero_hf
from lpzero_hf import minibatch, score
from lpzero_hf.artifacts.artifact import Artifact, Member, parse_artifact
from lpzero_hf.artifacts.card import card
from lpzero_hf.errors import LpzError, MinibatchWarning, UsageError
from lpzero_hf.proxies.base import ModelwiseProxy, SetProxy
from lpzero_hf.proxies.consensus_proxy import consensus_proxy
from lpzero_hf.proxies.ensemble import EnsembleProxy, GeometricMean
from lpzero_hf.proxies.resolve import find_proxy, resolve
from lpzero_hf.proxies.searched_proxy import quantile, searched_proxy
from lpzero_hf.scoring.composite_scores import add_composite_scores
from lpzero_hf.testing import check_proxy
from tests.support.families import tiny_model

EXPRESSION = "sum(sum(product(abs(W), abs(G))))"


def ensemble(text: str) -> EnsembleProxy:
    found = find_proxy(text)
    assert isinstance(found, EnsembleProxy)
    return found


@pytest.mark.parametrize("text", ["ensemble(w_pca, snip)", "ensemble(w_pca,snip)", "  ensemble ( w_pca ,\n snip )  "])
def test_white_space_does_not_matter(text: str) -> None:
    assert ensemble(text) == ensemble("ensemble(w_pca, snip)")
    assert ensemble(text).name == "ensemble(w_pca, snip)"
    assert ensemble(text).members == (find_proxy("w_pca"), find_proxy("snip"))


def test_members_are_whatever_names_a_proxy() -> None:
    made = ensemble(f"log_ensemble({EXPRESSION}, ensemble(params, plain), lpzero-gpt2)")
    assert [member.name for member in made.members] == [EXPRESSION, "ensemble(params, plain)", "lpzero-gpt2"]
    assert made.name == f"log_ensemble({EXPRESSION}, ensemble(params, plain), lpzero-gpt2)"


def test_ranks_are_averaged_or_their_logarithms_added() -> None:
    shares = [[1.0, 0.5], [0.5, 0.25]]
    assert ensemble("ensemble(params, plain)").combine(shares) == [0.75, 0.375]
    assert ensemble("log_ensemble(params, plain)").combine(shares) == pytest.approx([math.log(0.5), math.log(0.125)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ensemble(snip, snipp)", "unknown proxy 'snipp'; did you mean 'snip'?"),
        ("ensemble(snip, all)", "unknown proxy 'all'"),
        ("ensemble(snip)", "has one member; use 'snip' itself"),
        ("ensemble(snip, params, snip)", "names 'snip' twice"),
        (f"ensemble({EXPRESSION}, {EXPRESSION.replace(',', ' , ')})", "twice"),
        ("ensemble(ensemble(params, snip), ensemble( params,snip))", "twice"),
        ("ensemble()", "empty member"),
        ("ensemble(snip,)", "empty member"),
        ("ensemble(snip,, params)", "empty member"),
        ("ensemble(snip, params", "closing parenthesis"),
        ("ensemble(snip, params))", "goes on"),
        ("ensemble(snip, params) + plain", "goes on"),
        ("ensemble(" * 5000 + "snip", "nested too deeply"),
    ],
)
def test_what_is_no_ensemble_is_one_clear_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        find_proxy(text)
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_equal_ensembles_are_one_and_members_may_stand_beside_them() -> None:
    names = [proxy.name for proxy in resolve(["ensemble(w_pca,snip)", "snip", "ensemble( w_pca, snip )"])]
    assert names == ["ensemble(w_pca, snip)", "snip"]
    both = f"ensemble(params, ensemble({EXPRESSION}, lpzero-gpt2))"
    assert [proxy.name for proxy in resolve([both, EXPRESSION, "lpzero-gpt2", both])] == [
        both,
        EXPRESSION,
        "lpzero-gpt2",
    ]


def test_a_member_must_not_be_another_proxy_of_a_requested_name() -> None:
    def snip(model, batch) -> float:
        """another one"""
        return 0.0

    with pytest.raises(UsageError, match="called 'snip'"):
        resolve(["ensemble(w_pca, snip)", snip])


def test_one_model_alone_has_no_score_and_nothing_runs() -> None:
    model = tiny_model("gpt2")
    rows = lpzero_hf.score(model, None, ["ensemble(w_pca, snip)"])  # not even a minibatch is needed
    row = rows["ensemble(w_pca, snip)"]
    assert (row.value, row.status) == (None, "not applicable")
    assert "use rank" in row.reason


def test_members_searched_on_another_minibatch_are_warned_of() -> None:
    chosen = resolve("ensemble(lpzero-any-0.1.0, snip)")
    with pytest.warns(MinibatchWarning, match="lpzero-any"):
        chosen.warn_of_minibatch(3, 7)


def test_the_conformance_suite_asks_for_the_members() -> None:
    with pytest.raises(UsageError, match="check its members"):
        check_proxy("ensemble(w_pca, snip)")


def test_the_geometric_mean_is_that_of_the_scores_of_one_model() -> None:
    model = tiny_model("gpt2")
    chosen = ["w_pca", "snip", "jacobian_covariance", "geometric_mean(w_pca, snip)"]
    scores = score(model, minibatch(model, batch_size=2, seq_len=16), chosen)
    w_pca, snip = scores["w_pca"].require(), scores["snip"].require()
    assert scores["geometric_mean(w_pca, snip)"].require() == pytest.approx(math.log(w_pca * snip) / 2)
    alone = score(model, minibatch(model, batch_size=2, seq_len=16), "geometric_mean(w_pca, snip)")
    assert alone["geometric_mean(w_pca, snip)"].value == scores["geometric_mean(w_pca, snip)"].value
    assert list(alone) == ["geometric_mean(w_pca, snip)"]


def test_in_a_geometric_mean_lower_is_better_where_the_member_says_so() -> None:
    mean = find_proxy("geometric_mean(params, num_layers)")
    assert isinstance(mean, ModelwiseProxy)
    less = replace(mean, members=(mean.members[0], replace(mean.members[1], orientation=-1)))
    assert mean.combine([8.0, 2.0]) == pytest.approx(math.log(16) / 2)
    assert less.combine([8.0, 2.0]) == pytest.approx(math.log(4) / 2)


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_a_geometric_mean_of_a_score_that_is_not_positive_is_invalid(value: float) -> None:
    rows = {"a": {"params": _row("params", value), "num_layers": _row("num_layers", 2.0)}}
    add_composite_scores(rows, [find_proxy("geometric_mean(params, num_layers)")])
    row = rows["a"]["geometric_mean(params, num_layers)"]
    assert (row["value"], row["status"]) == (None, "invalid")
    assert "'params'" in row["reason"]


def test_a_geometric_mean_of_ranks_has_no_score_of_one_model() -> None:
    model = tiny_model("gpt2")
    scores = score(model, None, "geometric_mean(ensemble(w_pca, snip), params)")
    assert [row.status for row in scores.rows] == ["not applicable"]


def test_a_geometric_mean_of_ranks_ranks_a_set() -> None:
    values = {"params": (3.0, 5.0, 4.0), "num_layers": (1.0, 2.0, 3.0)}
    rows = {
        name: {proxy: _row(proxy, column[place]) for proxy, column in values.items()}
        for place, name in enumerate(("a", "b", "c"))
    }
    name = "geometric_mean(ensemble(params, num_layers), params)"
    add_composite_scores(rows, [find_proxy(name)])
    shares = (2 / 6, 5 / 6, 5 / 6)
    expected = [math.log(share * size) / 2 for share, size in zip(shares, values["params"], strict=True)]
    assert [made[name]["value"] for made in rows.values()] == pytest.approx(expected)


def _row(proxy: str, value: float) -> dict[str, object]:
    return {
        "proxy": proxy, "value": value, "status": "ok", "reason": "", "orientation": 1, "passes": "none", "seconds": 0.0
    }  # fmt: skip


def test_set_proxies_of_others_are_proxies() -> None:
    class Best(SetProxy):
        def combine(self, shares):  # type: ignore[no-untyped-def]
            return [max(ranks) for ranks in zip(*shares, strict=True)]

    members = (find_proxy("params"), find_proxy("num_heads"))
    best = Best(name="best", formula="the best rank", members=members)
    assert [proxy.name for proxy in resolve(best)] == ["best"]


@pytest.mark.parametrize("kind", [EnsembleProxy, GeometricMean])
def test_a_member_given_twice_in_python_is_refused_as_in_a_text(
    kind: type[EnsembleProxy] | type[GeometricMean],
) -> None:
    twice = (find_proxy("params"), find_proxy("num_heads"), find_proxy("params"))
    with pytest.raises(UsageError, match="'params' twice") as raised:
        kind(name="mine", formula="", members=twice)
    assert len(str(raised.value).splitlines()) == 1


def test_a_consensus_that_names_a_member_twice_is_refused() -> None:
    record = {"benchmarks": [], "strategy": "", "seed": 1, "train": {}, "held_out": {}, "versions": {}}
    artifact = Artifact("mine", (Member("geometric_mean(params, num_heads, params)", 1),), {}, record)
    with pytest.raises(LpzError, match="'params' twice"):
        consensus_proxy(artifact).with_members(find_proxy)


def test_a_member_of_a_member_counts_in_both() -> None:
    made = find_proxy("geometric_mean(params, geometric_mean(params, num_heads))")
    assert isinstance(made, GeometricMean)
    assert [member.name for member in made.members] == ["params", "geometric_mean(params, num_heads)"]


def test_what_a_search_took_twice_counts_twice_and_says_so() -> None:
    other = "sum(sum(product(abs(W), abs(J))))"
    scale = (0.0, 1.0, 2.0)
    record = {"benchmarks": ["b"], "strategy": "", "seed": 1, "train": {}, "held_out": {}, "versions": {}}
    members = (Member(EXPRESSION, 1, scale), Member(other, -1, scale), Member(EXPRESSION, 1, scale))
    artifact = parse_artifact(Artifact("mine", members, {"abs": "1"}, record).text)
    assert artifact.weighted == [f"2 times {EXPRESSION}", f"- {other}"]
    proxy = searched_proxy(artifact)
    assert f"2 times {EXPRESSION}" in proxy.formula
    assert f"2 times {EXPRESSION}" in card(artifact)
    once = searched_proxy(replace(artifact, members=members[:1]))
    assert "times" not in once.formula
    model = tiny_model("gpt2")
    batch = minibatch(model, batch_size=2, seq_len=16)
    rows = score(model, batch, [proxy, EXPRESSION, other])
    one, two = (quantile(sign * rows[name].require(), members[0]) for sign, name in ((1, EXPRESSION), (-1, other)))
    assert rows["mine"].value == pytest.approx(2 * one + two)
