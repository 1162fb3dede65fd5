"""The transfer protocol: what is chosen for a benchmark left out does not depend on it, and is graded as it scores."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types
from transformers import PreTrainedModel

from lpzero_hf.benchmarks.grade import BASELINES
from lpzero_hf.benchmarks.held_out import marks_of
from lpzero_hf.benchmarks.matched import matched_agreement
from lpzero_hf.errors import NotApplicable, UsageError
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching import transfer as module
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.search import search
from lpzero_hf.searching.transfer import transfer, unsearched
from lpzero_hf.searching.transfer_rows import TransferResult, TransferRow
from lpzero_hf.spaces.named import load_space
from tests.searching.test_search import freshly_scored
from tests.support.searches import LOSSES, NAMES, few_resamples
from tests.support.trained import write_benchmark

SMALL = Setting(batch_size=2, seq_len=8)
RULE = SearchConfig(("any",), iterations=20, population=6, setting=SMALL, fitness="mixed", within=2.0, preset="paper")
FEW = NAMES[:8]
MEMBERS = {  # of three benchmarks: the last holds two of the first as well
    "one": FEW,
    "two": [name.replace("e32", "e64") for name in FEW],
    "three": [*(name.replace("d64", "d128") for name in FEW), *NAMES[:2]],
}
TRUE = {
    name: {member: LOSSES[(i * step) % 12] + i / 50 for i, member in enumerate(members)}
    for (name, members), step in zip(MEMBERS.items(), (1, 5, 7), strict=True)
}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The folders of the three benchmarks."""
    root = tmp_path_factory.mktemp("benchmarks")
    return [write_benchmark(root / name, losses) for name, losses in TRUE.items()]


def run(names: list[str], **changes: Any) -> TransferResult:
    settings: dict[str, Any] = {"proxies": ["snip"], "search": RULE, "setting": SMALL, "within": 2.0}
    return transfer(names, **settings | changes)


@pytest.fixture(scope="module")
def whole(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[TransferResult, Path]:
    """One run, with its folder."""
    out = tmp_path_factory.mktemp("out") / "run"
    with few_resamples():
        return run(names, out=out, ceiling=True), out


def rows(result: TransferResult) -> dict[str, TransferRow]:
    return {row.name: row for row in result.rows}


@pytest.fixture
def rewritten(names: list[str]) -> Iterator[Callable[[dict[str, float]], None]]:
    """Give the third benchmark other losses, and put the true ones back."""
    file = Path(names[2]) / "benchmark.json"
    before = file.read_text()

    def write(losses: dict[str, float]) -> None:
        document = json.loads(before)
        for row in document["trained"]:
            row["loss"] = losses[row["architecture"]]
        file.write_text(json.dumps(document))

    yield write
    file.write_text(before)


def fold(out: Path, held: str) -> dict[str, Any]:
    """The result of the search without a benchmark, and its history, without seconds."""
    (folder,) = [path for path in (out / "searched").iterdir() if f"-{path.name}".endswith(f"-{held}")]
    document: dict[str, Any] = json.loads((folder / "result.json").read_text())
    del document["seconds"]
    for split in document["splits"]:
        del split["seconds"]
    return document | {"history": (folder / "split-00" / "history.jsonl").read_text()}


@pytest.mark.integration
@pytest.mark.parametrize("how", ["noise", "permuted"])
def test_nothing_but_its_own_column_depends_on_the_benchmark_left_out(
    how: str, names: list[str], whole: tuple[TransferResult, Path], tmp_path: Path, rewritten: Any
) -> None:
    result, out = whole
    losses = list(TRUE["three"].values())
    rng = random.Random(7)
    other = [rng.gauss(0, 100) for _ in losses] if how == "noise" else rng.sample(losses, len(losses))
    rewritten(dict(zip(TRUE["three"], other, strict=True)))
    changed = run(names, out=tmp_path / "run")
    left = names[2]
    assert fold(tmp_path / "run", "three") == fold(out, "three")
    assert fold(tmp_path / "run", "one") != fold(out, "one")  # which does see it
    before, after = rows(result), rows(changed)
    assert set(after) == set(before) - {"searched: fittest on all"}
    for name, row in after.items():
        assert row.scores[left] == before[name].scores[left]
        assert row.found.get(left) == before[name].found.get(left)
        if row.kind != "searched":
            assert row.scores == before[name].scores
            assert [row.grade.cells[n] for n in names[:2]] == [before[name].grade.cells[n] for n in names[:2]]
    assert after["params"].grade.cells[left] != before["params"].grade.cells[left]
    assert after["searched: ensemble"].grade.cells[left] != before["searched: ensemble"].grade.cells[left]


COUNTED = ["params", "flops", "snip", "grad_norm", "l2_norm", "w_pca", "head_importance_lpzero", "num_heads"]


def test_the_consensus_without_a_benchmark_does_not_depend_on_it(names: list[str], rewritten: Any) -> None:
    def consensus(result: TransferResult) -> TransferRow:
        return rows(result)["consensus"]

    with few_resamples():
        before = run(names, search=None, proxies=COUNTED, consensus=True)
        rewritten({name: -loss for name, loss in TRUE["three"].items()})
        after = run(names, search=None, proxies=COUNTED, consensus=True)
    left = names[2]
    assert consensus(after).found[left] == consensus(before).found[left]
    assert consensus(after).scores[left] == consensus(before).scores[left]
    assert consensus(after).grade.cells[left] != consensus(before).grade.cells[left]
    assert consensus(after).found.get(names[0]) != consensus(before).found.get(names[0])  # which sees it
    ((text, sign),) = consensus(before).found[left]
    members = text.removeprefix("geometric_mean(").removesuffix(")").split(", ")
    scores = [rows(before)[member].scores[left] for member in members]
    expected = [sum(map(math.log, values)) / len(members) for values in zip(*scores, strict=True)]
    assert consensus(before).scores[left] == pytest.approx(expected)
    assert (sign, rows(before)["consensus: on all"].kind) == (1, "ceiling")


def test_where_there_is_no_consensus_the_reason_is_told(names: list[str]) -> None:
    with few_resamples():
        row = rows(run(names, search=None, proxies=["plain"], within=1.0, consensus=True))["consensus"]
    assert row.scores == {}
    assert set(row.unscored) == set(names)
    assert all(why.startswith("failed: ") for reasons in row.unscored.values() for why in reasons)


def test_a_search_sees_every_other_architecture_and_none_of_the_benchmark_left_out(
    names: list[str], whole: tuple[TransferResult, Path]
) -> None:
    result, out = whole
    one, two, three = names
    assert result.left_out == {one: {three: 2}, two: {}, three: {one: 2}}
    seen = {name: fold(out, name)["architectures"] for name in MEMBERS}
    assert seen["one"] == {two: MEMBERS["two"], three: MEMBERS["three"][:8]}
    assert seen["two"] == {one: MEMBERS["one"], three: MEMBERS["three"]}
    assert seen["three"] == {one: MEMBERS["one"][2:], two: MEMBERS["two"]}
    assert all(fold(out, name)["splits"][0]["trained_on"] == seen[name] for name in MEMBERS)
    assert fold(out, "all-benchmarks")["architectures"] == dict(zip(names, MEMBERS.values(), strict=True))
    plan = fold(out, "one")["plan"]
    assert (plan["fitness"], plan["iterations"], plan["train"], plan["within"]) == ("mixed", 20, None, 2.0)


def test_what_was_chosen_is_graded_by_scores_of_models_built_anew(
    names: list[str], whole: tuple[TransferResult, Path]
) -> None:
    result, out = whole
    found = rows(result)
    columns = {column.name: column for column in result.columns}
    held, key = names[1], "two"
    split = fold(out, key)["splits"][0]
    for what, kind in (("one expression", "winner"), ("ensemble", "ensemble")):
        row = found[f"searched: {what}"]
        members = list(zip(split[kind]["expressions"], split[kind]["orientations"], strict=True))
        assert row.found[held] == members
        fresh = {text: np.array(freshly_scored(text, MEMBERS[key])) for text, _ in members}
        scores = [fresh[text] * sign for text, sign in members]
        expected = scores[0] if len(scores) == 1 else np.sum([stats.rankdata(one) for one in scores], axis=0)
        truth = [-loss for loss in TRUE[key].values()]
        assert list(columns[held].truth) == truth
        assert stats.rankdata(row.scores[held]).tolist() == stats.rankdata(expected).tolist()
        cell = row.grade.cells[held]
        assert cell.spearman is not None
        assert cell.spearman.value == pytest.approx(stats.spearmanr(expected, truth).statistic)
        matched = matched_agreement(expected, truth, columns[held].sizes.values, within=2.0)
        assert (cell.matched, cell.pairs) == (matched.agreement, matched.pairs)


def test_the_bound_is_the_fittest_on_all_benchmarks_at_once(
    names: list[str], whole: tuple[TransferResult, Path]
) -> None:
    bound = rows(whole[0])["searched: fittest on all"]
    of_rule = {name: getattr(RULE, name) for name in ("iterations", "population", "setting", "within", "preset")}
    best = search(names, train=None, fitness="mixed", **of_rule).splits[0].fittest[0]
    assert bound.kind == "ceiling"
    assert bound.found == {name: [(str(best.expression), best.orientation)] for name in names}
    values = [(cell.spearman, cell.matched) for cell in bound.grade.cells.values()]
    mixed = [(rho.value + matched.value) / 2 for rho, matched in values if rho and matched]
    assert sum(mixed) / 3 == pytest.approx(best.fitness)


def test_proxies_are_graded_on_every_benchmark_with_their_orientation(names: list[str]) -> None:
    result = run(names, proxies=["plain", fewer], search=None)
    found = rows(result)
    assert set(found) == {"plain", "fewer", *BASELINES}
    assert {name for name, row in found.items() if row.kind == "baseline"} == set(BASELINES)
    assert result.left_out == {}
    for name, losses in zip(names, TRUE.values(), strict=True):
        layers = [-architecture.count("-h") for architecture in losses]
        truth = [-loss for loss in losses.values()]
        if name == names[2]:
            assert found["fewer"].scores[name] == [None] * 8 + layers[8:]
            continue
        assert found["fewer"].scores[name] == layers
        cell = found["fewer"].grade.cells[name].spearman
        assert cell is not None
        assert cell.value == pytest.approx(stats.spearmanr(layers, truth).statistic)
    row = found["fewer"]
    assert (row.grade.cells[names[2]].n, row.grade.matched.n, result.rows[-1]) == (2, 2, row)
    assert list(row.unscored) == [names[2]]


def fewer(model: PreTrainedModel, batch: dict[str, Any]) -> float:
    """The number of layers, for fewer is better; of narrow models."""
    if model.config.d_model > 64:
        raise NotApplicable("too wide")
    return float(len(model.config.layers))


fewer.orientation = -1  # type: ignore[attr-defined]  # as plain functions say it


def test_by_default_every_proxy_that_was_not_searched_is_graded() -> None:
    chosen = {proxy.name for proxy in unsearched(load_plugins())}
    assert {"snip", "w_pca", *BASELINES} <= chosen
    assert not any(name.startswith("lpzero-") for name in chosen)


def test_several_searches_are_compared(names: list[str], tmp_path: Path) -> None:
    rules = {"a b": RULE, "a/b": SearchConfig(("any",), strategy="random", iterations=3, population=3, setting=SMALL)}
    result = run(names[:2], search=rules, out=tmp_path / "run")
    assert {row.name for row in result.rows if row.kind == "searched"} == {
        f"{name}: {what}" for name in rules for what in ("one expression", "ensemble")
    }
    assert len(list((tmp_path / "run").glob("a-b*/*/result.json"))) == 4
    document = json.loads((tmp_path / "run" / "transfer.json").read_text())
    assert document == json.loads(json.dumps(result.to_dict()))
    assert document["searches"]["a/b"]["strategy"] == "random"


# Going on --------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """Stands for a kill."""


def test_a_run_that_was_stopped_goes_on_to_the_same_result(
    names: list[str], whole: tuple[TransferResult, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(what: str, done: int, total: int, best: float | None) -> None:
        if what == f"{names[1]} left out: search" and done == 5:
            raise Stopped

    out = tmp_path / "run"
    with pytest.raises(Stopped):
        run(names, out=out, progress=stop)
    assert len(list(out.rglob("result.json"))) == 1
    with pytest.raises(UsageError, match="resume=True"):
        run(names, out=out)
    searched = []

    def counted(config: SearchConfig, **options: Any) -> Any:
        searched.append((config.benchmarks, options["resume"]))
        return search(config, **options)

    monkeypatch.setattr(module, "search_for", counted)
    again = run(names, out=out, resume=True)
    assert searched == [((names[0], names[2]), True), ((names[0], names[1]), False)]
    expected = {name: row for name, row in rows(whole[0]).items() if row.kind != "ceiling"}
    assert rows(again) == expected
    with pytest.raises(UsageError, match="fitness"):
        run(names, out=out, resume=True, search=replace(RULE, fitness="spearman"))


def test_a_finished_search_is_not_taken_for_that_of_another_benchmark(
    names: list[str], whole: tuple[TransferResult, Path], rewritten: Any
) -> None:
    rewritten(dict(zip(TRUE["three"], LOSSES, strict=False)))
    with pytest.raises(UsageError, match="not what it was"):
        run(names, out=whole[1], resume=True)


# Refused ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_left_out_is_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more benchmarks"):
        run(names[:1])
    assert len(run(names[:1], search=None).rows) == 1 + len(BASELINES)
    copy = write_benchmark(tmp_path / "copy", TRUE["one"])
    with pytest.raises(UsageError, match="same benchmark"):
        run([names[0], copy])
    retrained = write_benchmark(tmp_path / "retrained", {name: loss**2 for name, loss in TRUE["one"].items()})
    with pytest.raises(UsageError, match="more benchmarks"):
        run([names[0], retrained])
    with pytest.raises(UsageError, match="enumerate"):
        run(names, search=SearchConfig(("any",), strategy="exhaustive", unary=(3, 3)))


def test_a_search_can_be_kept_from_architectures(names: list[str]) -> None:
    space = load_space("tiny-gpt2")
    marks = {mark for name in FEW[:3] for mark in marks_of(space, space.parse(name))}
    brief: dict[str, Any] = {"strategy": "random", "iterations": 3, "population": 3, "setting": SMALL, "train": None}
    assert search(names[0], without=marks, **brief).architectures == {names[0]: FEW[3:]}
    every = {mark for name in FEW for mark in marks_of(space, space.parse(name))}
    with pytest.raises(UsageError, match="left out"):
        search(names[0], without=every, **brief)
