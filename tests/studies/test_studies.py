"""The studies: the results are what the run files give, run files belong to studies, and cheap studies really run."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf.benchmarks.agreement import agreement
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import BASELINES
from lpzero_hf.errors import LpzError
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.spaces.space import Architecture
from studies import study as module
from studies.cost.costs import RESULTS
from studies.paper.checks import activation_check, parameter_check
from studies.paper.comparing import APART, PrintedPair, comparison
from studies.paper.initialised import scaled
from studies.paper.printed import Printed
from studies.paper.rebuilt import rebuilt
from studies.proxies.features import Features
from studies.results import FOLDER, PAGES, ROOT, STUDIES, texts
from studies.search.ablations import Ablations
from studies.search.cases import LONGER, STRATEGY, UNARY, label
from studies.search.curves import band, bound
from studies.search.transfer_protocol import TransferProtocol, opening, regraded
from studies.study import RUNS, kept, make, one_record_a_line, read
from tests.support.searches import LOSSES, few_resamples, write

MADE = [study.name for study in STUDIES if study.makes]
KEPT = sorted([*RUNS.glob("*.json"), *RESULTS.glob("*.json")])
LARGEST = 1_000_000  # bytes of a run file
needs_data = pytest.mark.skipif("LPZ_DATA" not in os.environ, reason="the folder of ground truth (LPZ_DATA) is not set")


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


# What is in the repository ---------------------------------------------------------------------------------


def test_results_are_what_the_run_files_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LPZ_DATA", raising=False)
    made = texts(kept(STUDIES))
    assert set(made) == {ROOT / "RESULTS.md", *FOLDER.glob("*.md")}
    for file, text in made.items():
        assert file.read_text(encoding="utf-8") == text, file.name


def test_the_opening_of_the_results_is_short_and_every_study_is_on_a_page() -> None:
    assert len((ROOT / "RESULTS.md").read_text(encoding="utf-8").splitlines()) <= 130
    assert {study.page for study in STUDIES} == {"", *PAGES}


def test_every_figure_that_results_name_is_there_and_no_other() -> None:
    named = {name for page in FOLDER.glob("*.md") for name in re.findall(r"\(figures/(.*?)\)", page.read_text("utf-8"))}
    assert named == {file.name for file in (FOLDER / "figures").glob("*.png")}


def test_figures_are_drawn_by_the_names_that_a_study_gives() -> None:
    data = {name: run.data for name, run in kept(STUDIES).items()}
    for study in STUDIES:
        assert tuple(study.draw(data)) == study.figures, study.name


@pytest.mark.parametrize("file", sorted(RUNS.glob("*.json")), ids=lambda file: file.stem)
def test_a_run_file_is_of_a_study_finite_and_small(file: Path) -> None:
    if file.stem == "shown":
        pytest.skip("how long the tables took, no run")
    run = read(file.stem)
    assert run.study == file.stem
    assert file.stem in MADE
    assert {"cores", "processor", "torch", "transformers", "lpzero-hf", "python"} <= set(run.machine)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run.made)
    json.dumps(run.data, allow_nan=False)
    assert file.stat().st_size < LARGEST


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_a_kept_file_is_what_the_writer_writes(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text == one_record_a_line(json.loads(text))


def test_a_record_is_one_line_and_floats_keep_every_bit() -> None:
    document = {
        "plain": [0.1, 1 / 3, 5e-324],
        "records": [{"name": "a", "steps": [[1, 0.5]]}, {"name": "b", "steps": []}],
        "by name": {"deep": {"a": {"rho": 0.25}, "b": (1.0, None)}},
        "empty": {},
    }
    text = one_record_a_line(document)
    assert text.splitlines() == [
        "{",
        ' "plain": [0.1,0.3333333333333333,5e-324],',
        ' "records": [',
        '  {"name":"a","steps":[[1,0.5]]},',
        '  {"name":"b","steps":[]}',
        " ],",
        ' "by name": {',
        '  "deep": {',
        '   "a": {"rho":0.25},',
        '   "b": [1.0,null]',
        "  }",
        " },",
        ' "empty": {}',
        "}",
    ]
    assert json.loads(text)["plain"] == document["plain"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        one_record_a_line({"value": math.nan})


def test_studies_need_what_others_make_and_have_names_of_their_own() -> None:
    names = [study.name for study in STUDIES]
    assert len(set(names)) == len(names)


def test_a_run_file_that_is_missing_names_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNS", tmp_path)
    with pytest.raises(LpzError, match="python -m studies --run nas"):
        read("nas")


# Made for real, small --------------------------------------------------------------------------------------


@needs_data
def test_features_are_made_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS", tmp_path)
    made = make(Features(benchmarks=("flexibert",), seeds=(42, 43), train=40), quiet)
    assert read("features") == made
    rows = {row["features"]: row for row in made.data["rows"]}
    assert all(0.85 < rho < 0.95 for rho in rows["d_model, n_layer"]["rho"])
    assert rows["all"]["all"][0] > rows["d_model, n_layer"]["all"][0]  # more features, fitted to all
    assert max(rows["all"]["rho"]) < rows["all"]["all"][0]  # but not held out
    assert f"{rows['all']['all'][0]:.4f}" in Features().show({"features": made.data})


@pytest.mark.integration
def test_the_transfer_protocol_is_made_graded_again_from_its_ranks_and_opens_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "RUNS", tmp_path)
    mine = write(tmp_path / "mine", LOSSES[:7])
    rules = {"by luck": SearchConfig(("any",), strategy="random", iterations=4, population=4)}
    study = TransferProtocol(("tiny-gpt2", mine), rules, ["snip"], limit=7, workers=1)
    with few_resamples():
        data = make(study, quiet).data
    assert read("transfer-protocol").data == data
    rows = {row["name"]: row for row in data["rows"]}
    searched = ["by luck: one expression", "by luck: ensemble", "by luck: fittest on all"]
    assert set(rows) == {"snip", *BASELINES, *searched}
    assert all(max(filter(None, scores)) < 7 for row in rows.values() for scores in row["scores"].values())
    assert regraded({**data, "rows": [{**row, "cells": {}} for row in data["rows"]]}) == data
    rho = agreement(data["benchmarks"]["tiny-gpt2"]["truth"], rows["snip"]["scores"]["tiny-gpt2"]).spearman
    assert rho is not None
    assert rows["snip"]["cells"]["tiny-gpt2"]["spearman"]["value"] == pytest.approx(rho.value)
    whole = {study.name: data}
    page, first = study.show(whole), opening(whole)
    for text in (page, first):
        assert text.count("**by luck: ") == 2
        assert "| `snip` |" in text
    assert page.count(rows[searched[0]]["found"]["tiny-gpt2"][0][0]) >= 1


def test_what_is_pending_is_left_out_of_the_results_until_it_is_made() -> None:
    pending = [study for study in STUDIES if study.pending]
    assert [study.name for study in pending] == ["transfer-protocol"]
    made = {name: run.data for name, run in kept(STUDIES).items() if name not in ("transfer-protocol", "consensus")}
    assert opening(made) == ""
    (first,) = (study for study in STUDIES if not study.page)
    assert first.show(made).startswith("|  | flexibert: rho")


@pytest.mark.slow
def test_ablations_search_every_case_and_never_pass_the_optimum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path))
    base = SearchConfig(("tiny-gpt2",), train=12, limit=14, iterations=20)
    data = Ablations(base, seeds=1, workers=1).make(quiet)
    assert label(LONGER) not in data["searches"]
    for cases in (STRATEGY, UNARY):
        for part, of in cases.items():
            for name, changes in of.items():
                for run in data["searches"].get(label(changes), []):
                    best = bound(data["optimum"], part, name)
                    assert best is None or run["fitness"] <= best + 1e-9
                    assert run["good"] <= run["evaluated"]
                    assert [best for _, best in run["steps"]] == sorted(best for _, best in run["steps"])
    assert "evolution" in Ablations().show({"ablations": data})


# The parts -------------------------------------------------------------------------------------------------


def test_a_curve_holds_the_largest_fitness_between_its_steps() -> None:
    runs: list[dict[str, Any]] = [{"evaluated": 5, "steps": [[1, 0.2], [4, 0.6]]}]
    x, _, middle, _ = band(runs)
    assert list(x) == [1, 2, 3, 4, 5]
    assert list(middle) == [0.2, 0.2, 0.2, 0.6, 0.6]


@needs_data
def test_checks_of_published_scores_see_what_they_look_for() -> None:
    entries = load_benchmark("flexibert").trained()[:60]
    long = [1000.0 * sum(layer[3] == 3 for layer in entry.architecture.layers) for entry in entries]
    assert parameter_check(entries, long)["residual"] < 1e-6
    wide = [float(sum(int(layer[2]) for layer in entry.architecture.layers)) for entry in entries]
    assert parameter_check(entries, wide)["residual"] > 100
    own = [float(sum(int(layer[3]) for layer in entry.architecture.layers)) for entry in entries]
    honest = {"Activation Distance": own, "Activation Distance Normalized": [1.0] * len(own)}
    assert activation_check(entries, honest)["steps"] == 0
    hooks, grown = 0, []
    for entry, terms in zip(entries, own, strict=True):
        hooks += len(entry.architecture.layers)
        grown.append(hooks * terms)
    assert activation_check(entries, honest | {"Activation Distance": grown})["steps"] == len(entries) - 1


def test_the_sum_of_layer_norms_has_a_gradient_of_rounding_alone() -> None:
    architecture = Architecture((128,), (("sdp", 2, 512, 1), ("dft", 2, 512, 1)))
    single, double = rebuilt((architecture, False)), rebuilt((architecture, True))
    assert 0 < double["SNIP"] < 1e-6 * single["SNIP"]
    assert math.isclose(single["Head Confidence"], double["Head Confidence"], rel_tol=0.05)
    other = replace(architecture, layers=tuple((*layer[:2], 1024, layer[3]) for layer in architecture.layers))
    assert rebuilt((other, False)) == single  # no width enters


def test_the_papers_winner_is_a_closed_formula_of_widths_and_depth() -> None:
    inners = (512, 600, 800, 512)
    made = scaled(Architecture((64, 128, 1), tuple((2, inner) for inner in inners)))["lpzero_paper_gpt2"]
    drawn, output = 0.02**2, 0.02**2 / (2 * len(inners))
    sites = [
        variance + outputs**-2  # ours takes the softmax of a gradient over the outputs
        for inner in inners
        for variance, outputs in ((drawn, 3 * 64), (output, 64), (drawn, inner), (output, 64))
    ]
    assert made == pytest.approx(sum(sites) / len(sites), rel=0.02)


def graded(proxy: str, rho: float, orientation: int = 1) -> dict[str, Any]:
    """A grade as a run file has it."""
    estimate = {"value": rho, "low": rho, "high": rho}
    agreement = {"n": 4, "spearman": estimate, "kendall": estimate, "top": 0.0}
    return {"proxy": proxy, "orientation": orientation, "agreement": agreement, "seconds": 0.0, "unscored": {}}


def test_a_difference_asks_for_a_reason_and_a_sign_is_one() -> None:
    keys, truth = ["a", "b", "c", "d"], [1.0, 2.0, 3.0, 4.0]
    grades = [graded("near", 0.9), graded("turned", 1.0, -1), graded("apart", 1.0)]
    mine = dict.fromkeys(("near", "turned", "apart"), truth)
    runs = {
        "grades": {
            "x": {
                "architectures": keys, "truth": truth, "facts": {"better": "larger"}, "grades": grades, "scores": mine,
            }
        },
        "winners": {"x": {"grades": []}},
        "published": {"x": {"architectures": keys, "scores": {"falling": truth[::-1]}}},
    }  # fmt: skip
    pairs = [
        PrintedPair("Near", "near", "", "never told"),
        PrintedPair("Turned", "turned", "falling", "never told"),
        PrintedPair("Apart", "apart", "falling", "the sign"),
        PrintedPair("Unexplained", "near"),
    ]
    printed = {"Near": Printed(0.9 + APART / 2, "", ""), "Unexplained": Printed(0.2, "0.1", "")}
    told = comparison("x", pairs, printed, runs)
    assert "never told" not in told
    assert "1. Apart: the sign" in told
    assert "2. Unexplained: no cause was found." in told
    assert "| Unexplained | 0.200 (0.1) | — | `near` |" in told
