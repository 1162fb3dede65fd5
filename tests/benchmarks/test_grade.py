"""Grading: what a report says of proxies is what scipy says of their scores one by one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from transformers import GPT2Config

from lpzero_hf.benchmarks.agreement import kendall, spearman
from lpzero_hf.benchmarks.benchmark import Benchmark, Trained
from lpzero_hf.benchmarks.grade import BASELINES, chance, grade
from lpzero_hf.benchmarks.matched import matched_agreement
from lpzero_hf.errors import LpzError, NotApplicable, UsageError
from lpzero_hf.executors.base import Executor
from lpzero_hf.models.build import build_model
from lpzero_hf.proxies.base import ModelProxy, Proxy, Subject
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.spaces.space import Architecture, Choice, Space
from tests.support.architectures import SMALL, TWO, one_by_one, size
from tests.support.evaluated import evaluate

TOY = Space(
    name="toy",
    summary="",
    shared=(Choice("d", "width", (8, 16, 24)),),
    depths=(1, 2),
    layer=(Choice("h", "heads", (1, 2)),),
    build=lambda shared, layers: GPT2Config(
        n_embd=int(shared["width"]), n_head=2, n_layer=len(layers), vocab_size=4096, n_positions=16
    ),
)
# six architectures, in an order unlike that of any proxy
MEMBERS = [Architecture((width,), layers) for width in (16, 8, 24) for layers in (((1,),), ((1,), (2,)))]


def toy_benchmark(quality: Sequence[float] = (4, 1, 5, 2, 3, 6), larger_is_better: bool = True) -> Benchmark:
    entries = [Trained(TOY.text(a), a, q) for a, q in zip(MEMBERS, quality, strict=True)]
    return Benchmark(
        name="toy", summary="", space=TOY, metric="points", larger_is_better=larger_is_better,
        read=lambda: entries, batch_size=2, seq_len=8,
    )  # fmt: skip


def own_proxy(name: str, does: Callable[[Subject], float], orientation: Any = 1) -> Proxy:
    return ModelProxy(name=name, formula="", evaluate=does, orientation=orientation)


@pytest.mark.parametrize("asked", [["snip"], ["params", "snip"], ["all"]])
def test_the_baselines_are_graded_with_the_proxies_once(asked: list[str]) -> None:
    report = grade(toy_benchmark(), asked)
    names = [g.proxy for g in report.grades]
    assert len(set(names)) == len(names)
    assert {*BASELINES, "snip"} <= set(names)
    assert names == list(dict.fromkeys(names))
    assert len(names) == (len(BASELINES) + 1 if asked != ["all"] else len(evaluate(TWO, "all", SMALL)["wide"]))


def test_a_grade_is_the_agreement_of_the_scores_with_the_truth() -> None:
    quality = (4, 1, 5, 2, 3, 6)
    report = grade(toy_benchmark(quality), ["snip", "nwot"])
    assert report.setting == Setting(2, 8)  # the benchmark's own minibatch
    for graded in report.grades:
        scores, agreement = report.scores[graded.proxy], graded.agreement
        assert agreement is not None
        assert agreement.n == 6
        assert agreement.spearman is not None
        assert agreement.kendall is not None
        assert agreement.spearman.value == spearman(scores, quality)
        assert agreement.kendall.value == kendall(scores, quality)
    expected = one_by_one({TOY.text(a): TOY.config(a) for a in MEMBERS}, report.setting)
    assert report.scores["snip"] == [row["snip"]["value"] for row in expected.values()]
    rhos = [g.agreement.spearman.value for g in report.grades if g.agreement and g.agreement.spearman]
    assert rhos == sorted(rhos, reverse=True)
    assert report.grades[-1].proxy == "num_heads"  # those of two layers are worse than those of one, but for the last


def test_orientations_of_proxy_and_metric_are_respected() -> None:
    sizes = [size(Subject(build_model(TOY.config(a)), {}, None, 0)) for a in MEMBERS]  # type: ignore[arg-type]
    proxies = [own_proxy("up", size), own_proxy("down", lambda s: -size(s), -1), own_proxy("wrong", size, -1)]
    for larger_is_better, sign in ((True, 1), (False, -1)):
        report = grade(toy_benchmark(sizes, larger_is_better), proxies)
        rho = {g.proxy: g.agreement.spearman.value for g in report.grades if g.agreement and g.agreement.spearman}
        assert [rho["up"], rho["down"], rho["wrong"]] == [sign, sign, -sign]
        assert report.scores["up"] == sizes  # as the proxy gives them
        assert report.scores["down"] == [-x for x in sizes]
        top = next(g.agreement.top for g in report.grades if g.proxy == "up" and g.agreement)
        assert top == (1 if larger_is_better else 0)


def last_words(unscored: Mapping[str, int]) -> dict[str, int]:
    """How many architectures have no score for a reason, of which only the last word is compared."""
    return {reason.split()[-1]: count for reason, count in unscored.items()}


def test_architectures_without_a_score_are_left_out_and_counted() -> None:
    def sometimes(subject: Subject) -> float:
        if subject.model.config.n_embd == 16:
            raise NotApplicable("not today")
        return math.nan if subject.model.config.n_embd == 8 and subject.model.config.n_layer == 1 else size(subject)

    def seldom(subject: Subject) -> float:
        return math.inf if subject.model.config.n_embd > 8 else 1.0

    report = grade(toy_benchmark((9, 9, 1, 2, 3, 4)), [own_proxy("sometimes", sometimes), own_proxy("seldom", seldom)])
    grades = {g.proxy: g for g in report.grades}
    assert last_words(grades["sometimes"].unscored) == {"today": 2, "nan": 1}
    agreement = grades["sometimes"].agreement
    assert agreement is not None
    assert agreement.spearman is not None
    assert (agreement.n, agreement.spearman.value) == (3, 1)
    assert report.scores["sometimes"][:3] == [None, None, None]
    assert grades["seldom"].agreement is None
    assert last_words(grades["seldom"].unscored) == {"inf": 4}
    assert grades["params"].unscored == {}
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["scores"] == report.scores


def test_a_proxy_that_ranks_nothing_comes_after_one_that_ranks_wrongly() -> None:
    report = grade(toy_benchmark(range(6)), [own_proxy("wrong", lambda s: -size(s)), own_proxy("equal", lambda s: 1.0)])
    rhos = {g.proxy: g.agreement.spearman for g in report.grades if g.agreement}
    names = [g.proxy for g in report.grades]
    assert rhos["wrong"] is not None
    assert rhos["wrong"].value < 0
    assert rhos["equal"] is None
    assert names[-2:] == ["wrong", "equal"]


def test_the_time_of_a_proxy_is_the_median_of_its_times() -> None:
    class Timed(Executor):
        """Says of the six architectures that they took 1, 2, 3, 10, 100 and 1000 seconds."""

        def map(self, function: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
            for number, (task, seconds) in enumerate(zip(tasks, (100.0, 1.0, 1000.0, 2.0, 10.0, 3.0), strict=True)):
                rows, messages = function(task)
                yield number, ({name: row | {"seconds": seconds} for name, row in rows.items()}, messages)

    report = grade(toy_benchmark(), ["params"], executor=Timed())
    assert {graded.seconds for graded in report.grades} == {(3 + 10) / 2}


def test_architectures_that_are_equally_good_grade_nothing() -> None:
    with pytest.raises(LpzError, match="'toy'"):
        grade(toy_benchmark([2] * 6), ["params"])


def test_a_limit_takes_architectures_evenly_spaced() -> None:
    keys = [TOY.text(a) for a in MEMBERS]
    report = grade(toy_benchmark(), ["params"], limit=3)
    assert [entry.key for entry in report.trained] == [keys[0], keys[2], keys[4]]
    assert all(len(scores) == 3 for scores in report.scores.values())
    assert [entry.key for entry in grade(toy_benchmark(), ["params"], limit=100).trained] == keys
    with pytest.raises(LpzError, match="'toy'"):
        grade(toy_benchmark(), ["params"], limit=2)


def test_a_grade_has_the_agreement_at_matched_size() -> None:
    quality = (4, 1, 5, 2, 3, 6)
    for match, within in (("decoder_params", 1.15), ("params", 1.5), ("hidden_size", 2.0), ("flops", 1.15)):
        report = grade(toy_benchmark(quality), ["snip"], match=match, within=within)
        assert (report.match, report.within) == (match, within)
        known = evaluate({TOY.text(a): TOY.config(a) for a in MEMBERS}, [match], report.setting)
        sizes = [row[match]["value"] for row in known.values()]
        for graded in report.grades:
            expected = matched_agreement(report.scores[graded.proxy], quality, sizes, within=within, match=match)
            assert graded.agreement is not None
            assert graded.agreement.matched == expected
            assert expected.pairs == report.pairs
        assert {graded.proxy for graded in report.grades} == {"snip", *BASELINES}  # what was matched by is not graded
    written = report.to_dict()
    assert written["matched"] == {"match": "flops", "within": 1.15, "pairs": report.pairs}
    assert json.loads(json.dumps(written, allow_nan=False))["grades"][0]["agreement"]["matched"]["match"] == "flops"


def test_the_orientation_turns_the_agreement_at_matched_size() -> None:
    up, down = own_proxy("up", size), own_proxy("down", lambda s: -size(s), -1)
    report = grade(toy_benchmark(), [up, down], within=9.0)
    found = {g.proxy: g.agreement.matched for g in report.grades if g.agreement}
    assert found["up"] == found["down"]


def test_an_architecture_without_score_or_size_is_in_no_pair() -> None:
    def of_some(subject: Subject) -> float:
        if subject.model.config.n_embd == 16:
            raise NotApplicable("not today")
        return size(subject)

    found = grade(toy_benchmark(), [own_proxy("some", of_some)], match="num_layers")
    matched = {g.proxy: g.agreement.matched for g in found.grades if g.agreement}
    assert found.pairs == 6
    assert {name: m.pairs for name, m in matched.items() if m} == dict.fromkeys(BASELINES, 6) | {"some": 2}
    by_some = grade(toy_benchmark(), ["snip"], match=of_some)
    assert by_some.match == "of_some"
    assert all(g.agreement and g.agreement.matched and g.agreement.matched.pairs == 0 for g in by_some.grades)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"within": 0.5}, "0.5"), ({"within": math.nan}, "nan"), ({"match": "decoder_parms"}, "'decoder_params'"),
        ({"match": own_proxy("debt", lambda s: -size(s))}, "'debt'"),
        ({"match": own_proxy("nothing", lambda s: 0.0)}, "'nothing'"),
    ],
)  # fmt: skip
def test_sizes_that_are_none_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        grade(toy_benchmark(), ["params"], **settings)


def test_a_grade_says_what_scores_add_to_size() -> None:
    entries = [(f"d{d}", Architecture((8 * d,), tuple((1,) for _ in range(k)))) for d in (1, 2, 3) for k in (1, 2)] * 2
    trained = [Trained(f"{key}-{i}", a, i % 5 + i / 10) for i, (key, a) in enumerate(entries)]
    wide = replace(toy_benchmark(), read=lambda: trained)
    report = grade(wide, [own_proxy("size", size)])
    assert [entry.quality for entry in report.trained] == [entry.quality for entry in trained]
    for graded in report.grades:
        assert graded.beyond is not None
        assert graded.beyond.regret
        assert graded.beyond.ridge is not None
    assert json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("n", [30, 100, 200, 500])
def test_chance_is_near_the_normal_approximation(n: int) -> None:
    assert chance(n) == pytest.approx(1.645 / math.sqrt(n - 1), rel=0.04)
    assert chance(n) == chance(n)


def test_chance_of_three_is_one() -> None:
    assert chance(3) == pytest.approx(1)  # one ranking in six agrees in full
