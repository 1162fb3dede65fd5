"""The forms of what `lpz score` shows: tables for people, and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

from lpz_cli.evidence import COLUMNS, Found, evidence_cells, evidence_line, evidence_of_kinds
from lpz_cli.listing import BETTER
from lpz_cli.output import print_csv, print_table, say
from lpz_cli.score_live import duration
from lpzero_hf.errors import LpzError

if TYPE_CHECKING:
    from lpzero_hf.models.model_kind import Kind
    from lpzero_hf.plugins import PluginRegistry
    from lpzero_hf.proxies.base import Proxy
    from lpzero_hf.proxies.resolve import ProxySelection
    from lpzero_hf.scoring.comparability import ModelFacts
    from lpzero_hf.scoring.expected_time import ExpectedTime
    from lpzero_hf.scoring.run_plan import RunPlan
    from lpzero_hf.scoring.scores import Scores
    from lpzero_hf.scoring.seed_spread import Spread


@dataclass
class Result:
    """The result for one model: its scores, or the error, or the memory that they would need.

    Args:
        name: as asked for.
        facts: for JSON.
        kind: of the model.
        selection: its proxies.
        draws: its scores by each seed.
        compared: what is compared with other models.
        error: why there are none.
        plan: how they are made, and which are left out.
        expected: the time that they take; None if it is little.
    """

    name: str
    facts: dict[str, Any]
    kind: Kind = "other"
    selection: ProxySelection | None = None
    draws: list[Scores] = field(default_factory=list)
    compared: ModelFacts | None = None
    error: LpzError | None = None
    plan: RunPlan | None = None
    expected: ExpectedTime | None = None

    @property
    def scores(self) -> Scores | None:
        """By the first seed."""
        return self.draws[0] if self.draws and self.error is None else None

    def missing(self, seeds: int) -> list[str]:
        """The proxies without a row, or all of them if a draw is lacking; [""] where they are not known yet."""
        if self.error is not None:
            return []
        if self.selection is None:
            return [""]
        done = self.draws[0] if len(self.draws) == seeds else {}
        return [proxy.name for proxy in self.selection if proxy.name not in done]

    def spread(self, proxy: str) -> Spread | None:
        """Mean and deviation over seeds, where there are several."""
        from lpzero_hf.scoring.seed_spread import spread_of

        return spread_of([scores[proxy].value for scores in self.draws if proxy in scores])

    def proxy(self, name: str) -> Proxy:
        """One of the proxies."""
        assert self.selection is not None
        return next(one for one in self.selection if one.name == name)

    def elsewhere(self, name: str) -> str:
        """The minibatch that a proxy was searched on, if it is not this model's: "4 x 32"; else ""."""
        from lpzero_hf.proxies.resolve import searched_elsewhere

        sizes = self.facts.get("batch_size"), self.facts.get("seq_len")
        return "" if None in sizes else searched_elsewhere(self.proxy(name), *sizes)  # type: ignore[arg-type]  # no None


def beyond(results: Sequence[Result], proxy: str) -> list[tuple[str, str, bool]]:
    """For every two models with scores by several seeds, whether they differ by more than seeds make of them."""
    from lpzero_hf.scoring.seed_spread import beyond_seeds

    spreads = [(result.name, found) for result in results if (found := result.spread(proxy)) is not None]
    return [(one, two, beyond_seeds(first, second)) for (one, first), (two, second) in combinations(spreads, 2)]


def as_plans(results: Sequence[Result]) -> None:
    """Print the memory that models need, and the time where it is long."""
    planned = [(result, result.plan.estimate) for result in results if result.plan and result.plan.estimate]
    if not planned:
        return
    timed = any(result.expected for result, _ in planned)
    rows = []
    for result, estimate in planned:
        seconds = {} if result.expected is None else result.expected.steps
        times = {name.removesuffix(" pass"): duration(time) for name, time in seconds.items()}
        total = "" if result.expected is None else duration(result.expected.total)
        rows.append([result.name, "weights", "", "", "", f"{estimate.weights / 2**30:.2f}", ""])
        for need in estimate.passes:
            parts = (need.copies, need.gradients, need.activations, need.total)
            spent = times.get(need.name, "")
            rows.append([result.name, f"{need.name} pass", *(f"{part / 2**30:.2f}" for part in parts), spent])
        rows.append([result.name, "at most at a time", "", "", "", f"{estimate.bytes / 2**30:.2f}", total])
    header = ("model", "what", "copies", "gradients", "activations", "sum", "about")
    shown_columns = len(header) if timed else len(header) - 1
    print_table(
        "GiB beyond the memory in use now",
        header[:shown_columns],
        [row[:shown_columns] for row in rows],
        range(2, shown_columns),
    )
    for result, estimate in planned:
        assert result.plan is not None
        free = "unknown" if estimate.available is None else f"{estimate.available / 2**30:.1f} GiB"
        verdict = "it fits" if estimate.fits else f"it does not fit. {estimate.remedy()}"
        how = ", with checkpointing" if estimate.checkpointing else ""
        how += f", in micro-batches of {estimate.micro_batch}" if estimate.micro_batch else ""
        say(f"{result.name} needs {estimate.describe()}{how}. Free: {free}; {verdict}.")
        for name, reason in result.plan.left_out.items() if estimate.fits else ():
            say(f"{result.name}: '{name}' would be left out: {reason}")


def evidence_for(result: Result, proxy: str, kinds: Sequence[Kind], registry: PluginRegistry) -> Found:
    """What is known of a proxy of this model."""
    return evidence_of_kinds(result.proxy(proxy), kinds, registry)


def as_csv(results: Sequence[Result], registry: PluginRegistry, warnings: Sequence[str]) -> None:
    """Print a row for each model and proxy."""
    rows = []
    for result in results:
        for row in result.scores.rows if result.scores is not None else ():
            known = evidence_for(result, row.proxy, [result.kind], registry)[result.kind]
            told = ["", "", ""] if known is None else [known.matched, known.rho, len(known.measured)]
            value = "" if row.value is None else repr(row.value)
            spread = result.spread(row.proxy)
            drawn = ["", ""] if spread is None else [repr(spread.mean), repr(spread.sd)]
            rows.append(
                [result.name, row.proxy, value, row.status, row.orientation, row.reason, *told, *drawn,
                 result.elsewhere(row.proxy), "; ".join(warnings)]
            )  # fmt: skip
    header = ("model", "proxy", "score", "status", "orientation", "reason", "matched", "rho", "benchmarks", "mean",
              "sd", "searched on", "warnings")  # fmt: skip
    print_csv(header, rows)


def shown(value: float) -> str:
    """A score for people: counts in full, other numbers with six digits."""
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def as_table(
    results: Sequence[Result], registry: PluginRegistry, warnings: Sequence[str], *, whole: bool, asked: bool
) -> None:
    """Print a row for each proxy, with a column for each model.

    Args:
        results: of the models.
        registry: of the plugins.
        warnings: what makes the models hard to compare.
        whole: whether all proxies were asked for, so that the evidence is left out.
        asked: whether any were.
    """
    scored = [result for result in results if result.scores is not None]
    if not scored:
        return
    kinds = list(dict.fromkeys(result.kind for result in scored))
    several = any(len(result.draws) > 1 for result in scored)
    rows, elsewhere = [], dict[str, str]()
    for proxy in dict.fromkeys(proxy for result in scored for proxy in result.draws[0]):
        having = [result for result in scored if proxy in result.draws[0]]  # other kinds have other recommended ones
        notes = dict.fromkeys(
            f"{cell.status}: {cell.reason}" for one in having if (cell := one.draws[0][proxy]).value is None
        )
        values = [_value(result, proxy) if result in having else "" for result in scored]
        apart = [_apart(beyond(scored, proxy))] if several and len(scored) > 1 else []
        told = [] if whole else evidence_cells(evidence_for(having[0], proxy, kinds, registry))
        if sizes := next((sizes for one in having if (sizes := one.elsewhere(proxy))), ""):
            elsewhere[proxy] = sizes
        better = BETTER[having[0].draws[0][proxy].orientation]
        rows.append([f"{proxy} *" if sizes else proxy, *values, *apart, better, *told, "; ".join(notes)])
    names = ["score"] if len(scored) == 1 else [result.name for result in scored]
    apart_name = ["beyond seeds"] if several and len(scored) > 1 else []
    header = ["proxy", *names, *apart_name, "better", *([] if whole else COLUMNS)]
    numbers = [*range(1, len(names) + len(apart_name) + 1), *range(len(names) + len(apart_name) + 2, len(header))]
    if any(row[-1] for row in rows):
        header.append("note")
    print_table(_title(scored), header, [row[: len(header)] for row in rows], numbers)
    for proxies, sizes in _by_sizes(elsewhere):
        say(f"* {proxies} may rank differently here: searched on minibatches of {sizes} tokens.")
    if apart_name:
        say(
            "Beyond seeds: whether two models' means differ by more than two deviations of a difference between two "
            "draws; of more models, how many of their pairs do."
        )
    if not whole:
        say(evidence_line(kinds))
    if not asked:
        say("These are the recommended proxies; --proxy all scores with every one installed, `lpz proxies` lists them.")
    for warning in warnings:
        say(f"warning: {warning}")


def _title(scored: Sequence[Result]) -> str:
    title = f"{', '.join(result.name for result in scored)} · {scored[0].facts['weights']} weights"
    sizes = dict.fromkeys(f"{r.facts['batch_size']} x {r.facts['seq_len']}" for r in scored if r.facts["seq_len"])
    title += f" · {' / '.join(sizes)} tokens" if sizes else ""
    draws = len(scored[0].draws)
    return title + (f" · mean ± deviation of {draws} seeds" if draws > 1 else "")


def _value(result: Result, proxy: str) -> str:
    spread = result.spread(proxy)
    if spread is not None:
        return shown(spread.mean) + (f" ± {spread.sd:.2g}" if spread.sd else "")
    value = result.draws[0][proxy].value
    return "—" if value is None or len(result.draws) > 1 else shown(value)


def _apart(pairs: Sequence[tuple[str, str, bool]]) -> str:
    if len(pairs) < 2:
        return {True: "yes", False: "no"}[pairs[0][2]] if pairs else "—"
    return f"{sum(apart for _, _, apart in pairs)} of {len(pairs)}"


def _by_sizes(elsewhere: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        (", ".join(proxy for proxy, of in elsewhere.items() if of == sizes), sizes)
        for sizes in dict.fromkeys(elsewhere.values())
    ]
