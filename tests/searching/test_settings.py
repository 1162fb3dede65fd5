"""Searches under several minibatches and seeds of the weights: exactly a loop over searches under one."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lpz_report.command import command
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.artifacts.artifact import parse_artifact, write_artifact
from lpzero_hf.artifacts.card import card
from lpzero_hf.benchmarks.matched import matched_agreement
from lpzero_hf.errors import MinibatchWarning, UsageError
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.expressions.expression import Expression
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.models.build import build_model
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import warn_of_minibatch
from lpzero_hf.proxies.searched_proxy import quantile, searched_proxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.score import score
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.benchmark_scores import BenchmarkScores
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.export import artifact_of
from lpzero_hf.searching.fitness import FitnessEvaluator
from lpzero_hf.searching.result import SearchResult
from lpzero_hf.searching.search import search
from lpzero_hf.searching.selection import select
from lpzero_hf.spaces.named import load_space
from tests.support.searches import LOSSES, NAMES, few_resamples, timeless, write

Lpz = Callable[..., tuple[int, str, str]]
SMALL = Setting(batch_size=2, seq_len=8)
SEVERAL: dict[str, Any] = {"setting": SMALL, "minibatches": ((2, 8), (4, 8)), "init_seeds": (42, 7)}
BRIEF: dict[str, Any] = SEVERAL | {"iterations": 40, "population": 10, "train": 8, "preset": "paper"}
ONES = [replace(SMALL, batch_size=b, init_seed=seed) for b in (2, 4) for seed in (42, 7)]
FEW: dict[str, Any] = {"reduces": ("sum",), "aggregates": ("sum",)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("benchmark") / "made")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first seven, with other losses."""
    return write(tmp_path_factory.mktemp("benchmark") / "second", [6 - i * 3 % 10 / 5 for i in range(7)])


@pytest.fixture(scope="module")
def found(made: str) -> SearchResult:
    with few_resamples():
        return search(made, **BRIEF)


def captured(name: str, config: SearchConfig) -> BenchmarkScores:
    """A benchmark with its tables under every setting."""
    plugins = load_plugins()
    benchmark = BenchmarkScores(name, config, plugins)
    wanted = config.space(installed_operations(plugins)).wanted
    with ScoreCache() as cache:
        benchmark.capture(config.settings, wanted, cache, LocalExecutor(), plugins, lambda *_: None)
    return benchmark


def drawn(config: SearchConfig, count: int) -> list[Expression]:
    rng, space = random.Random(0), config.space(installed_operations(load_plugins()))
    return [space.draw(rng) for _ in range(count)]


def fresh(text: str, setting: Setting, names: Sequence[str] = NAMES) -> np.ndarray[Any, Any]:
    """The scores of an expression, each architecture built and passed anew: one seed for tokens, one for weights."""
    space = load_space("tiny-gpt2")
    values = []
    for name in names:
        model = build_model(space.config(space.parse(name)), seed=setting.init_seed or 42)
        batch = minibatch(
            model, tokenizer=embedded_tokenizer(), batch_size=setting.batch_size, seq_len=setting.seq_len, seed=42
        )
        values.append(score(model, batch, text, seed=42)[text].require())
    return np.array(values)


def agreed(kind: str, scores: Any, truth: Any, sizes: Any) -> float:
    """By scipy and the measure's own function."""
    if kind == "kendall":
        return float(stats.kendalltau(scores, truth).statistic)
    rho = float(stats.spearmanr(scores, truth).statistic)
    if kind == "spearman":
        return rho
    alike = matched_agreement(scores, truth, sizes, within=1.5, resamples=1).agreement
    assert alike is not None
    return alike.value if kind == "matched" else (rho + alike.value) / 2


# The fitness -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "over", "combine"),
    [
        ("spearman", "mean", "mean"), ("spearman", "worst", "mean"), ("kendall", "mean", "worst"),
        ("matched", "worst", "mean"), ("mixed", "mean", "worst"),
    ],
)  # fmt: skip
def test_fitness_is_that_of_a_plain_loop_over_settings(
    kind: str, over: Any, combine: Any, made: str, second: str
) -> None:
    folds: dict[str, Callable[[Any], Any]] = {"mean": np.mean, "worst": np.min}
    config = SearchConfig(
        (made, second), train=None, fitness=kind, combine=combine, over_settings=over, match="params", within=1.5,
        **SEVERAL,
    )  # fmt: skip
    benchmarks = [captured(name, config) for name in config.benchmarks]
    alone = [[captured(name, SearchConfig((name,), setting=one, train=None, match="params")) for one in ONES]
             for name in config.benchmarks]  # fmt: skip
    parts = [part for benchmark in benchmarks for part in benchmark.parts(range(len(benchmark.keys)))]
    whole = FitnessEvaluator(parts, combine, settings=4, over_settings=over)
    valued = 0
    for expression in drawn(config, 60):
        found = whole(expression)
        if found.fitness is None:
            continue
        rows = [
            [agreed(kind, one.scores([expression], [1])[0], one.truth, one.sizes.values) for one in ones]
            for ones in alone
        ]  # a benchmark weighs as much as another, whatever its pairs
        up, down = (folds[combine]([folds[over](sign * np.array(row)) for row in rows]) for sign in (1, -1))
        assert found.fitness == pytest.approx(max(up, down), abs=1e-6)
        assert found.fitness == pytest.approx(up if found.orientation == 1 else down, abs=1e-6)
        valued += len({f"{value:.9f}" for value in rows[0]}) > 1
    assert valued > 10


@pytest.mark.parametrize("over", ["mean", "worst"])
def test_enumeration_finds_the_fittest_of_all_settings(over: Any, made: str) -> None:
    settings = {**BRIEF, **FEW, "train": None, "over_settings": over}
    fittest = search(made, strategy="exhaustive", select="best", **settings).splits[0].fittest
    config = SearchConfig((made,), **settings)
    parts = captured(made, config).parts(range(12))
    whole = FitnessEvaluator(parts, settings=4, over_settings=over)
    for one in fittest:
        assert whole(one.expression).fitness == pytest.approx(one.fitness, abs=1e-9)
    others = [whole(expression).fitness or 0.0 for expression in drawn(config, 200)]
    assert max(others) <= fittest[0].fitness + 1e-9


def test_no_expression_is_bounded_out_that_could_reach_the_bar(made: str, second: str) -> None:
    """One benchmark is so small that all of it is evaluated at once."""
    config = SearchConfig((made, second), train=None, over_settings="worst", **SEVERAL)
    benchmarks = [captured(name, config) for name in config.benchmarks]
    parts = [part for benchmark in benchmarks for part in benchmark.parts(range(len(benchmark.keys)))]
    settings: dict[str, Any] = {"settings": 4, "over_settings": "worst"}
    slow, quick = FitnessEvaluator(parts, **settings), FitnessEvaluator(parts, early=11, **settings)
    assert len(quick.first) == 4
    valued = rejected = 0
    for expression in drawn(config, 150):
        if (fitness := slow(expression).fitness) is not None:
            assert quick(expression, fitness - 1e-9).fitness == fitness
            valued += 1
            rejected += quick(expression, 1.0).fitness is None
    assert valued > 20
    assert rejected > 20


def test_a_resample_is_of_the_same_architectures_in_all_settings() -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        truth = torch.randn(12, generator=generator, dtype=torch.float64)
        scores = truth + 2 * torch.randn(40, 12, generator=generator, dtype=torch.float64)
        others = truth[:9] + torch.randn(40, 9, generator=generator, dtype=torch.float64)
        one, members = select([scores, others], [truth, truth[:9]], seed=seed)
        thrice = select([scores] * 3 + [others] * 3, [truth, truth[:9]], seed=seed, settings=3)
        assert (thrice[0], sorted(thrice[1])) == (one, sorted(members))
    low = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
    middling = torch.tensor([1.0, 0.0, 3.0, 2.0, 5.0, 4.0], dtype=torch.float64)
    first, other = torch.cat([low[:1], middling[None]]), torch.cat([low[1:], middling[None]])
    worst = select([first, other], [low[0]], method="bagging", settings=2, over_settings="worst")
    assert worst[0] == 1  # the first is perfect under one setting and upside down under the other


def drawn_weights(model: torch.nn.Module) -> list[float]:
    return [float(parameter.detach().abs().sum()) for parameter in model.parameters()]


# The result ------------------------------------------------------------------------------------------------


def test_the_weights_change_and_the_tokens_stay() -> None:
    space = load_space("tiny-gpt2")
    config = space.config(space.parse(NAMES[0]))
    one, other = SMALL.build(config), replace(SMALL, init_seed=7).build(config)
    assert torch.equal(one[1]["input_ids"], other[1]["input_ids"])
    assert drawn_weights(one[0]) != drawn_weights(other[0])
    same = replace(SMALL, init_seed=42)
    assert (same.key(1), same.to_json()) == (SMALL.key(1), SMALL.to_json())
    moved = replace(SMALL, init_seed=7)
    assert moved.key(1) != SMALL.key(1)
    assert Setting.from_json(json.loads(json.dumps(moved.to_json()))) == moved
    assert drawn_weights(moved.model(config)) == drawn_weights(replace(SMALL, seed=7).model(config))
    for seed in (-1, 2**53):
        with pytest.raises(UsageError, match="seed of the weights"):
            replace(SMALL, init_seed=seed)


def test_agreement_is_that_of_each_setting_and_their_mean(found: SearchResult, made: str) -> None:
    (split,) = found.splits
    rows = [place for place, name in enumerate(NAMES) if name not in split.trained_on[made]]
    truth, distinct = -np.array(LOSSES), set[str]()
    for winner in (split.winner, split.ensemble):
        rhos = []
        for setting, graded in zip(found.config.settings, winner.settings, strict=True):
            scores = np.array(graded.scores[made], np.float64)
            expected = winner.orientations[0] * fresh(str(winner.expressions[0]), setting)
            assert scores[0] == pytest.approx(expected, rel=1e-5)
            ranks = stats.rankdata(scores[:, rows], axis=1).sum(0)
            rhos.append(stats.spearmanr(ranks, truth[rows]).statistic)
            held = graded.held_out[made].spearman
            assert held is not None
            assert held.value == pytest.approx(rhos[-1], abs=1e-9)
        mean = winner.held_out[made].spearman
        assert mean is not None
        assert mean.value == pytest.approx(np.mean(rhos), abs=1e-9)
        distinct |= {f"{rho:.6f}" for rho in rhos}
    assert len(distinct) > 1
    row = found.summary()[made]["ensemble"]
    assert (row["spearman_lowest"], row["spearman_highest"]) == pytest.approx((min(rhos), max(rhos)))
    assert list(found.setting_summaries()) == ["2x8, weights 42", "2x8, weights 7", "4x8, weights 42", "4x8, weights 7"]
    again = SearchResult.from_json(json.loads(json.dumps(found.to_json())))
    assert again.to_json() == found.to_json()
    assert again.splits[0].winner == split.winner


def test_one_setting_given_as_several_is_the_search_of_before(made: str) -> None:
    brief = {**BRIEF, "minibatches": (), "init_seeds": ()}
    plain = timeless(search(made, **brief).to_json())
    given = search(
        made, **{**brief, "setting": replace(SMALL, batch_size=9), "minibatches": [(2, 8)], "init_seeds": [42]}
    )
    assert timeless(given.to_json()) == plain
    assert not {"setting_tests", "setting_summaries"} & set(plain)
    assert "settings" not in plain["splits"][0]["winner"]


def test_tables_of_each_setting_are_kept(found: SearchResult, made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("lpzero_hf.searching.table_cache.capture", refused)
    assert timeless(search(made, **BRIEF).to_json()) == timeless(found.to_json())
    assert search(made, **{**BRIEF, "setting": ONES[3], "minibatches": (), "init_seeds": ()}).splits


def test_a_stopped_search_goes_on_under_the_same_settings(found: SearchResult, made: str, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int, best: float | None) -> None:
        if what == "search" and done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(made, out=tmp_path, progress=stop, **BRIEF)
    for other in ({"minibatches": ((2, 8), (3, 8))}, {"init_seeds": (42,)}, {"over_settings": "worst"}):
        with pytest.raises(UsageError, match="other settings"):
            search(made, out=tmp_path, resume=True, **{**BRIEF, **other})
    assert timeless(search(made, out=tmp_path, resume=True, **BRIEF).to_json()) == timeless(found.to_json())


def test_a_search_of_an_earlier_version_goes_on(made: str, tmp_path: Path) -> None:
    brief = {**BRIEF, "minibatches": (), "init_seeds": ()}
    before = search(made, out=tmp_path, **brief)
    plan = tmp_path / "plan.json"
    old = json.loads(plan.read_text(encoding="utf-8"))
    for name in ("minibatches", "init_seeds", "over_settings"):
        del old["plan"][name]
    plan.write_text(json.dumps(old), encoding="utf-8")
    assert timeless(search(made, out=tmp_path, resume=True, **brief).to_json()) == timeless(before.to_json())
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    result["plan"] = old["plan"]
    assert timeless(SearchResult.from_json(result).to_json()) == timeless(before.to_json())


def test_three_operations_are_searched_under_several_settings(made: str) -> None:
    settings = {**BRIEF, "limit": 3, "train": 3, "iterations": 3, "population": 2, "init_seeds": (42,)}
    result = search(made, strategy="random", unary=(3, 3), ceiling=True, **settings)
    winner = result.splits[0].winner
    rows = [0, 4, 8]
    rhos = []
    for setting, graded in zip(result.config.settings, winner.settings, strict=True):
        scores = winner.orientations[0] * fresh(str(winner.expressions[0]), setting, [NAMES[row] for row in rows])
        rhos.append(stats.spearmanr(scores, -np.array(LOSSES)[rows]).statistic)
        train = graded.train[made].spearman
        assert train is not None
        assert train.value == pytest.approx(rhos[-1], abs=1e-9)
    assert result.splits[0].fittest[0].fitness >= abs(np.mean(rhos)) - 1e-9
    assert result.ceiling is not None


def test_another_benchmark_is_graded_under_each_setting(made: str, tmp_path: Path) -> None:
    six = write(tmp_path / "six", LOSSES[:6])
    result = search(six, test=[made], **{**BRIEF, "train": 4})
    winner = result.splits[0].winner
    rhos = []
    for setting, tests in zip(result.config.settings, result.setting_tests, strict=True):
        scores = winner.orientations[0] * fresh(str(winner.expressions[0]), setting)
        rhos.append(stats.spearmanr(scores[6:], -np.array(LOSSES)[6:]).statistic)
        (graded,) = tests[made]
        assert graded.spearman is not None
        assert graded.spearman.value == pytest.approx(rhos[-1], abs=1e-9)
    mean = result.tests[made][0].spearman
    assert mean is not None
    assert mean.value == pytest.approx(np.mean(rhos), abs=1e-9)
    assert artifact_of(result, "six").provenance["settings"][3]["tests"][made]["spearman"]["value"] == rhos[3]
    assert SearchResult.from_json(json.loads(json.dumps(result.to_json()))).setting_tests == result.setting_tests


# Artifacts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["winner", "ensemble"])
def test_an_artifact_says_what_it_was_searched_for(
    which: Any, found: SearchResult, made: str, lpz: Lpz, tmp_path: Path
) -> None:
    artifact = artifact_of(found, "several", which=which)
    record = parse_artifact(artifact.text).provenance
    assert record == json.loads(artifact.text)["provenance"]
    assert [(s["batch_size"], s["seq_len"], s["init_seed"]) for s in record["settings"]] == [
        (batch, 8, seed) for batch, seed in product((2, 4), (42, 7))
    ]
    assert record["over_settings"] == "mean"
    rhos = [setting["held_out"][made]["spearman"]["value"] for setting in record["settings"]]
    assert record["held_out"][made]["spearman"]["value"] == pytest.approx(np.mean(rhos), abs=1e-9)
    assert "4 x 8 tokens, weights 7" in card(artifact)
    write_artifact(tmp_path / "a.json", artifact)
    of = ("score", "gpt2-variant", "--proxy", str(tmp_path / "a.json"), "--seq-len", "8", "--batch-size")
    assert lpz(*of, "3")[2] == ""
    assert "2 to 4 x 8" in lpz(*of, "5")[2]


@pytest.mark.parametrize(("size", "inside"), [((2, 8), True), ((3, 8), True), ((1, 8), False), ((3, 9), False)])
def test_the_warning_ends_where_the_search_did(
    size: tuple[int, int], inside: bool, found: SearchResult, recwarn: pytest.WarningsRecorder
) -> None:
    warn_of_minibatch([searched_proxy(artifact_of(found, "several"))], *size)
    told = [str(one.message) for one in recwarn if one.category is MinibatchWarning]
    assert len(told) == (0 if inside else 1)
    assert all("use `batch_size=2 to 4` and `seq_len=8`" in text for text in told)


def test_the_members_of_an_ensemble_have_quantiles_of_all_settings(
    found: SearchResult, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = found.splits[0]
    artifact = artifact_of(found, "several", which="ensemble")
    rows = [NAMES.index(key) for key in split.trained_on[made]]
    for place, member in enumerate(artifact.members):
        pooled = [graded.scores[made][place][row] for graded in split.ensemble.settings for row in rows]
        assert list(member.scale) == sorted(pooled)  # type: ignore[type-var]  # none of them is None
    held = [place for place in range(12) if place not in rows]
    for graded, record in zip(split.ensemble.settings, artifact.provenance["settings"], strict=True):
        totals = [
            sum(quantile(graded.scores[made][i][row] or 0.0, member) for i, member in enumerate(artifact.members))
            for row in held
        ]
        rho = stats.spearmanr(totals, -np.array(LOSSES)[held]).statistic
        assert record["held_out"][made]["spearman"]["value"] == pytest.approx(rho, abs=1e-9)
    monkeypatch.setattr("lpzero_hf.searching.export.LONGEST_SCALE", 5)
    few = artifact_of(found, "several", which="ensemble").members[0].scale
    whole = artifact.members[0].scale
    assert (len(few), few[0], few[-1]) == (5, whole[0], whole[-1])


def test_an_artifact_of_one_setting_is_as_before(made: str) -> None:
    brief = {**BRIEF, "minibatches": (), "init_seeds": ()}
    record = artifact_of(search(made, **brief), "one").provenance
    assert not {"settings", "over_settings"} & set(record)
    assert "init_seed" not in record["minibatch"]
    moved = artifact_of(search(made, **{**brief, "init_seeds": (7,)}), "one")
    assert moved.provenance["minibatch"]["init_seed"] == 7
    assert searched_proxy(moved).minibatches == ((2, 8),)
    assert searched_proxy(replace(moved, provenance={**TOLD})).minibatches == ()


TOLD = {"benchmarks": [], "strategy": "by hand", "seed": 0, "train": {}, "held_out": {}, "versions": {}}


# The command -----------------------------------------------------------------------------------------------


COMMAND = ("--device", "cpu", "--workers", "1", "--train", "8", "--iterations", "40")
GIVEN = ("--minibatch", "2x8", "--minibatch", "4x8", "--init-seed", "42", "--init-seed", "7")


@pytest.mark.integration
def test_the_command_searches_shows_and_reports_every_setting(
    lpz: Lpz, found: SearchResult, made: str, tmp_path: Path
) -> None:
    run, page = tmp_path / "run", tmp_path / "page.html"
    code, out, err = lpz("search", made, *COMMAND, *GIVEN, "--preset", "paper", "--population", "10", "--out", str(run))
    assert (code, err) == (0, "")
    for told in ("4x8, weights 7", "lowest to highest", "mean of them"):
        assert told in out
    document = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert timeless(document) == timeless(found.to_json())
    assert lpz("report", str(run), "-o", str(page))[0] == 0
    html = page.read_text(encoding="utf-8")
    for told in ("4x8, weights 7", "Under each setting", "setting by setting", "mean of 4 settings"):
        assert told in html
    assert " ".join(GIVEN) in html
    assert " ".join(GIVEN) in command(found.config)
    assert "--batch-size" not in command(found.config)
    assert command(SearchConfig(("a",), setting=ONES[1])).endswith(
        "--batch-size 2 --seq-len 8 --init-seed 7 --device cpu"
    )
    assert "--over-settings worst" in command(replace(found.config, over_settings="worst"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--minibatch", "4"), "4x32"), (("--minibatch", "0x32"), "0x32"), (("--minibatch", "4x1"), "4x1"),
        (("--minibatch", "4x-32"), "4x-32"), (("--minibatch", "4 x 32"), "4 x 32"), (("--minibatch", "٤x32"), "4x32"),
        (("--minibatch", "4x32x2"), "4x32x2"), (("--minibatch", "9" * 5000 + "x32"), "4x32"),
        (("--minibatch", "4x32", "--minibatch", "4x32"), "twice"),
        (("--minibatch", "4x32", "--minibatch", "04x32"), "twice"),
        (("--init-seed", "7", "--init-seed", "7"), "twice"),
        (("--init-seed", str(2**53)), str(2**53 - 1)),
        (("--minibatch", "4x32", "--batch-size", "4"), "--batch-size"),
        (("--minibatch", "4x32", "--seq-len", "8"), "--seq-len"),
        (tuple(word for i in range(65) for word in ("--init-seed", str(i))), "64"),
    ],
)  # fmt: skip
def test_bad_settings_get_one_line(
    arguments: tuple[str, ...], message: str, made: str, lpz: Lpz, tmp_path: Path
) -> None:
    code, out, err = lpz("search", made, *COMMAND, *arguments, "--out", str(tmp_path / "run"))
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments", [("--init-seed", "-1"), ("--init-seed", "x"), ("--over-settings", "median"), ("--batch-size", "0")]
)
def test_what_the_command_line_itself_refuses(arguments: tuple[str, ...], made: str, lpz: Lpz) -> None:
    code, out, err = lpz("search", made, *COMMAND, *arguments)
    assert (code, out) == (2, "")
    assert arguments[0] in err


@pytest.mark.parametrize(
    "wrong",
    [
        {"minibatches": (4, 32)}, {"minibatches": ((4,),)}, {"minibatches": (("4", 32),)}, {"minibatches": "4x32"},
        {"minibatches": 4}, {"minibatches": ((True, 32),)}, {"init_seeds": 42}, {"init_seeds": (4.5,)},
        {"over_settings": "median"},
    ],
)  # fmt: skip
def test_bad_settings_are_refused_in_python(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SearchConfig(("a",), **wrong)
