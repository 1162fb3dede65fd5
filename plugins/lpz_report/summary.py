"""The summary of a search: its main numbers, in words, as tiles, and as rows of a table that compares runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from lpz_report.document import Cell, Tile, number, signed, words
from lpz_report.figures import MEASURES
from lpzero_hf.searching.result import SearchResult

OURS = ("winner", "ensemble")
TIMES = ("never", "once", "twice", "three times", "four times", "five times")
Found = dict[str, dict[str, float | int]]  # of one benchmark, by what ranks it; see `SearchResult.summary`


def lead(result: SearchResult) -> list[str]:
    """The summary in words, by paragraph."""
    config, count = result.config, len(result.splits)
    how = {"exhaustive": "enumerated", "random": "drew from", "evolution": "evolved expressions in"}[config.strategy]
    times = "" if count == 1 else f" {_spelled(count)}, each time on other architectures"
    paragraphs = [
        f"The search {how} a space of {result.size:,} expressions{times}. {'. '.join(_sizes(result))}. "
        f"{_mean(split.evaluated for split in result.splits):,.0f} expressions were evaluated"
        f"{' per split' if count > 1 else ''}, in {_mean(split.seconds for split in result.splits):,.1f} s."
    ]
    if config.several:
        paragraphs.append(
            f"Every architecture was scored under {len(config.several)} settings ({'; '.join(config.labels)}). The "
            f"fitness on a benchmark is the {config.over_settings} of them; the agreements below are their means."
        )
    for name, found in result.summary().items():
        sentence = _sentence(name, found, name in result.tests, count)
        if sentence:
            paragraphs.append(sentence)
    if not any(split.winner.held_out for split in result.splits):
        paragraphs.append(
            "Nothing was held out: the numbers show how well the expressions rank the architectures searched on, not "
            "how well they rank others."
        )
    if result.ceiling is not None:
        paragraphs.append(
            f"The fittest expression on all architectures at once reaches {result.ceiling.fitness:.3f}. It is an upper "
            f"bound for this space, not a result: {result.ceiling.expression}."
        )
    return paragraphs


def _sizes(result: SearchResult) -> list[str]:
    sentences = []
    for name, keys in result.architectures.items():
        seen = len(result.splits[0].trained_on[name])
        saw = f"Of {len(keys)} architectures of {name} it saw the trained performance of"
        held = len(result.held_out(result.splits[0])[name])
        again = len(keys) - seen - held
        twice = f", and {again} more are the same under another key" if again else ""
        sentences.append(f"{saw} {seen}{twice}; the other {held} were held out" if seen < len(keys) else f"{saw} all")
    return sentences


def _sentence(name: str, found: Found, tested: bool, count: int) -> str:
    if "winner" not in found:
        return ""
    several = count > 1
    winner = found["winner"]
    where = f"On {name}, which was not searched on," if tested else f"On the held-out architectures of {name},"
    text = (
        f"{where} the {'winners reach' if several else 'winner reaches'} a Spearman's rho of "
        f"{_spread(winner, 'spearman')} and a Kendall's tau-b of {_spread(winner, 'kendall')}"
    )
    if "ensemble" in found:
        text += f"; rank ensembles reach {_spread(found['ensemble'], 'spearman')}"
    baseline = _best_baseline(found)
    if baseline is not None:
        text += f"; the best trivial baseline, {baseline}, {signed(found[baseline]['spearman'], '.3f')}"
    if "spearman_lowest" in winner:
        low, high = (signed(winner[f"spearman_{end}"], ".3f") for end in ("lowest", "highest"))
        text += f"; setting by setting, the winner's rho goes from {low} to {high}"
    return f"{text}{f' (mean ± standard deviation of {count} splits)' if several else ''}."


def tiles(result: SearchResult) -> list[Tile]:
    """The main numbers."""
    made = []
    for name, found in result.summary().items():
        also = f", {name}" if len(result.config.benchmarks) + len(result.tests) > 1 else ""
        where = f"held out, {name}" if name not in result.tests else f"test, {name}"
        for what in OURS:
            if what in found:
                spread = f"± {found[what]['spearman_sd']:.3f}" if "spearman_sd" in found[what] else ""
                made.append(
                    Tile(signed(found[what]["spearman"], ".3f"), f"rho of the {what}", f"{spread} {where}".strip())
                )
        baseline = _best_baseline(found)
        if baseline is not None:
            made.append(
                Tile(signed(found[baseline]["spearman"], ".3f"), f"rho of {baseline}", f"best trivial baseline{also}")
            )
    if not made:
        made.append(
            Tile(f"{max(s.fittest[0].fitness for s in result.splits):.3f}", "highest fitness", "nothing held out")
        )
    made.append(Tile(f"{result.size:,}", "expressions", "in the space"))
    made.append(Tile(f"{result.seconds['all']:,.1f} s", "in all", f"{result.seconds['capture']:,.1f} s of it capture"))
    return made


def compared(result: SearchResult, folder: Path) -> list[list[Cell]]:
    """Rows of the table that compares runs: the winner, the ensemble and the best trivial baseline."""
    rows = []
    for name, found in result.summary().items():
        baseline = _best_baseline(found)
        for what in [*OURS, *([baseline] if baseline else [])]:
            if what in found:
                rho, tau = (number(found[what][kind], text=_spread(found[what], kind)) for kind in MEASURES)
                on = "not searched on" if name in result.tests else "held out"
                rows.append([words(str(folder)), words(name), words(what), rho, tau, words(on)])
    return rows


def _best_baseline(found: Found) -> str | None:
    names = [name for name in found if name not in OURS]
    return max(names, key=lambda name: found[name]["spearman"], default=None)


def _spread(found: dict[str, float | int], kind: str) -> str:
    """A mean, and its deviation if it is of several splits."""
    return signed(found[kind], ".3f") + (f" ± {found[f'{kind}_sd']:.3f}" if f"{kind}_sd" in found else "")


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _spelled(count: int) -> str:
    return TIMES[count] if count < len(TIMES) else f"{count} times"
