"""Tables and figure of the choices under budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studies.markdown import table

SHOWN = {  # in the figure: way to choose, its colour
    "lpzero-any": "C3",
    "decoder_params": "C0",
    "attention_params": "C2",
    "num_layers": "C4",
    "params": "0.6",
}
WINNER = "lpzero-any"


class Page:
    """The section of the results.

    Args:
        data: what the study has made.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data, self.pools = data, data["pools"]

    def text(self) -> str:
        """What was done, what came of it, and the tables."""
        options, rival = self.data["options"], self.data["rival"]
        about = (
            "Candidates are trained architectures, with their trained performance hidden. Under each budget every way "
            "to choose takes the architecture that it scores best. Each kind has "
            f"{options['budgets']} budgets, and each budget {options['seeds']:,} seeds. Scores are deterministic, so a "
            "seed draws the candidates: a bootstrap resample of the architectures, the same for all. Limits go from "
            "one that a tenth of the architectures meets to one that all meet; at equal size the candidates lie within "
            "10% of one size. The percentile is the true place of the choice among the candidates, 0 for the best. "
            "Brackets hold the means of 95% of the seeds.\n\n"
            f"`{rival}` is what LiteTransformerSearch chooses by. The published logs of these models hold no latency; "
            "the seconds of training, the same number of steps for all, are the time that they do hold. "
            "The other ways are counts, the shipped winners, and what `lpz score` recommends for decoders by evidence "
            "that includes these benchmarks. `consensus without it` is what the rule behind "
            "`lpzero-any` chooses without the benchmark of the table, so that is held out; on both benchmarks it names "
            "the proxies that `lpzero-any` has."
        )
        return "\n\n".join([about, self.verdicts(), *(part for pool in self.pools for part in self.parts(pool))])

    def verdicts(self) -> str:
        """Where the shipped winner chooses better than the rival, and where it does not."""
        rival = self.data["rival"]
        lines = []
        for pool in self.pools:
            if pool["without"]:
                continue
            winners = [
                (kind["kind"], row) for kind in pool["kinds"] for row in kind["rows"] if row["chooser"] == WINNER
            ]
            for measure, column, digits in (("percentile", "saved", 1), (pool["metric"], "saved_regret", 2)):
                found: dict[str, list[str]] = {}
                for kind, row in winners:
                    told = f"{kind} ({signed(row[column], digits)})"
                    found.setdefault(verdict(row[column]), []).append(told)
                text = "; ".join(f"{what}: {', '.join(kinds)}" for what, kinds in sorted(found.items()))
                lines.append(f"- {pool['benchmark']}, {measure}, {text}.")
        return (
            f"By how much the choice of `{WINNER}` is nearer to the best than that of `{rival}`, in points of the "
            "percentile and in the metric:\n\n" + "\n".join(lines)
        )

    def parts(self, pool: Mapping[str, Any]) -> list[str]:
        """The tables of one pool."""
        others = f", without {pool['without']} that a proxy was searched on" if pool["without"] else ""
        seen = "; ".join(f"`{name}` was {what}" for name, what in pool["seen"].items())
        heads = [kind["kind"] for kind in pool["kinds"]]
        order = self.order(pool)
        rows = {kind["kind"]: {row["chooser"]: row for row in kind["rows"]} for kind in pool["kinds"]}

        def made(column: str, digits: int) -> str:
            return table(
                ["chosen by", *heads],
                [
                    [f"{name} †" if name in pool["seen"] else name]
                    + [shown(rows[kind][name][column], digits) for kind in heads]
                    for name in order
                ],
            )

        rival = self.data["rival"]
        return [
            f"### {pool['benchmark']}, {pool['n']} architectures{others}",
            f"The true percentile of the choice, 0 for the best. † not held out: {seen}.",
            made("percentile", 1),
            f"The percentile of the choice of `{rival}` less that of this one, draw by draw; above 0 is better:",
            made("saved", 1),
            f"The regret, {pool['metric']} of the choice less that of the best candidate:",
            made("regret", 2),
        ]

    def order(self, pool: Mapping[str, Any]) -> list[str]:
        """The ways to choose, the best on average over the kinds first."""
        sums: dict[str, float] = {}
        for kind in pool["kinds"]:
            for row in kind["rows"]:
                sums[row["chooser"]] = sums.get(row["chooser"], 0.0) + row["percentile"]["value"]
        return sorted(sums, key=lambda name: sums[name])

    def figure(self) -> Any:
        """The percentile of some ways to choose by kind of budget, a panel for each pool with all architectures."""
        from matplotlib.figure import Figure

        pools = [pool for pool in self.pools if not pool["without"]]
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        for axes, pool in zip(figure.subplots(1, len(pools), squeeze=False)[0], pools, strict=True):
            for number, (name, colour) in enumerate(SHOWN.items()):
                found = [row["percentile"] for kind in pool["kinds"] for row in kind["rows"] if row["chooser"] == name]
                places = [place + 0.14 * (number - len(SHOWN) / 2) for place in range(len(found))]
                sides = [[abs(one["value"] - one[side]) for one in found] for side in ("low", "high")]
                axes.errorbar(
                    [one["value"] for one in found], places, xerr=sides, fmt="o", markersize=4, linewidth=1,
                    color=colour, label=name,
                )  # fmt: skip
            axes.set_yticks(range(len(pool["kinds"])), [kind["kind"] for kind in pool["kinds"]])
            axes.invert_yaxis()
            axes.set(title=pool["benchmark"], xlabel="true percentile of the choice (0 best)", xlim=(0, None))
        figure.legend(*axes.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=len(SHOWN))
        return figure


def verdict(saved: Mapping[str, float]) -> str:
    """What an interval of a difference says, in words."""
    if saved["low"] > 0:
        return "better"
    return "worse" if saved["high"] < 0 else "no difference to be seen"


def signed(of: Mapping[str, float], digits: int) -> str:
    """A difference with its interval."""
    return f"{of['value']:+.{digits}f} [{of['low']:+.{digits}f}, {of['high']:+.{digits}f}]"


def shown(of: Mapping[str, float], digits: int) -> str:
    """An estimate with its interval."""
    return f"{of['value']:.{digits}f} [{of['low']:.{digits}f}, {of['high']:.{digits}f}]"
