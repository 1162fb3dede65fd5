"""The chapter of a search: the content of its run folder in words, tables, plots and drawings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from lpz_report import figures
from lpz_report.command import command, only_in_python
from lpz_report.document import Chapter, Drawing, Figure, Part, ReportTable, code, estimates, matched, number, words
from lpz_report.metric import metric_of
from lpz_report.summary import OURS, compared, lead, listed, tiles
from lpz_report.trees import draw_tree, spell
from lpzero_hf.benchmarks.agreement import Agreement
from lpzero_hf.errors import LpzError
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.searching.correlation import mid_ranks
from lpzero_hf.searching.pruning import REASONS
from lpzero_hf.searching.result import SearchResult, Split, Winner, read_result
from lpzero_hf.searching.run_folder import read_history

MEMBERS = ("split", "member", "expression", "better is", "complexity")
FITTEST = ("split", "place", "fitness", "complexity", "expression")
FRONT = ("split", "complexity", "fitness", "expression")
SEARCHES = {"exhaustive": "exhaustive search", "random": "random search", "evolution": "evolution of proxies"}
FITNESS = figures.MEASURES | {
    "matched": "agreement at matched size",
    "mixed": "mean of Spearman's rho and agreement at matched size",
}
Rows = dict[str, list[tuple[str, Agreement]]]


def search_chapter(folder: Path, number_of: int, plugins: PluginRegistry) -> Chapter:
    """All about the search in `folder`.

    Args:
        folder: of a run of `lpz search --out`.
        number_of: of the chapter on the page.
        plugins: where operations and benchmarks are looked up.

    Raises:
        LpzError: there is no finished search in it, or a file is damaged.
    """
    result = read_result(folder, installed_operations(plugins))
    histories = read_history(folder)[: len(result.splits)]
    if len(histories) < len(result.splits):
        raise LpzError(f"'{folder}' lacks the history of a split; search again with `resume=True`")
    rows = {name: _held_out(result, name) for name in result.config.benchmarks}
    parts = [
        _correlations(result, rows),
        *(_ranking(result, name, plugins) for name in result.config.benchmarks),
        _expressions(result, number_of, plugins),
        _progress(result, histories),
        _effort(result),
        _provenance(result, folder),
    ]
    return Chapter(
        title=f"{listed(result.config.benchmarks)}: {SEARCHES[result.config.strategy]}",
        source=str(folder),
        lead=lead(result),
        tiles=tiles(result),
        parts=parts,
        facts={"kind": "search", "run": str(folder), "benchmarks": list(result.config.benchmarks)}
        | {"strategy": result.config.strategy, "splits": len(result.splits), "summary": result.summary()},
        comparison=compared(result, folder),
    )


# How well the winners rank ---------------------------------------------------------------------------------


def _held_out(result: SearchResult, name: str) -> Rows:
    """Agreements on held-out architectures by the name of what ranks them, each with its split."""
    several = len(result.splits) > 1
    rows: Rows = {}
    for at, split in enumerate(result.splits):
        found = {what: getattr(split, what).held_out.get(name) for what in OURS} | split.baselines.get(name, {})
        for what, agreement in found.items():
            if agreement is not None:
                rows.setdefault(what, []).append((f"split {at}" if several else "", agreement))
    return rows


def _correlations(result: SearchResult, rows: dict[str, Rows]) -> Part:
    plots = [
        Figure(
            f"{name}: agreement with trained performance on held-out architectures"
            + (", a dot for each split; bars are means." if len(result.splits) > 1 else "."),
            figures.intervals(found, OURS),
        )
        for name, found in rows.items()
        if found
    ]
    header = [
        "benchmark",
        "split",
        "ranked by",
        "n",
        "Spearman's rho",
        "95% interval",
        "Kendall's tau-b",
        "95% interval",
        "at equal size",
        "95% interval",
        "pairs",
    ]
    table = (
        [
            [words(name), number(at), words(what), number(agreement.n), *estimates(agreement), *matched(agreement)]
            for name in result.config.benchmarks
            for at, split in enumerate(result.splits)
            for what, agreement in _of_split(split, name)
        ]
        + [
            [
                words(name),
                number(at),
                words("winner (not searched on)"),
                number(agreement.n),
                *estimates(agreement),
                *matched(agreement),
            ]
            for name, tests in result.tests.items()
            for at, agreement in enumerate(tests)
        ]
        + [
            [words(name), number(None), words(what), number(agreement.n), *estimates(agreement), *matched(agreement)]
            for name, found in result.test_baselines.items()
            for what, agreement in found.items()
        ]
    )
    return Part(
        "Agreement with trained performance",
        "Intervals are of 1,000 bootstrap resamples of the architectures. "
        f"Rows marked (train) are of those searched on. At equal size: over the pairs of architectures within "
        f"{result.config.within:g} times {result.config.match}, the share in which the better one scores higher minus "
        "that in which it scores lower.",
        plots,
        [ReportTable("Every correlation", header, table), *_under_settings(result, header)],
    )


def _under_settings(result: SearchResult, header: Sequence[str]) -> list[ReportTable]:
    """The held-out agreement under each of several settings, of which the other table has the mean."""
    config = result.config
    if not config.several:
        return []
    found = [
        (name, at, setting, what, held)
        for name in config.benchmarks
        for at, split in enumerate(result.splits)
        for what in OURS
        for setting, graded in zip(config.labels, getattr(split, what).settings, strict=True)
        if (held := graded.held_out.get(name)) is not None
    ] + [
        (name, at, setting, "winner (not searched on)", agreement)
        for setting, tests in zip(config.labels, result.setting_tests, strict=True)
        for name, agreements in tests.items()
        for at, agreement in enumerate(agreements)
    ]
    rows = [
        [words(name), number(at), words(setting), words(what), number(a.n), *estimates(a), *matched(a)]
        for name, at, setting, what, a in found
    ]
    caption = f"Under each setting; the fitness is the {config.over_settings} of them, other numbers are their mean"
    return [ReportTable(caption, [*header[:2], "setting", *header[2:]], rows)]


def _of_split(split: Split, name: str) -> Iterable[tuple[str, Agreement]]:
    for what in OURS:
        winner: Winner = getattr(split, what)
        if name in winner.held_out:
            yield what, winner.held_out[name]
        yield f"{what} (train)", winner.train[name]
    yield from split.baselines.get(name, {}).items()
    yield from ((f"{what} (train)", agreement) for what, agreement in split.train_baselines.get(name, {}).items())


def _ranking(result: SearchResult, name: str, plugins: PluginRegistry) -> Part:
    metric, larger = metric_of(name, plugins, result.config.table) or ("trained performance, higher is better", True)
    keys = result.architectures[name]
    places = {key: at for at, key in enumerate(keys)}
    groups, scores = {}, {}
    for at, split in enumerate(result.splits):
        label = f"split {at}"
        seen = [places[key] for key in split.trained_on[name]]
        groups[label] = {"searched on": seen, "held out": result.held_out(split)[name]}
        for what in OURS:
            settings = getattr(split, what).by_setting
            for setting, graded in zip(result.config.labels, settings, strict=True):
                scores[label, f"{what}, {setting}" if setting else what] = _one_score(graded.scores[name])
    quality = [value if larger else -value for value in result.truth[name]]
    spec = figures.against_truth(keys, quality, metric, larger, groups, scores, ("Split", "Ranked by"))
    return Part(
        f"Scores against truth: {name}",
        "Up and to the right is better on both axes: the dots of a perfect proxy rise without a fall. Point at a dot "
        "to see its architecture.",
        [Figure(f"{metric} of {len(keys)} trained architectures against their scores without training.", spec)],
    )


def _one_score(members: Sequence[Sequence[float | None]]) -> list[float | None]:
    """[n], the scores of one expression, or the summed ranks of several where all have a score."""
    if len(members) == 1:
        return list(members[0])
    import torch

    found: list[float | None] = [None] * len(members[0])
    there = [i for i in range(len(found)) if all(scores[i] is not None for scores in members)]
    if there:
        summed = mid_ranks(torch.tensor([[scores[i] for i in there] for scores in members], dtype=torch.float64)).sum(0)
        for i, value in zip(there, summed.tolist(), strict=True):
            found[i] = value
    return found


# What was found --------------------------------------------------------------------------------------------


def _expressions(result: SearchResult, chapter: int, plugins: PluginRegistry) -> Part:
    winners: dict[tuple[str, int], list[int]] = {}
    for at, split in enumerate(result.splits):
        winner = split.winner
        winners.setdefault((str(winner.expressions[0]), winner.orientations[0]), []).append(at)
    drawings = []
    for place, ((text, sign), splits) in enumerate(winners.items()):
        expression = result.splits[splits[0]].winner.expressions[0]
        svg = draw_tree(expression, sign, f"tree-{chapter}-{place}", installed_operations(plugins))
        drawings.append(
            Drawing(svg, text, f"Winner of {_of_splits(splits, len(result.splits))}: {spell(expression, sign)}.")
        )
    members = [
        [number(at), number(row + 1), code(str(e)), words("higher" if sign > 0 else "lower"), number(e.complexity)]
        for at, split in enumerate(result.splits)
        for row, (e, sign) in enumerate(zip(split.ensemble.expressions, split.ensemble.orientations, strict=True))
    ]
    fittest = [
        [
            number(at),
            number(row + 1),
            number(c.fitness, ".4f"),
            number(c.expression.complexity),
            code(str(c.expression)),
        ]
        for at, split in enumerate(result.splits)
        for row, c in enumerate(split.fittest)
    ]
    pareto = [
        [number(at), number(c.expression.complexity), number(c.fitness, ".4f"), code(str(c.expression))]
        for at, split in enumerate(result.splits)
        for c in split.pareto
    ]
    plot = figures.front([split.pareto for split in result.splits], _fitness(result))
    return Part(
        "Expressions found",
        "Read a tree from the leaves: statistics of the untrained network, the unary operations on each, the binary "
        "operation, and the folds over the elements of a layer and over all layers to one score.",
        [Figure("Fitness against complexity: the fittest expression that is no more complex.", plot)],
        [
            ReportTable("Members of the rank ensembles", MEMBERS, members),
            ReportTable("Fittest on the architectures searched on", FITTEST, fittest),
            ReportTable("Fitness against complexity", FRONT, pareto),
        ],
        drawings,
    )


def _progress(result: SearchResult, histories: Sequence[Sequence[dict[str, object]]]) -> Part:
    grids = result.config.strategy == "exhaustive"
    dots = "" if grids else " Faint dots are the expressions themselves."
    curves = figures.search_curves(histories, _fitness(result), not grids)
    return Part("Progress of the search", "", [Figure(f"Highest fitness so far.{dots}", curves)])


def _effort(result: SearchResult) -> Part:
    reasons = [
        (when, reason)
        for when in ("pruned", "rejected")
        for reason in dict.fromkeys(reason for split in result.splits for reason in getattr(split, when))
    ]
    rows = [
        [words("evaluated"), words("")] + [number(split.evaluated) for split in result.splits],
        *(
            [
                words("rejected before evaluation" if when == "pruned" else "rejected after evaluation"),
                words(REASONS.get(reason, reason)),
            ]
            + [number(getattr(split, when).get(reason, 0)) for split in result.splits]
            for when, reason in reasons
        ),
        [words("seconds"), words("without capture")] + [number(split.seconds, ",.2f") for split in result.splits],
    ]
    header = ["what", "why", *(f"split {at}" for at in range(len(result.splits)))]
    return Part(
        "Evaluated and rejected",
        "Candidates are rejected before evaluation if another one is known to give the same ranking, or if all their "
        "scores are known to be equal.",
        tables=[ReportTable("Candidates: evaluated or rejected", header, rows)],
    )


def _provenance(result: SearchResult, folder: Path) -> Part:
    config = result.config
    digest = hashlib.sha256((folder / "result.json").read_bytes()).hexdigest()
    settings = config.to_json()
    rows = [[words(name), code(_plainly(value))] for name, value in settings.items() if name != "setting"]
    rows += [[words(f"minibatch and weights: {name}"), code(_plainly(v))] for name, v in settings["setting"].items()]
    rows += [[words("seeds of the splits"), code(_plainly([split.seed for split in result.splits]))]]
    rows += [[words(f"version of {name}"), code(version)] for name, version in result.versions.items()]
    rows += [[words("SHA-256 of result.json"), code(digest)]]
    beyond = only_in_python(config)
    return Part(
        "Provenance",
        "This command searches again, with the same versions to the last digit on a CPU."
        + (f" Settings that it does not take were given in Python: {beyond}." if beyond else "")
        + (" RUN is the folder of the search that it began with." if config.starts else ""),
        tables=[ReportTable("Settings, seeds and versions", ["what", "value"], rows)],
        listing=command(config, list(result.tests), result.ceiling is not None),
    )


# Words -----------------------------------------------------------------------------------------------------


def _fitness(result: SearchResult) -> str:
    several = f", {result.config.combine} of benchmarks" if len(result.config.benchmarks) > 1 else ""
    count = len(result.config.several)
    under = f", {result.config.over_settings} of {count} settings" if count else ""
    return f"fitness: |{FITNESS[result.config.fitness]}|{under}{several}"


def _plainly(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "—" if value is None else str(value)


def _of_splits(splits: Sequence[int], count: int) -> str:
    if count == 1:
        return "the search"
    return f"split{'s' if len(splits) > 1 else ''} {listed([str(at) for at in splits])}"
