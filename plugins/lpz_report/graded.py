"""The chapter of a grading: the output of `lpz bench eval --json` in words, tables and plots."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from lpz_report import figures
from lpz_report.document import (
    Chapter,
    Figure,
    Part,
    ReportTable,
    Tile,
    code,
    estimates,
    interval,
    matched,
    number,
    signed,
    words,
)
from lpz_report.metric import metric_of
from lpzero_hf.benchmarks.agreement import Agreement, Estimate
from lpzero_hf.benchmarks.beyond_size import PICKS
from lpzero_hf.benchmarks.grade import BASELINES
from lpzero_hf.files import read_json, reading
from lpzero_hf.plugins import PluginRegistry

REMEDY = "make it again with `lpz bench eval ... --json > FILE`"
BETTER = {1: "higher", -1: "lower"}


def grading_chapter(file: Path, plugins: PluginRegistry) -> Chapter:
    """All about the grading in `file`.

    Raises:
        LpzError: the file is no grading, or damaged.
    """
    document = read_json(file, REMEDY)
    with reading(f"'{file}' is no grading of proxies: it", REMEDY):
        return _chapter(file, document, plugins)


def _chapter(file: Path, document: dict[str, Any], plugins: PluginRegistry) -> Chapter:
    name, count = document["benchmark"], len(document["architectures"])
    found = {
        grade["proxy"]: None if grade["agreement"] is None else Agreement.from_dict(grade["agreement"])
        for grade in document["grades"]
    }
    rhos = {proxy: a.spearman.value for proxy, a in found.items() if a is not None and a.spearman is not None}
    searched = [proxy for proxy in rhos if proxy not in BASELINES]
    best, baseline = (max(of, key=lambda p: rhos[p], default=None) for of in (searched, set(rhos) & set(BASELINES)))
    lead = [f"{len(found)} proxies ranked {count} trained architectures of {name}, each without training them."]
    tiles = []
    for proxy, what in ((best, "best proxy"), (baseline, "best trivial baseline")):
        if proxy is not None:
            lead.append(f"The {what} is {proxy}, with a Spearman's rho of {signed(rhos[proxy], '.3f')}.")
            tiles.append(Tile(signed(rhos[proxy], ".3f"), f"rho of {proxy}", what))
    tiles.append(Tile(f"{document['chance']:.3f}", "rho by chance", "random scores exceed it in 5% of draws"))
    lead.append(f"Random scores exceed a rho of {document['chance']:.3f} in 5% of draws.")
    return Chapter(
        title=f"{name}: proxies graded",
        source=str(file),
        lead=[" ".join(lead)],
        tiles=[*tiles, Tile(f"{count:,}", "architectures", "trained")],
        parts=[_grades(document, found), *_beyond(document), _ranking(document, plugins), _provenance(document, file)],
        facts={"kind": "grading", "run": str(file), "benchmarks": [name], "spearman": rhos},
        comparison=[
            [words(str(file)), words(name), words(proxy), *estimates(found[proxy])[::2], words("all")]
            for proxy in (best, baseline)
            if proxy is not None
        ],
    )


def _grades(document: dict[str, Any], found: dict[str, Agreement | None]) -> Part:
    rows = [
        [
            words(grade["proxy"]),
            words(BETTER[grade["orientation"]]),
            number(0 if agreement is None else agreement.n),
            *estimates(agreement),
            *matched(agreement),
            number(None if agreement is None else agreement.top, ".2f"),
            number(grade["seconds"], ".3f"),
            words("; ".join(f"{n} {why}" for why, n in grade["unscored"].items())),
        ]
        for grade in document["grades"]
        for agreement in [found[grade["proxy"]]]
    ]
    header = ["proxy", "better", "n", "Spearman's rho", "95% interval", "Kendall's tau-b", "95% interval"]
    header += ["at equal size", "95% interval", "pairs", "top 10%"]
    drawn = {proxy: [("", agreement)] for proxy, agreement in found.items() if agreement is not None}
    plot = figures.intervals(drawn, [proxy for proxy in drawn if proxy not in BASELINES])
    sized = document.get("matched")  # not in one of version 0.1.0
    told = "" if sized is None else (
        f" At equal size: over the {sized['pairs']:,} pairs of architectures within {sized['within']:g} times "
        f"{sized['match']}, the share in which the better one scores higher minus that in which it scores lower."
    )  # fmt: skip
    return Part(
        "Agreement with trained performance",
        f"Intervals are of 1,000 bootstrap resamples of the architectures. Trivial baselines are drawn in grey.{told}",
        [Figure("Agreement of each proxy with trained performance.", plot)],
        [ReportTable("Grades of the proxies", [*header, "seconds each", "not scored"], rows)],
    )


def _beyond(document: dict[str, Any]) -> list[Part]:
    """What scores say beyond size, depth and width, where the grading says it."""
    rows = []
    for grade in document["grades"]:
        if not (said := grade.get("beyond")):
            continue
        rho, ridge, both = said["residual"], said["ridge"], said["ridge_with"]
        cells = interval(None if rho is None else Estimate(**rho))
        cells += [number(ridge, ".3f"), number(None if ridge is None or both is None else both - ridge, "+.3f")]
        for k in PICKS:
            for what in ("regret", "chance"):
                values = [one[what] for one in said["regret"] if one["k"] == k]
                cells.append(number(sum(values) / len(values) if values else None, ".4g"))
        rows.append([words(grade["proxy"]), *cells])
    if not rows:
        return []
    header = ["proxy", "residual rho", "95% interval", "ridge", "gain"]
    header += [text for k in PICKS for text in (f"regret of {k}", "by chance")]
    text = (
        "Residual rho: size, depth and width are regressed out of the ranks of scores and of trained performance. "
        "Ridge: the cross-validated rho of a regression on these three, and what the scores add to it. Regret: the "
        "trained performance that is lost if the best-scored architectures under a budget are trained, one or five of "
        "them; the mean over budgets at the quartiles of the sizes."
    )
    return [Part("Beyond size, depth and width", text, tables=[ReportTable("What scores add", header, rows)])]


def _ranking(document: dict[str, Any], plugins: PluginRegistry) -> Part:
    name, keys = document["benchmark"], document["architectures"]
    recorded = (document["metric"], document["larger_is_better"]) if "metric" in document else None
    metric, larger = recorded or metric_of(name, plugins) or ("trained performance", True)
    signs = {grade["proxy"]: grade["orientation"] for grade in document["grades"]}
    turned = {
        ("all", proxy): [None if v is None else v * signs[proxy] for v in document["scores"][proxy]] for proxy in signs
    }
    groups = {"all": {"architectures": range(len(keys))}}
    spec = figures.against_truth(keys, document["truth"], metric, larger, groups, turned, ("Architectures", "Proxy"))
    return Part(
        "Scores against truth",
        "Up and to the right is better on both axes: the dots of a perfect proxy rise without a fall. Point at a dot "
        "to see its architecture.",
        [Figure(f"{metric} of {len(keys)} trained architectures against their scores without training.", spec)],
    )


def _provenance(document: dict[str, Any], file: Path) -> Part:
    rows = [[words(name), code("—" if value is None else str(value))] for name, value in document["setting"].items()]
    rows.append([words("SHA-256 of the file"), code(hashlib.sha256(file.read_bytes()).hexdigest())])
    return Part("Provenance", tables=[ReportTable("Settings", ["what", "value"], rows)])
