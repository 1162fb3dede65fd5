"""The study of budgets: what a choice is worth, who may choose among what, and what the page says."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
from lpz_nas.outcome import Tried, best

from studies.nas import budgets as module
from studies.nas.budget_pages import Page, verdict
from studies.nas.budgets import KINDS, LEFT_OUT, WINNER, Nas, Pool, choices, pools_of
from studies.nas.choosing import CHANCE, alike, estimate, limits, play, preference, resamples, summary
from tests.studies.test_studies import quiet

needs_data = pytest.mark.skipif("LPZ_DATA" not in os.environ, reason="the folder of ground truth (LPZ_DATA) is not set")


def made(n: int = 60) -> tuple[Any, Any]:
    """Trained performance, and sizes that have little to do with it."""
    rng = np.random.default_rng(0)
    return rng.permutation(n).astype(float), rng.integers(100, 10_000, size=n).astype(float)


# Choices ---------------------------------------------------------------------------------------------------


def test_the_best_and_the_worst_choice_and_chance_are_known() -> None:
    target, sizes = made()
    scores = {"oracle": target, "inverse": -target, "largest": sizes}
    found = play(target, sizes, scores, limits(sizes, 5), resamples(60, 40))
    rows = {name: summary(name, one, found["largest"]) for name, one in found.items()}
    nothing = {"value": 0, "low": 0, "high": 0}
    assert rows["oracle"]["saved_regret"] == rows["largest"]["regret"]
    assert rows["oracle"]["percentile"] == rows["oracle"]["regret"] == rows["largest"]["saved"] == nothing
    assert rows["oracle"]["best_chosen"] == rows["oracle"]["best_chosen"] | {"value": 1.0}
    assert rows["inverse"]["percentile"] == {"value": 100, "low": 100, "high": 100}
    assert rows["inverse"]["best_chosen"] == nothing
    assert rows[CHANCE]["percentile"] == {"value": 50, "low": 50, "high": 50}
    assert rows["oracle"]["saved"] == rows["largest"]["percentile"]
    regret = {name: row["regret"]["value"] for name, row in rows.items()}  # type: ignore[index]
    assert 0 < regret[CHANCE] < regret["inverse"]
    assert found[CHANCE].regret == pytest.approx(  # the mean of every choice
        np.mean([found_by(target, sizes, place) for place in range(400)], axis=0), rel=0.2
    )


def found_by(target: Any, sizes: Any, seed: int) -> Any:
    """The regret of choices by random scores."""
    scores = {"": np.random.default_rng(seed).random(len(target))}
    return play(target, sizes, scores, limits(sizes, 5), resamples(60, 40))[""].regret


def test_a_choice_is_placed_among_the_candidates_that_are_admitted() -> None:
    target = np.array([5.0, 1.0, 2.0, 3.0, 3.0])
    sizes = np.array([9.0, 1.0, 2.0, 3.0, 4.0])

    def choice(name: str, of: list[int], by: list[float]) -> tuple[float, float, float]:
        drawn = np.zeros((1, 5), bool)
        drawn[0, of] = True
        one = play(target, sizes, {name: np.array(by)}, limits(sizes, 1), drawn)[name]
        return one.percentile[0, 0], one.regret[0, 0], one.hit[0, 0]

    assert limits(sizes, 1).values == [2.0]
    assert choice("a", [1, 2], [0, 1, 0, 0, 0]) == (100, 1, 0)
    assert choice("b", [1, 2, 3, 4], [0, 0, 1, 9, 9]) == (0, 0, 1)  # those that score best are too large
    budgets = alike(np.array([1.0, 1.0, 1.0, 1.0, 1.0]), 1)
    drawn = np.array([[False, False, True, True, True]])
    equal = play(target, sizes, {"c": np.array([0.0, 0, 0, 1, 0])}, budgets, drawn)["c"]
    assert (equal.percentile[0, 0], equal.regret[0, 0], equal.hit[0, 0]) == (25, 0, 1)  # one is as good
    alone = play(target, sizes, {"c": target}, budgets, np.array([[True, False, False, False, False]]))
    assert all(np.isnan(one.percentile).all() for one in alone.values())  # one candidate has no rank


def test_the_choice_is_that_of_the_search() -> None:
    rng = random.Random(1)
    scores = np.array([rng.choice([1.0, 2.0, 3.0, np.nan]) for _ in range(40)])
    params = np.array([float(rng.randrange(5)) for _ in range(40)])
    values = [None if np.isnan(score) else float(score) for score in scores]
    tried = [Tried(str(place), int(params[place]), value) for place, value in enumerate(values)]
    order = preference(scores, params)
    assert np.isfinite(scores[order]).all()
    assert len(order) == sum(one.score is not None for one in tried)
    for place in range(len(order)):
        left = set(order[place:].tolist())
        assert best(one for one in tried if int(one.architecture) in left).architecture == str(order[place])


def test_what_has_no_score_is_never_chosen() -> None:
    target, sizes = made()
    silent = np.where(target == target.max(), np.nan, target)
    found = play(target, sizes, {"silent": silent, "mute": np.full(60, np.nan)}, limits(sizes, 4), resamples(60, 30))
    assert found["silent"].hit[:, -1].sum() == np.sum(~resamples(60, 30)[:, target.argmax()])
    assert np.isnan(found["mute"].percentile).all()


def test_budgets_admit_what_they_say() -> None:
    _, sizes = made(200)
    most = limits(sizes, 20)
    assert most.values == sorted(most.values)
    assert most.admits[-1].all()
    assert most.admits[0].sum() >= 20
    near = alike(sizes, 20)
    for value, admitted in zip(near.values, near.admits, strict=True):
        assert admitted[sizes == value].all()
        assert (np.abs(sizes[admitted] - value) <= 0.1 * value).all()
        assert (np.abs(sizes[~admitted] - value) > 0.1 * value).all()


def test_a_seed_draws_the_same_whatever_their_number() -> None:
    many = resamples(200, 50)
    assert (many[:7] == resamples(200, 7)).all()
    assert len({row.tobytes() for row in many}) == 50
    assert many.mean() == pytest.approx(1 - np.exp(-1), abs=0.02)  # the different members of a bootstrap resample


def test_the_interval_is_that_of_the_seeds() -> None:
    rows = np.arange(1000.0)[:, None] + np.array([-1.0, 1.0, np.nan])
    assert estimate(rows) == pytest.approx({"value": 499.5, "low": 24.975, "high": 974.025})


# The study -------------------------------------------------------------------------------------------------


def pool(**changes: Any) -> Pool:
    target, sizes = made()
    scores = {WINNER: target, "decoder_params": sizes, "params": sizes, "num_layers": -target, LEFT_OUT: target}
    facts: dict[str, Any] = {
        "benchmark": "made", "metric": "loss", "target": target, "scores": scores, "seen": {WINNER: "chosen with it"},
        "sizes": {"params": sizes, "decoder_params": sizes},
    }  # fmt: skip
    return Pool(**facts | changes)


def test_the_page_has_every_kind_and_says_who_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pools_of", lambda *_: [pool(), pool(without=7)])
    study = Nas(("made",), budgets=4, seeds=50)
    data = study.make(quiet)
    first, _ = data["pools"]
    kinds = [kind["kind"] for kind in first["kinds"]]
    assert kinds == [kind for kind, (quantity, _) in KINDS.items() if quantity != "train_elapsed"]  # not known of it
    text = study.show({"nas": data})
    lines = [line for line in text.splitlines() if line.startswith("- made")]
    assert [line.split(": ")[0] for line in lines] == ["- made, percentile, better", "- made, loss, better"]
    assert [line.count("(+") for line in lines] == [4, 4]  # of the whole pool alone
    assert f"| {WINNER} † | 0.0 [0.0, 0.0] |" in text
    assert f"| {LEFT_OUT} | 0.0 [0.0, 0.0] |" in text
    assert text.count("| num_layers | 100.0 [100.0, 100.0] |") == 2
    assert "### made, 60 architectures, without 7 that a proxy was searched on" in text
    assert len(study.draw({"nas": data})["nas-choices"].axes) == 1  # the whole pool alone


def test_a_difference_is_told_only_where_its_interval_says_so() -> None:
    assert verdict({"value": 2.0, "low": 0.1, "high": 3.0}) == "better"
    assert verdict({"value": 2.0, "low": -0.1, "high": 3.0}).startswith("no difference")
    assert verdict({"value": -2.0, "low": -3.0, "high": -0.1}) == "worse"
    assert Page({"pools": [choices(pool(), 2, 20)], "rival": "params"}).order(choices(pool(), 2, 20))[0] == WINNER


@needs_data
@pytest.mark.integration
def test_nothing_chooses_among_what_it_was_searched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def scores(benchmark: Any, keys: Any, proxies: Any, *_: Any) -> dict[str, Any]:
        asked.append([proxy.name for proxy in proxies])
        return {proxy.name: np.arange(float(len(keys))) for proxy in proxies}

    monkeypatch.setattr(module, "searched_scores", scores)
    whole, rest = pools_of("gpt2-wt103", True, 1, quiet)
    searched = {"lpzero-gpt2", "lpzero-any-0.1.0"}
    assert {*asked[0]} == searched | {"lpzero-flexibert"}
    assert len(whole.target) == 200
    assert len(rest.target) == 200 - rest.without
    assert rest.without >= 50
    assert searched.isdisjoint(whole.scores)
    assert searched < {*rest.scores}
    assert {*rest.seen} == searched | {WINNER}
    assert all(len(values) == len(rest.target) for values in (*rest.scores.values(), *rest.sizes.values()))
    assert 1500 < whole.sizes["train_elapsed"].min() < whole.sizes["train_elapsed"].max() < 12_000
    assert {WINNER, LEFT_OUT, "decoder_params", "num_layers"} < {*whole.scores}
    assert -whole.target.max() == pytest.approx(min(-whole.target))
    assert np.corrcoef(whole.target, np.log(whole.scores["attention_params"]))[0, 1] > 0.9  # both higher for better
