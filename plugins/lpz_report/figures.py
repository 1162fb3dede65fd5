"""Interactive plots as plain data, which the page's script draws with plotly.

A specification holds a plotly `layout` and `states`: the `data` (and more `layout`) for each combination of what the
`controls` above the plot offer, keyed by the places of the chosen options, "0,2". So that the same numbers are not
written again for each state, `{"take": [column, rows]}` stands for entries of a list in `columns`. A text that begins
with "--" is a colour of the style sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import product
from typing import Any

import torch

from lpzero_hf.benchmarks.agreement import Agreement
from lpzero_hf.searching.archive import Candidate
from lpzero_hf.searching.correlation import mid_ranks

NAMED = 10  # more splits are drawn in one colour, without a legend
DOTS = 3000  # maximum number of candidates drawn in one plot
MEASURES = {"spearman": "Spearman's rho", "kendall": "Kendall's tau-b"}
Spec = dict[str, Any]


def search_curves(histories: Sequence[Sequence[Mapping[str, Any]]], measure: str, dots: bool) -> Spec:
    """Highest fitness so far against expressions evaluated, a line per split.

    Args:
        histories: the lines of each split's history.
        measure: the axis' title.
        dots: whether each history line is one expression, to be drawn too.
    """
    data: list[Spec] = []
    thinned = max(1, -(-sum(map(len, histories)) // DOTS))
    for number, history in enumerate(histories):
        seen, best = 0, 0.0
        line: list[tuple[int, float, str]] = []
        points: list[tuple[int, float, str]] = []
        for at, step in enumerate(history):
            seen += step.get("evaluated", 1)
            if step["best"] > best or (line and at == len(history) - 1):
                line.append((seen, _short(step["best"]), str(step["what"]) if step["best"] > best else "the end"))
                best = step["best"]
            if dots and step["fitness"] is not None and at % thinned == 0:
                points.append((seen, _short(step["fitness"]), str(step["what"])))
        colour = _colour(number, len(histories))
        group = {"legendgroup": str(number), "name": f"split {number}"}
        if points:
            data.append(
                _points(points) | group | {"mode": "markers", "showlegend": False, "opacity": 0.35}
                | {"marker": {"color": colour, "size": 4}}
            )  # fmt: skip
        data.append(
            _points(line) | group | {"mode": "lines", "line": {"shape": "hv", "color": colour, "width": 2.2}}
            | {"showlegend": 1 < len(histories) <= NAMED}
        )  # fmt: skip
    scale = {"rangemode": "tozero"} if dots else {"type": "log", "dtick": 1}  # an enumeration finds its best early
    layout = {"xaxis": {"title": "expressions evaluated"} | scale, "yaxis": {"title": measure}}
    return _plain(data, layout, 380)


def front(fronts: Sequence[Sequence[Candidate]], measure: str) -> Spec:
    """Fitness against complexity, a stepped line per split, splits side by side so that none hides another."""
    data = []
    end = max(found[-1].expression.complexity for found in fronts)
    for number, found in enumerate(fronts):
        aside = 0.3 * (number - (len(fronts) - 1) / 2) / len(fronts)
        points = [(c.expression.complexity + aside, _short(c.fitness), str(c.expression)) for c in found]
        points.append((end + 0.4, points[-1][1], points[-1][2]))
        colour = _colour(number, len(fronts))
        data.append(
            _points(points)
            | {"mode": "lines+markers", "name": f"split {number}", "showlegend": 1 < len(fronts) <= NAMED}
            | {"line": {"shape": "hv", "color": colour, "width": 1.6}}
            | {"marker": {"color": colour, "size": [9] * len(found) + [0]}}
        )
    layout = {"xaxis": {"title": "complexity", "dtick": 1, "zeroline": False}, "yaxis": {"title": measure}}
    return _plain(data, layout, 380)


def intervals(rows: Mapping[str, Sequence[tuple[str, Agreement]]], ours: Sequence[str]) -> Spec:
    """Rank correlations with their intervals, a row for each name, the first at the top; by either coefficient.

    Args:
        rows: by name, what was measured (a split, for example) and the agreement.
        ours: names to be drawn in the main colour.
    """
    states = {}
    for state, measure in enumerate(MEASURES):
        data = []
        for place, (name, found) in enumerate(rows.items()):
            defined = [(on, a.n, getattr(a, measure)) for on, a in found if getattr(a, measure) is not None]
            if not defined:
                continue
            many = len(defined)
            y = [place + (0.56 * (i - (many - 1) / 2) / many) for i in range(many)]
            values = [e.value for _, _, e in defined]
            colour = "--accent" if name in ours else "--muted"
            texts = [
                f"{escape(name, quote=False)}{on and f', {on}'}<br>{e.value:.3f} {e.between('{:.3f}'.format)}, n = {n}"
                for on, n, e in defined
            ]
            spread = {
                "type": "data", "symmetric": False, "thickness": 1.6 if many <= 5 else 0.8, "width": 0, "color": colour,
                "array": [_short(e.high - e.value) if e.known else 0 for _, _, e in defined],
                "arrayminus": [_short(e.value - e.low) if e.known else 0 for _, _, e in defined],
            }  # fmt: skip
            data.append(
                {"x": [_short(v) for v in values], "y": y, "text": texts, "hoverinfo": "text", "mode": "markers"}
                | {"type": "scatter", "error_x": spread, "marker": {"color": colour, "size": 7 if many <= 5 else 5}}
            )
            if many > 1:
                mean = sum(values) / many
                texts = [f"{escape(name, quote=False)}, mean of {many}<br>{mean:.3f}"]
                data.append(
                    {"x": [_short(mean)] * 2, "y": [place - 0.4, place + 0.4], "text": texts * 2, "hoverinfo": "text"}
                    | {"type": "scatter", "mode": "lines", "line": {"color": colour, "width": 3}, "opacity": 0.45}
                )
        states[str(state)] = {"data": data, "layout": {"xaxis": {"title": f"{MEASURES[measure]}, 95% interval"}}}
    ticks = {"tickvals": list(range(len(rows))), "ticktext": [escape(name, quote=False) for name in rows]}
    layout = {
        "xaxis": {"zeroline": True},
        "yaxis": ticks | {"range": [len(rows) - 0.4, -0.6], "showgrid": False, "zeroline": False},
        "showlegend": False, "hovermode": "closest", "height": 120 + (44 if len(rows) < 12 else 26) * len(rows),
    }  # fmt: skip
    return {"controls": [{"label": "Measured by", "options": list(MEASURES.values())}], "layout": layout,
            "states": states}  # fmt: skip


def against_truth(
    keys: Sequence[str],
    quality: Sequence[float],
    metric: str,
    larger_is_better: bool,
    groups: Mapping[str, Mapping[str, Sequence[int]]],
    scores: Mapping[tuple[str, str], Sequence[float | None]],
    labels: tuple[str, str],
) -> Spec:
    """Trained performance against the scores of architectures, or against their ranks.

    Args:
        keys: [n], names of the architectures.
        quality: [n], trained performance.
        metric: name of the trained performance.
        larger_is_better: of the metric; if not, the axis is reversed.
        groups: by first option, the positions of architectures under each legend.
        scores: by first and second option, [n], higher is better.
        labels: of the two controls.
    """
    firsts, seconds = list(groups), list(dict.fromkeys(second for _, second in scores))
    axes = ("rank", "score")
    columns: dict[str, Any] = {"keys": [escape(key, quote=False) for key in keys], "quality": [*map(_short, quality)]}
    for (first, second), values in scores.items():
        at = f"{firsts.index(first)}.{seconds.index(second)}"
        columns[f"score {at}"] = [None if value is None else _short(value) for value in values]
        columns[f"rank {at}"] = ranked(values)
    for i, first in enumerate(firsts):
        columns |= {f"rows {i}.{legend}": list(rows) for legend, rows in groups[first].items()}
    states = {}
    for i, j, k in product(range(len(firsts)), range(len(seconds)), range(len(axes))):
        if (firsts[i], seconds[j]) not in scores:
            continue
        data = []
        for legend, rows in groups[firsts[i]].items():
            if not rows:
                continue
            at, last = f"rows {i}.{legend}", legend == list(groups[firsts[i]])[-1]
            data.append(
                {
                    "type": "scatter", "mode": "markers", "name": f"{legend} ({len(rows)})",
                    "x": {"take": [f"{axes[k]} {i}.{j}", at]}, "y": {"take": ["quality", at]},
                    "text": {"take": ["keys", at]}, "hovertemplate": "%{text}<br>%{x:.5g}, %{y:.5g}<extra></extra>",
                    "marker": {"size": 7, "opacity": 0.8 if last else 0.55, "color": "--accent" if last else "--muted",
                               "symbol": "circle" if last else "circle-open"},
                }
            )  # fmt: skip
        title = "rank of the score, higher is better" if axes[k] == "rank" else "score, higher is better"
        states[f"{i},{j},{k}"] = {"data": data, "layout": {"xaxis": {"title": title}}}
    turned = {} if larger_is_better else {"autorange": "reversed"}
    layout = {
        "xaxis": {"zeroline": False},
        "yaxis": {"title": escape(metric, quote=False) + ("" if larger_is_better else " (axis reversed)"),
                  "zeroline": False} | turned,
        "hovermode": "closest", "height": 440,
    }  # fmt: skip
    options = ((labels[0], firsts), (labels[1], seconds), ("Axis", ["ranks", "scores"]))
    controls = [{"label": label, "options": list(given)} for label, given in options]
    return {"controls": controls, "layout": layout, "columns": columns, "states": states}


def ranked(values: Sequence[float | None]) -> list[float | None]:
    """[n], the ranks from 1 of the values that are not None, ties at their mean rank."""
    there = [i for i, value in enumerate(values) if value is not None]
    ranks: list[float | None] = [None] * len(values)
    if there:
        made = mid_ranks(torch.tensor([[values[i] for i in there]], dtype=torch.float64))[0] + 1
        for i, rank in zip(there, made.tolist(), strict=True):
            ranks[i] = rank
    return ranks


def _points(points: Sequence[tuple[float, float, str]]) -> Spec:
    x, y, text = zip(*points, strict=True) if points else ((), (), ())
    texts = [escape(one, quote=False) for one in text]
    return {"type": "scatter", "x": x, "y": y, "text": texts, "hovertemplate": "%{text}<br>%{y:.4f}<extra></extra>"}


def _plain(data: list[Spec], layout: Spec, height: int) -> Spec:
    layout = layout | {"hovermode": "closest", "height": height}
    return {"controls": [], "layout": layout, "states": {"": {"data": data, "layout": {}}}}


def _colour(number: int, splits: int) -> str:
    return f"--c{number}" if splits <= NAMED else "--accent"


def _short(value: float) -> float:
    return float(f"{value:.6g}")
