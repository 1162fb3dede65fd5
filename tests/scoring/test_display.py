"""Results in a notebook: tables without a user's HTML, data frames, figures."""

from __future__ import annotations

import builtins
import inspect
import io
import itertools
import math
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from lpz_nas import Explored, Found, Tried, explore, find_architecture, read_goals

import lpzero_hf
from lpzero_hf import (
    ConfigSpace,
    Deployment,
    LpzError,
    SearchResult,
    Setting,
    compare,
    grade,
    load_plugins,
    measure_costs,
    minibatch,
    rank,
    score,
    search,
)
from lpzero_hf.proxies.base import Orientation
from lpzero_hf.scoring.display import ROWS, Displayed, Panel, Points, drawn, number, table
from lpzero_hf.scoring.rank import Ranked, Ranking
from lpzero_hf.scoring.scores import Score, Scores
from lpzero_hf.searching.find_consensus import find_consensus
from lpzero_hf.searching.transfer import transfer
from tests.support.families import tiny_model

HOSTILE = "<img src=x onerror=alert(1)> $\\frac{$ & \"quoted\" 'name'"


class Cells(HTMLParser):
    """The tags of an HTML text and the texts of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag in ("th", "td", "caption"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data


def row(value: float | None, orientation: Orientation = 1) -> Score:
    return Score(
        "p", value, "ok" if value is not None else "failed", "" if value is not None else HOSTILE, orientation, "", 0
    )


def hostile() -> list[Displayed]:
    """A result of every kind whose names are hostile."""
    scores = Scores(
        (Score(HOSTILE, 1.5, "ok", HOSTILE, 1, "none", 0.1), Score("b", None, "failed", HOSTILE, -1, "x", 0))
    )
    ranking = Ranking([Ranked(HOSTILE, 1.0, {HOSTILE: row(2.0)}), Ranked("other", None, {HOSTILE: row(None)})])
    found = Found(
        {"space": HOSTILE, "among": HOSTILE, "proxy": HOSTILE, "budget": {"max_params": 20, "min_params": None}},
        (Tried(HOSTILE, 10, 1.0), Tried("b", 20, 2.0), Tried("c", 20, None, HOSTILE)), 3, 0.0, {},
    )  # fmt: skip
    return [scores, ranking, found]


@pytest.mark.parametrize("place", range(3), ids=["scores", "ranking", "found"])
def test_a_hostile_name_is_text_in_the_table_and_in_the_figure(place: int) -> None:
    result = hostile()[place]
    shown = result._repr_html_()
    cells = Cells(shown)
    assert cells.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert any(HOSTILE in cell for cell in cells.cells)
    assert "mathjax_ignore" in shown
    figure = result.plot()
    figure.savefig(io.BytesIO(), format="png")  # would fail at a formula
    assert figure.axes


@pytest.mark.parametrize("place", range(3), ids=["scores", "ranking", "found"])
def test_a_printed_result_is_a_table_of_plain_text(place: int) -> None:
    result = hostile()[place]
    title, head, *rows = str(result).splitlines()
    assert title
    assert len(rows) == len(result.to_rows()) + len(result.notes)
    for name, value in result.to_rows()[0].items():
        assert (value in (None, "")) or name[:3] in head
    assert "Score(" not in str(result)
    assert all(line.isprintable() for line in (title, head, *rows))


def test_rows_frames_and_tables_say_the_same() -> None:
    pandas = pytest.importorskip("pandas")
    for result in hostile():
        rows, frame = result.to_rows(), result.to_dataframe()
        assert isinstance(frame, pandas.DataFrame)
        assert list(frame.columns) == list(rows[0])
        assert len(frame) == len(rows)
        cells = Cells(result._repr_html_()).cells
        assert cells[0] == result.title
        assert cells[1 : 1 + len(rows[0])] == list(rows[0])


def test_the_scores_of_a_model_are_shown() -> None:
    model = tiny_model("gpt2")
    scores = score(model, minibatch(model, batch_size=2, seq_len=8), ["params", "num_heads", "synflow"])
    rows = scores.to_rows()
    assert [one["proxy"] for one in rows] == ["params", "num_heads", "synflow"]
    assert [one["score"] for one in rows] == [scores[one["proxy"]].value for one in rows]
    assert f"{int(scores['params'].require()):,}" in scores._repr_html_()
    axes = scores.plot().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["params", "num_heads", "synflow"]
    assert axes.get_xscale() == "symlog"


def test_a_ranking_is_a_list_and_a_table() -> None:
    ranking = rank("tiny-gpt2", ["decoder_params", "num_heads"], n=4, setting=Setting(2, 8))
    assert isinstance(ranking, list)
    assert [one["architecture"] for one in ranking.to_rows()] == [one.name for one in ranking]
    assert ranking.to_rows()[0]["decoder_params"] == ranking[0].rows["decoder_params"].value
    axes = ranking.plot().axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["decoder_params", "num_heads"]
    first = axes.get_lines()[0]
    assert sorted(first.get_ydata()) == [1.0, 2.0, 3.0, 4.0]
    single = rank("tiny-gpt2", "decoder_params", n=4, setting=Setting(2, 8)).plot().axes[0]
    values = list(single.get_lines()[0].get_ydata())
    assert values == sorted(values, reverse=True)


def test_a_proxy_called_as_a_column_does_not_replace_it() -> None:
    ranking = Ranking([Ranked("a", 1.0, {"rank": row(7.0), "architecture": row(8.0)})])
    assert ranking.to_rows() == [
        {"architecture": "a", "rank": 1.0, "reason": "", "rank (proxy)": 7.0, "architecture (proxy)": 8.0}
    ]


def test_a_front_is_shown(tmp_path: Path) -> None:
    space = ConfigSpace(
        "widths",
        base={"model_type": "llama", "vocab_size": 4200, "num_hidden_layers": 1, "num_attention_heads": 2},
        choices={"hidden_size": [16, 32], "intermediate_size": [16, 32]},
    )
    plugins = load_plugins()
    goals = read_goals(["proxy:num_heads", "params"], plugins, {})
    found = explore(space, goals, trials=4, out=tmp_path / "nas", setting=Setting(2, 8), plugins=plugins)
    assert isinstance(found, Explored)
    assert [one["architecture"] for one in found.to_rows()] == [f"widths:{one.architecture}" for one in found.front]
    assert found.to_rows()[0]["params"] == found.winner.values["params"]
    (axes,) = found.plot().axes
    rest, front = axes.get_lines()
    assert (len(rest.get_xdata()), len(front.get_xdata())) == (len(found.within) - len(found.front), len(found.front))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("params", "proxy:num_heads")
    one = replace(found, goals=found.goals[:1]).plot().axes[0]
    assert one.get_xlabel() in {"params", "order tried"}


def test_a_budget_is_a_dashed_line() -> None:
    lines = hostile()[2].plot().axes[0].get_lines()
    assert [line.get_xdata()[0] for line in lines if line.get_linestyle() == "--"] == [20]


def test_a_long_table_says_how_many_rows_it_leaves_out() -> None:
    shown = table([{"n": n} for n in range(ROWS + 1234)], "long")
    assert shown.count("<tr>") == ROWS + 2
    assert "1,234 more" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1235814, "1,235,814"), (2048.0, "2,048"), (-0.000123456789, "-0.000123457"), (1e300, "1e+300"),
     (math.nan, "nan"), (-math.inf, "-inf"), (10**30, f"{10**30:,}"), (0.0, "0")],
)  # fmt: skip
def test_no_digit_of_a_whole_number_is_left_out(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(("module", "extra"), [("pandas", "tables"), ("matplotlib", "plots")])
def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, module: str, extra: str) -> None:
    load = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ImportError(name)
        return load(name, *arguments, **options)

    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    result = hostile()[0]
    assert result._repr_html_()
    with pytest.raises(LpzError, match=rf"lpzero-hf\[{extra}\]"):
        result.to_dataframe() if module == "pandas" else result.plot()


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(LpzError, match="nothing to draw"):
        drawn([Panel("x", "y", [Points("none", [], [])])], "empty")
    with pytest.raises(LpzError, match="nothing to draw"):
        Scores(()).plot()
    with pytest.raises(LpzError, match="nothing to draw"):
        Ranking().plot()
    assert "0 architectures" in Ranking()._repr_html_()


def test_a_long_title_is_not_cut() -> None:
    figure = drawn([Panel("x", "y", [Points("one", [1.0], [2.0])])], "one of two is too close to tell " * 6)
    figure.draw_without_rendering()
    (title,) = (text for text in figure.texts if "close" in text.get_text())
    drawn_at = title.get_window_extent()
    assert drawn_at.x0 >= 0
    assert drawn_at.x1 <= figure.bbox.width


def test_grades_are_shown_the_best_first() -> None:
    report = grade("tiny-gpt2", ["num_heads"], limit=12)
    rows = report.to_rows()
    assert [one["proxy"] for one in rows] == [graded.proxy for graded in report.grades]
    first = report.grades[0].agreement
    assert first is not None
    assert first.spearman is not None
    assert (rows[0]["rho"], rows[0]["rho low"]) == (first.spearman.value, first.spearman.low)
    assert rows[0]["better"] == "higher"
    axes = report.plot().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [one["proxy"] for one in rows]
    assert list(axes.get_lines()[0].get_xdata()) == [one["rho"] for one in rows]
    assert report.title in report._repr_html_()


def test_a_search_is_shown_with_baselines_and_its_front(tmp_path: Path) -> None:
    found = search("tiny-gpt2", strategy="random", iterations=60, limit=12, train=6, out=tmp_path / "run")
    rows = found.to_rows()
    assert {one["architectures"] for one in rows} == {"held out", "searched on"}
    winner = next(one for one in rows if one["scored by"] == "winner")
    assert winner["rho"] == found.summary()["tiny-gpt2"]["winner"]["spearman"]
    assert winner["rho deviation"] is None  # of one split
    assert winner["expression"] == str(found.splits[0].winner.expressions[0])
    assert "params" in {one["scored by"] for one in rows}
    steps = found.plot().axes[0].get_lines()[0]
    assert list(steps.get_ydata()) == sorted(one.fitness for one in found.splits[0].pareto)
    assert winner["expression"] in found._repr_html_()


def test_a_comparison_costs_and_a_transfer_are_shown() -> None:
    compared = compare(["gpt2-variant", "llama-mini"], ["num_layers", "l2_norm"], setting=Setting(2, 8))
    assert [one["model"] for one in compared.to_rows()] == [one.name for one in compared.models]
    costs = measure_costs("gpt2-variant", ["params", "kv_cache"])
    assert [one["value"] for one in costs.to_rows()] == [costs["params"].value, costs["kv_cache"].value]
    moved = transfer(["tiny-gpt2"], ["num_heads"], limit=12)
    assert [one["scored by"] for one in moved.to_rows()] == [row.name for row in moved.rows]
    for result in (compared, costs, moved):
        assert result.plot().axes
        assert result.title.split(":")[0] in result._repr_html_().replace("&#x27;", "'")


def test_what_public_functions_return_is_displayed() -> None:
    """Every public function that returns a result with rows returns one that a notebook shows."""
    shown = {"score", "rank", "grade", "search", "compare", "measure_costs"}
    functions = [*(getattr(lpzero_hf, name) for name in shown), find_consensus, transfer, explore, find_architecture]
    for function in functions:
        returned = inspect.unwrap(function).__globals__[function.__annotations__["return"]]
        assert issubclass(returned, Displayed), function.__name__


def test_what_a_table_does_not_say_is_below_it() -> None:
    compared = compare(["gpt2-variant", "bert-mini", HOSTILE], ["l2_norm"], setting=Setting(2, 8))
    cells = Cells(compared._repr_html_())
    assert "tfoot" in cells.tags
    assert "img" not in cells.tags
    below = cells.cells[-len(compared.notes) :]
    assert below == compared.notes
    for told in ("vocabularies differ", "objectives differ", "is not compared"):
        assert any(told in note for note in below), told
    assert "tfoot" not in Cells(table([{"n": 1}], "one")).tags


def test_a_part_of_a_ranking_is_a_ranking() -> None:
    ranking = Ranking([Ranked(name, 1.0, {"p": row(value, -1)}) for name, value in (("a", 1.0), ("b", 2.0))])
    assert isinstance(ranking[:1], Ranking)
    assert ranking[:1].to_rows() == ranking.to_rows()[:1]
    assert (ranking[0].name, ranking[-1].name, list(ranking[::-1])) == ("a", "b", list(reversed(ranking)))
    assert "lower is better" in ranking.plot().axes[0].get_ylabel()


@pytest.mark.parametrize("count", [1, 3, 80])
def test_names_in_a_figure_do_not_overlap(count: int) -> None:
    names = [f"proxy_{place}" for place in range(count)]
    figure = Scores(tuple(Score(name, 1.0, "ok", "", 1, "", 0) for name in names)).plot()
    figure.savefig(io.BytesIO(), format="png")
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == count
    assert all(upper.y0 >= lower.y1 for upper, lower in itertools.pairwise(boxes))


def test_a_score_that_is_turned_says_so() -> None:
    found = hostile()[2]
    assert isinstance(found, Found)
    turned = replace(found, request={**found.request, "orientation": -1})
    assert "sign changed" in turned.plot().axes[0].get_ylabel()
    assert "sign changed" not in found.plot().axes[0].get_ylabel()


def test_a_consensus_is_shown() -> None:
    found = find_consensus(["tiny-gpt2"], ["params", "w_pca", "num_layers"], limit=20)
    rows = found.to_rows()
    assert {one["proxy"]: one["member"] for one in rows} == {
        **dict.fromkeys(found.consensus.members, True), **dict.fromkeys(found.consensus.left_out, False)
    }  # fmt: skip
    assert rows[0]["tiny-gpt2"] == found.consensus.matched[rows[0]["proxy"]]["tiny-gpt2"]
    assert found.plot().axes
    assert "chosen on" in found._repr_html_()


def test_a_search_on_everything_is_shown_with_baselines() -> None:
    found = search("tiny-gpt2", strategy="random", iterations=40, limit=10, train=None)
    rows = found.to_rows()
    assert {one["architectures"] for one in rows} == {"searched on"}
    by_name = {one["scored by"]: one for one in rows}
    assert {"winner", "ensemble", "params", "num_layers"} <= by_name.keys()
    graded = grade("tiny-gpt2", ["params"], limit=10)
    rho = next(one.agreement for one in graded.grades if one.proxy == "params").spearman.value  # type: ignore[union-attr]
    assert by_name["params"]["rho"] == pytest.approx(rho)
    assert SearchResult.from_json(found.to_json()).to_rows() == rows


def test_one_value_has_no_deviation() -> None:
    one = search("tiny-gpt2", strategy="random", iterations=40, limit=12, train=6)
    assert not any(kind.endswith("_sd") for kind in one.summary()["tiny-gpt2"]["winner"])
    several = search("tiny-gpt2", strategy="random", iterations=40, limit=12, train=6, splits=2, test="tiny-lm")
    assert "spearman_sd" in several.summary()["tiny-gpt2"]["winner"]
    assert "spearman_sd" not in several.summary()["tiny-lm"]["params"]
    for row in (*one.to_rows(), *several.to_rows()):
        assert (row["rho deviation"] is None) == (row["splits"] == 1)
    timed = measure_costs("tiny-gpt2:d64.e32.k1-h1.i64", "latency", Deployment(prompt=4, warmup=0, repeats=1))[
        "latency"
    ]
    assert (timed.low, timed.high, timed.repeats) == (None, None, 1)
