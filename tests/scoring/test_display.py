"""Results in a notebook: tables without a user's HTML, data frames, figures."""

from __future__ import annotations

import builtins
import math
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from lpz_nas import Explored, Found, Tried, explore, read_goals

from lpzero_hf import ConfigSpace, LpzError, Setting, load_plugins, minibatch, rank, score
from lpzero_hf.scoring.display import ROWS, Displayed, Panel, Points, drawn, number, table
from lpzero_hf.scoring.rank import Ranked, Ranking
from lpzero_hf.scoring.scores import Score, Scores
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


def row(value: float | None, orientation: int = 1) -> dict[str, Any]:
    return {"value": value, "orientation": orientation, "status": "ok", "reason": "" if value is not None else HOSTILE}


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
    figure.canvas.draw()  # would fail at a formula
    assert figure.axes


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
    assert ranking.to_rows()[0]["decoder_params"] == ranking[0].rows["decoder_params"]["value"]
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
    assert [one["architecture"] for one in found.to_rows()] == [one.architecture for one in found.front]
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
