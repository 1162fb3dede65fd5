"""Searching: what is found is what scipy and plain scores say, and nothing leaks from the held-out architectures."""

from __future__ import annotations

import functools
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import lpz_proxies
import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf import hookimpl
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import BASELINES
from lpzero_hf.benchmarks.matched import matched_agreement
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.expressions.expression import BUILT_IN, parse
from lpzero_hf.expressions.operations import Unary, installed_operations
from lpzero_hf.models.build import build_model
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.expression_proxy import expression_proxy
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.scoring.score import score
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.benchmark_scores import BenchmarkScores
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.correlation import RankCorrelation
from lpzero_hf.searching.export import artifact_of
from lpzero_hf.searching.result import SearchResult
from lpzero_hf.searching.run_folder import read_history
from lpzero_hf.searching.search import search
from lpzero_hf.searching.selection import select
from lpzero_hf.spaces.named import load_space
from tests.support.searches import LOSSES, NAMES, OPTIONS, SHORT, timeless, write
from tests.support.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
OTHERS = [name.replace("e32", "e64") for name in NAMES]
SNIP = "sum(sum(product(abs(W), abs(G))))"
SMALL = Setting(batch_size=2, seq_len=8)
BRIEF: dict[str, Any] = {"setting": SMALL, "preset": "paper", "iterations": 40, "population": 10, "train": 8}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve architectures; their tables are kept from test to test."""
    return write(tmp_path_factory.mktemp("benchmark") / "made")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first ten of them, with other losses."""
    return write(tmp_path_factory.mktemp("benchmark") / "second", [6 - i * 3 % 10 / 5 for i in range(10)])


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve others, to test on."""
    return write_benchmark(tmp_path_factory.mktemp("benchmark") / "unseen", dict(zip(OTHERS, LOSSES, strict=True)))


def chosen(result: SearchResult) -> list[Any]:
    """All that may depend only on the architectures searched on."""
    found = []
    for split in result.splits:
        whole = split.to_json()
        for winner in (whole["winner"], whole["ensemble"]):
            del winner["held_out"]
            winner["train"], winner["scores"] = list(winner["train"].values()), list(winner["scores"].values())
        trained_on = list(whole["trained_on"].values())
        facts = ("winner", "ensemble", "fittest", "pareto", "evaluated", "pruned", "rejected")
        found.append([trained_on, *(whole[fact] for fact in facts)])
    return found


# Grounds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strategy": "random", "select": "best"},
        {"strategy": "exhaustive", "reduces": ("sum",), "aggregates": ("sum",), "splits": 2},
    ],
)
@pytest.mark.integration
def test_held_out_architectures_never_influence_what_is_chosen(
    made: str, tmp_path: Path, changes: dict[str, Any]
) -> None:
    one = search(made, **BRIEF | changes)
    for number, split in enumerate(one.splits):
        (trained_on,) = split.trained_on.values()
        assert len(trained_on) == 8
        rest = [name for name in NAMES if name not in trained_on]
        losses = dict(zip(NAMES, LOSSES, strict=True))
        ranked = sorted(rest, key=losses.__getitem__)
        losses |= {name: 9.0 - i for i, name in enumerate(ranked)}  # upside down
        folder = write(tmp_path / str(number), list(losses.values()))
        other = search(folder, **BRIEF | changes)
        assert chosen(other)[number] == chosen(one)[number]
        (before,), (after,) = (r.splits[number].winner.held_out.values() for r in (one, other))
        if before.spearman and after.spearman:
            assert after.spearman.value == pytest.approx(-before.spearman.value)


def freshly_scored(text: str, names: Sequence[str] = NAMES) -> list[float]:
    """The scores of an expression, each architecture built and passed anew."""
    space = load_space("tiny-gpt2")
    values = []
    for name in names:
        model = build_model(space.config(space.parse(name)), seed=42)
        batch = minibatch(model, tokenizer=embedded_tokenizer(), batch_size=2, seq_len=8, seed=42)
        values.append(score(model, batch, text, seed=42)[text].require())
    return values


@pytest.mark.integration
def test_agreement_is_that_of_the_winners_scores_on_models_built_anew(made: str) -> None:
    result = search(made, splits=2, seed=5, **BRIEF)
    fresh = functools.cache(freshly_scored)
    for split in result.splits:
        assert len(split.ensemble.expressions) <= 5
        (trained_on,) = split.trained_on.values()
        parts = {True: [i for i, n in enumerate(NAMES) if n in trained_on]}
        parts[False] = [i for i in range(12) if i not in parts[True]]
        for winner in (split.winner, split.ensemble):
            scores = np.array([
                sign * np.array(fresh(str(expression)))
                for expression, sign in zip(winner.expressions, winner.orientations, strict=True)
            ])  # fmt: skip
            for searched, found in ((True, winner.train), (False, winner.held_out)):
                part = parts[searched]
                goodness = [-LOSSES[i] for i in part]
                ranks = scores[0, part] if len(scores) == 1 else stats.rankdata(scores[:, part], axis=1).sum(0)
                agreement = found[made]
                assert agreement.n == len(part) == (8 if searched else 4)
                assert agreement.spearman is not None
                assert agreement.kendall is not None
                assert agreement.spearman.value == pytest.approx(stats.spearmanr(ranks, goodness).statistic, abs=1e-9)
                assert agreement.kendall.value == pytest.approx(stats.kendalltau(ranks, goodness).statistic, abs=1e-9)
        best = split.fittest[0]
        trained = [-LOSSES[i] for i in parts[True]]
        rho = stats.spearmanr(np.array(fresh(str(best.expression)))[parts[True]], trained).statistic
        assert rho * best.orientation == pytest.approx(best.fitness, abs=1e-9)


def test_splits_are_of_other_architectures_and_are_summed_up(made: str) -> None:
    result = search(made, splits=3, **BRIEF)
    assert [split.seed for split in result.splits] == [42, 43, 44]
    assert len({tuple(split.trained_on[made]) for split in result.splits}) == 3
    summary = result.summary()[made]
    assert {"winner", "ensemble"} <= set(summary) <= {"winner", "ensemble", *BASELINES}
    rhos = [split.winner.held_out[made].spearman for split in result.splits]
    values = [rho.value for rho in rhos if rho is not None]
    assert summary["winner"]["splits"] == len(values)
    assert summary["winner"]["spearman"] == pytest.approx(statistics.mean(values))
    assert summary["winner"]["spearman_sd"] == pytest.approx(statistics.pstdev(values))
    # a split is the search with its seed
    assert chosen(result)[1][0] == chosen(search(made, **BRIEF | {"seed": 43}))[0][0]


def test_candidates_are_chosen_from_by_scores_times_their_orientation(
    made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    correlations: list[float] = []

    def watched(scores: Any, truths: Any, *others: Any) -> Any:
        correlations.extend(RankCorrelation(truths[0].tolist())(scores[0]).tolist())
        return select(scores, truths, *others)

    monkeypatch.setattr("lpzero_hf.searching.choice.select", watched)
    found = search(made, **BRIEF)
    assert len(correlations) > 10
    assert min(correlations) >= 0
    assert max(correlations) == pytest.approx(found.splits[0].fittest[0].fitness)
    assert {candidate.orientation for candidate in found.splits[0].fittest} == {1, -1}


def test_a_search_on_everything_holds_nothing_out(made: str) -> None:
    result = search(made, **BRIEF | {"train": None})
    (split,) = result.splits
    assert split.trained_on == {made: NAMES}
    assert split.winner.held_out == split.ensemble.held_out == split.baselines == {}
    assert split.winner.train[made].n == 12
    assert result.summary() == {made: {}}


@pytest.mark.integration
def test_the_ceiling_is_the_fittest_on_all_architectures(made: str) -> None:
    result = search(made, strategy="exhaustive", reduces=("sum",), aggregates=("sum",), ceiling=True, **BRIEF)
    everything = search(made, strategy="exhaustive", reduces=("sum",), aggregates=("sum",), **BRIEF | {"train": None})
    assert result.ceiling == everything.splits[0].fittest[0]


def test_two_benchmarks_are_searched_at_once_and_a_third_tests_the_winner(made: str, second: str, unseen: str) -> None:
    result = search([made, second], test=[unseen], combine="worst", **BRIEF | {"train": 6})
    (split,) = result.splits
    assert set(split.trained_on) == set(split.winner.held_out) == {made, second}
    assert len(split.winner.held_out) == 2
    seen = {key for keys in split.trained_on.values() for key in keys}  # an architecture of both is seen in either
    assert [split.winner.held_out[name].n for name in (made, second)] == [
        12 - len(seen),
        10 - len(seen & {*NAMES[:10]}),
    ]
    rhos = [a.spearman.value for name in (made, second) if (a := split.winner.train[name]).spearman]
    best = split.fittest[0]
    text, sign = str(best.expression), best.orientation
    scores = {name: dict(zip(NAMES, freshly_scored(text), strict=True)) for name in (made,)}[made]
    truths = {
        made: dict(zip(NAMES, LOSSES, strict=True)),
        second: dict(zip(NAMES, [6 - i * 3 % 10 / 5 for i in range(10)], strict=False)),
    }
    agreements = []
    for name, truth in truths.items():
        part = split.trained_on[name]
        agreements.append(sign * stats.spearmanr([scores[n] for n in part], [-truth[n] for n in part]).statistic)
    assert min(agreements) == pytest.approx(best.fitness, abs=1e-9)
    assert min(rhos) <= best.fitness + 1e-9
    assert set(result.summary()) == {made, second, unseen}
    assert {"winner", "ensemble"} <= set(result.summary()[made])
    assert {name: one.n for name, one in result.test_baselines[unseen].items()} == dict.fromkeys(BASELINES, 12)
    assert {"winner", *BASELINES} == set(result.summary()[unseen])
    assert SearchResult.from_json(result.to_json()).test_baselines == result.test_baselines
    (tested,) = result.tests[unseen]
    winner = split.winner
    fresh = winner.orientations[0] * np.array(freshly_scored(str(winner.expressions[0]), OTHERS))
    assert tested.n == 12
    assert tested.spearman is not None
    assert tested.spearman.value == pytest.approx(
        stats.spearmanr(fresh, [-loss for loss in LOSSES]).statistic, abs=1e-9
    )


def test_a_winner_is_tested_with_its_orientation(unseen: str) -> None:
    plugins, config = load_plugins(), SearchConfig((unseen,), setting=SMALL, train=None)
    snip = parse(SNIP)
    up, down = BenchmarkScores(unseen, config, plugins).test(
        [(snip, 1), (snip, -1)], range(12), config.settings, LocalExecutor(), plugins, lambda *_: None
    )
    up, down = up.mean, down.mean
    assert up.spearman is not None
    assert down.spearman is not None
    rho = stats.spearmanr(freshly_scored(SNIP, OTHERS), [-loss for loss in LOSSES]).statistic
    assert (up.spearman.value, down.spearman.value) == pytest.approx((rho, -rho))
    assert abs(rho) > 0.05


# The command -----------------------------------------------------------------------------------------------


def test_json_is_one_document_and_the_folder_holds_the_run(lpz: Lpz, made: str, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    code, printed, err = lpz("search", made, *SHORT, "--splits", "2", "--out", str(out), "--json")
    assert (code, err) == (0, "")
    document = json.loads(printed)
    assert document.pop("warnings") == []
    assert document == json.loads((out / "result.json").read_text())
    assert sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()) == [
        ".lock", "benchmarks.json", "plan.json", "result.json",
        *(f"split-0{i}/{name}" for i in (0, 1) for name in ("checkpoint.json", "history.jsonl")),
    ]  # fmt: skip
    assert document["plan"] == json.loads((out / "plan.json").read_text())["plan"]
    assert document["size"] == 4 * 26_460
    for split, history in zip(document["splits"], read_history(out), strict=True):
        assert [line["iteration"] for line in history] == list(range(50))
        assert split["evaluated"] == 50
        fittest = max(line["fitness"] or 0.0 for line in history)
        assert split["fittest"][0]["fitness"] == fittest == history[-1]["best"]
        assert all(str(parse(line["what"])) == line["what"] for line in history)
        assert split["winner"]["held_out"][made]["n"] == 4
    again = lpz("search", made, *SHORT, "--splits", "2", "--json")
    assert timeless(json.loads(again[1])) == timeless(document | {"warnings": []})
    assert timeless(search(made, splits=2, **BRIEF).to_json())["splits"] == timeless(document)["splits"]


def test_people_get_tables(lpz: Lpz, made: str, tmp_path: Path) -> None:
    code, out, err = lpz("search", made, *SHORT, "--out", str(tmp_path / "run"), "--reduce", "sum", "--ceiling")
    assert (code, err) == (0, "")
    winner = search(made, reduces=("sum",), **BRIEF).splits[0].winner
    for told in ("52,920", "8 architectures", "ensembles", "num_heads", "bound"):
        assert told in out
    assert str(winner.expressions[0]) in out
    assert "50 evaluated in" in out
    assert out.rstrip().endswith("result.json")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nowhere",), 2, "'nowhere'"),
        (("made", "made"), 2, "different"),
        (("made", "--train", "13"), 2, "--train 13"),
        (("made", "--limit", "5", "--train", "6"), 2, "--train 6"),
        (("made", "--train", "2"), 2, "2 architectures"),
        (("equal", "--train", "8"), 2, "'equal'"),
        (("nearly", "--train", "4"), 2, "all equally good"),
        (("made", "--strategy", "exhaustive", "--unary", "3", "--train", "8"), 2, "enumerate"),
        (("made", "--unary", "0"), 2, "1 to 4"),
        (("made", "--unary", "5"), 2, "1 to 4"),
        (("made", "--unary", "two"), 2, "--unary"),
        (("made", "--unary", "1,2,1"), 2, "--unary"),
        (("made", "--unary", ""), 2, "--unary"),
        (("made", "--unary=-1"), 2, "--unary"),
        (("made", "--unary", "1.5"), 2, "--unary"),
        (("made", "--resume"), 2, "--out"),
        (("made", "--resume", "--out", "empty", "--train", "8"), 2, "'empty'"),
        (("made", "--train", "8", "--out", "made/benchmark.json/x"), 1, "'made/benchmark.json/x"),
        (("made", "--train", "8", "--test", "nowhere"), 2, "'nowhere'"),
        (("made", "--train", "8", "--test", "made"), 2, "'made'"),
        (("made", "--train", "8", "--test", "./made"), 2, "'./made'"),
        (("made", "--train", "8", "--text", "nowhere.txt"), 1, "'nowhere.txt'"),
    ],
)  # fmt: skip
def test_bad_requests_get_one_line_and_an_exit_code(
    arguments: tuple[str, ...], code: int, message: str, lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("made"))
    write(Path("equal"), [5.0] * 12)
    four = random.Random(42).sample(range(12), 4)
    write(Path("nearly"), [5.0 if i in four else 6.0 for i in range(12)])
    few = () if "exhaustive" in arguments else ("--preset", "paper", "--iterations", "3", "--population", "2")
    got, out, err = lpz("search", *arguments, *OPTIONS, *few)
    assert (got, out) == (code, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not Path("empty").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": "annealing"}, {"fitness": "pearson"}, {"combine": "median"}, {"select": "first"}, {"splits": 0},
        {"iterations": 0}, {"population": 1}, {"early": -1}, {"elite": 1.5}, {"crossover": -0.1}, {"seed": -1},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(made: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        search(made, **BRIEF | wrong)


# Beyond tables ---------------------------------------------------------------------------------------------


def test_three_operations_are_searched_by_passes_over_the_models(
    lpz: Lpz, made: str, unseen: str, tmp_path: Path
) -> None:
    command = ("search", made, *OPTIONS, "--limit", "4", "--train", "3", "--unary", "3", "--strategy", "random")
    command += ("--iterations", "4", "--population", "2", "--test", unseen, "--json")
    code, out, err = lpz(*command, "--out", str(tmp_path / "run"))
    assert code == 0
    assert all("hangs on rounding" in line or "more of these" in line for line in err.splitlines())
    document = json.loads(out)
    assert document["size"] == 15 * 21**6 * 4 * 4
    (history,) = read_history(tmp_path / "run")
    assert len(history) == 6
    assert all(len(branch.chain) == 3 for line in history for branch in parse(line["what"]).branches)
    (split,) = document["splits"]
    (text,), (sign,) = split["winner"]["expressions"], split["winner"]["orientations"]
    limited = [NAMES[i * 12 // 4] for i in range(4)]
    trained = [i for i, name in enumerate(NAMES) if name in split["trained_on"][made]]
    assert {NAMES[i] for i in trained} < set(limited)
    scores = sign * np.array(freshly_scored(text, [NAMES[i] for i in trained]))
    rho = stats.spearmanr(scores, [-LOSSES[i] for i in trained]).statistic
    assert split["winner"]["train"][made]["spearman"]["value"] == pytest.approx(rho, abs=1e-9)
    assert document["tests"][unseen][0]["n"] == 4
    assert timeless(json.loads(lpz(*command, "--out", str(tmp_path / "run"), "--resume")[1])) == timeless(document)


CUBE = """
import torch
from lpzero_hf import hookimpl
from lpzero_hf.expressions.operations import Unary
@hookimpl
def lpz_operations():
    return [Unary("cube", lambda x: x * x * x, "x^3")]
"""


def test_a_third_partys_operation_is_searched(made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "cube_of_a_stranger.py").write_text(CUBE)
    points = [*entry_points(group="lpzero_hf"), EntryPoint("cube", "cube_of_a_stranger", "lpzero_hf")]
    plugins = PluginRegistry(found=points)
    assert set(installed_operations(plugins)) == {*BUILT_IN, "cube"}
    found = search(made, plugins=plugins, out=tmp_path / "run", strategy="random", limit=6, **BRIEF | {"train": 4})
    assert found.size == 15 * 22**2 * 4 * 4
    (history,) = read_history(tmp_path / "run")
    with_cube = [parse(line["what"], installed_operations(plugins)) for line in history if "cube(" in line["what"]]
    assert with_cube
    again = search(
        made, plugins=plugins, out=tmp_path / "run", resume=True, strategy="random", limit=6, **BRIEF | {"train": 4}
    )  # fmt: skip
    assert timeless(again.to_json()) == timeless(found.to_json())
    with pytest.raises(UsageError, match="cube"):
        parse(str(with_cube[0]))  # nobody else offers it


@pytest.mark.integration
def test_a_strangers_operation_is_scored_in_worker_processes(made: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "cube-1.0.dist-info").mkdir(parents=True)
    (site / "cube-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: cube\nVersion: 1.0\n")
    (site / "cube-1.0.dist-info" / "entry_points.txt").write_text("[lpzero_hf]\ncube = cube_plugin\n")
    (site / "cube_plugin.py").write_text(CUBE)
    arguments = ["bench", "eval", made, "--batch-size", "2", "--seq-len", "8", "--device", "cpu", "--limit", "5"]
    texts = [SNIP, "sum(sum(product(W, cube(W))))", "sum(sum(sum(pow(pow(W)), disconnect(G))))"]
    done = subprocess.run(
        [sys.executable, "-c", "from lpz_cli.main import main; main()", *arguments, "--workers", "2", "--json",
         *(part for text in [*texts, "snip"] for part in ("--proxy", text))],
        capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(site), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert scores[SNIP] == pytest.approx(scores["snip"], rel=1e-6)
    assert scores["sum(sum(product(no_op(W), cube(W))))"] == pytest.approx(
        scores["sum(sum(sum(pow(pow(W)), disconnect(G))))"], rel=1e-5
    )


# Expressions as proxies ------------------------------------------------------------------------------------


def test_the_expression_of_snip_is_snip(lpz: Lpz) -> None:
    model = f"tiny-gpt2:{NAMES[1]}"
    code, out, err = lpz("score", model, "-p", SNIP, "-p", "snip", "--json", "--device", "cpu", "--seq-len", "8")
    assert (code, err) == (0, "")
    (scored,) = json.loads(out)["models"]
    values = {row["proxy"]: row["value"] for row in scored["scores"]}
    assert values[SNIP] == pytest.approx(values["snip"], rel=1e-6)
    by_role = "sum(sum(product(sqrt(J_ffn), sigmoid(H))))"
    code, out, err = lpz("score", model, "-p", by_role, "--json", "--device", "cpu", "--seq-len", "8")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)["models"][0]["scores"]
    assert (row["proxy"], row["status"]) == (by_role, "ok")
    code, out, err = lpz("score", model, "-p", "sum(sum(product(abs(W), abz(G))))", "--device", "cpu")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "column" in err
    assert "'abs'" in err


class OnlyNothing:
    """A plugin with the built-in proxies and one operation, whose results are never valid."""

    lpz_proxies = staticmethod(lpz_proxies.lpz_proxies)

    @staticmethod
    @hookimpl
    def lpz_operations() -> list[Unary]:
        return [Unary("nothing", lambda x: x * float("nan"), "NaN")]


def test_a_search_that_finds_nothing_valid_says_so(made: str) -> None:
    points = [EntryPoint("nothing", f"{__name__}:OnlyNothing", "lpzero_hf"), EntryPoint("zoo", "lpz_zoo", "lpzero_hf")]
    with pytest.raises(LpzError, match="valid score"):
        search(made, plugins=PluginRegistry(found=points), strategy="random", limit=4, **BRIEF | {"train": 3})


@pytest.mark.parametrize("fitness", ["matched", "mixed"])
def test_a_search_by_agreement_at_matched_size_is_that_of_a_plain_loop(fitness: str, made: str) -> None:
    settings = {**BRIEF, "strategy": "exhaustive", "aggregates": ("sum",), "reduces": ("sum",), "select": "best"}
    found = search(made, fitness=fitness, match="params", within=1.5, **settings)
    split, sizes = found.splits[0], np.array(found.sizes[made], np.float64)
    rows = [found.architectures[made].index(key) for key in split.trained_on[made]]
    truth, scores = np.array(found.truth[made])[rows], np.array(split.winner.scores[made][0])[rows]
    alike = matched_agreement(scores, truth, sizes[rows], within=1.5, resamples=1).agreement
    assert alike is not None
    expected = alike.value if fitness == "matched" else (alike.value + stats.spearmanr(scores, truth).statistic) / 2
    (winner,) = (kept for kept in split.fittest if kept.expression == split.winner.expressions[0])
    assert winner.fitness == pytest.approx(expected, abs=1e-9)
    held = split.winner.held_out[made].matched
    assert held is not None
    assert (held.match, held.within) == ("params", 1.5)
    again = SearchResult.from_json(json.loads(json.dumps(found.to_json())))
    assert again.to_json() == found.to_json()
    artifact = artifact_of(again, "by-size")
    assert artifact.provenance["fitness"] == fitness
    assert artifact.provenance["matched"] == {"match": "params", "within": 1.5}
    assert artifact.provenance["held_out"][made]["matched"]["pairs"] == held.pairs
    assert artifact_of(again, "by-size", which="ensemble").provenance["train"][made]["matched"]["match"] == "params"


@pytest.mark.filterwarnings("ignore")
def test_what_rounding_decides_is_not_chosen_although_tables_do_not_show_it(made: str) -> None:
    settings = {**BRIEF, "strategy": "exhaustive", "aggregates": ("sum",), "reduces": ("sum",), "select": "best"}
    (split,) = search(made, fitness="matched", match="params", within=1.5, **settings).splits
    winner = split.winner.expressions[0]
    order = [kept.expression for kept in split.fittest]
    fitter = order[: order.index(winner)]
    benchmark = load_benchmark(made)
    searched = [entry for entry in benchmark.trained() if entry.key in split.trained_on[made]]
    proxies = {expression: expression_proxy(expression) for expression in (*fitter, winner)}
    rows = evaluate(benchmark.configs(searched), list(proxies.values()), SMALL).values()
    refused = [e for e, proxy in proxies.items() if any(row[proxy.name]["value"] is None for row in rows)]
    assert fitter
    assert refused == fitter


def test_a_search_goes_on_only_with_the_sizes_it_began_with(made: str, tmp_path: Path) -> None:
    search(made, out=tmp_path, **BRIEF)
    with pytest.raises(UsageError, match="within"):
        search(made, out=tmp_path, resume=True, within=1.3, **BRIEF)
    plan = tmp_path / "plan.json"
    old = json.loads(plan.read_text(encoding="utf-8"))
    del old["plan"]["match"], old["plan"]["within"], old["plan"]["roles"]  # as version 0.1.0 wrote it
    plan.write_text(json.dumps(old), encoding="utf-8")
    assert search(made, out=tmp_path, resume=True, **BRIEF).config.match == "decoder_params"
    with pytest.raises(UsageError, match="match"):
        search(made, out=tmp_path, resume=True, match="params", **BRIEF)
    with pytest.raises(UsageError, match="roles"):
        search(made, out=tmp_path, resume=True, roles=True, **BRIEF)


@pytest.mark.integration
def test_a_search_by_role_finds_what_an_artifact_and_a_plain_score_repeat(lpz: Lpz, made: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, printed, err = lpz(
        "search", made, *OPTIONS, "--train", "8", "--roles", "--strategy", "exhaustive", "--out", str(out), "--json"
    )
    assert (code, err) == (0, "")
    result = SearchResult.from_json(json.loads(printed))
    assert result.config.roles
    assert result.size == 14 * 13 // 2 * 21**2 * 4 * 4
    six = search(made, strategy="exhaustive", **BRIEF)
    (split,) = result.splits
    assert split.fittest[0].fitness >= six.splits[0].fittest[0].fitness
    fittest = next(c for c in split.fittest if any(name in str(c.expression) for name in ("_ffn", "_mixer")))
    trained = [NAMES.index(key) for key in split.trained_on[made]]
    scores = np.array(freshly_scored(str(fittest.expression)))[trained]
    rho = stats.spearmanr(scores * fittest.orientation, [-LOSSES[i] for i in trained]).statistic
    assert fittest.fitness == pytest.approx(rho, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"within": 0.5}, "0.5"),
        ({"match": "parms"}, "'params'"),
        ({"fitness": "matched", "within": 1.0}, "factor of 1"),
    ],
)
def test_sizes_by_which_nothing_is_alike_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    names = [f"d{width}.e32.k1-h1.i64" for width in (64, 96, 128)]
    apart = write_benchmark(tmp_path / "apart", {name: 5.0 + i for i, name in enumerate(names)})
    with pytest.raises(UsageError, match=message):
        search(apart, **{**BRIEF, "train": None, "match": "depth_then_width", **settings})
