"""How many architectures with known performance a search needs."""

from __future__ import annotations

from typing import Any

from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.search import search
from studies.markdown import interval, table
from studies.search.searched import both, estimates
from studies.study import Progress, Runs, Study, executor_of

COUNTS = {"flexibert": (10, 20, 50, 100, 200), "gpt2-wt103": (10, 20, 50, 100, 150)}


class HowMany(Study):
    """The same exhaustive search on growing numbers of architectures."""

    name = "how-many"
    title = "How many architectures are enough"
    figures = ("how-many",)

    def make(self, progress: Progress) -> dict[str, Any]:
        """Ten splits for each count."""
        found: dict[str, Any] = {}
        for name, counts in COUNTS.items():
            found[name] = {}
            for count in counts:

                def step(what: str, done: int, total: int, best: float | None, on: str = f"{name}, {count}: ") -> None:
                    if what.startswith("search"):
                        progress(on + what, done, total)

                plan = SearchConfig((name,), strategy="exhaustive", train=count, splits=10)
                result = search(plan, executor=executor_of(), progress=step)
                found[name][str(count)] = [
                    {
                        "winner": split.winner.held_out[name].to_dict(),
                        "ensemble": split.ensemble.held_out[name].to_dict(),
                        "baselines": {p: agreement.to_dict() for p, agreement in split.baselines[name].items()},
                    }
                    for split in result.splits
                ]
        return found

    def show(self, runs: Runs) -> str:
        """A row for each count."""
        rows = []
        for name, counts in runs[self.name].items():
            for count, splits in counts.items():
                winner, ensemble = both(splits, "winner"), both(splits, "ensemble")
                numbers = [interval(estimate) for estimate in (*winner, *ensemble)]
                rows.append([name, count, *numbers])
        heads = ["benchmark", "searched on", "one expression: rho", "tau", "five, summed ranks: rho", "tau"]
        return (
            "Exhaustive search over one unary operation, ten splits for each number of architectures. The winner is "
            f"graded on all architectures that it was not searched on.\n\n{table(heads, rows)}"
        )

    def draw(self, runs: Runs) -> dict[str, Any]:
        """Held-out rho of every split against the number searched on."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        for axes, (name, counts) in zip(figure.subplots(1, 2), runs[self.name].items(), strict=True):
            for kind, colour in (("winner", "C0"), ("ensemble", "C1")):
                x, middle = [], []
                for count, splits in counts.items():
                    values = [e.value for e in estimates(splits, "spearman", kind) if e is not None]
                    axes.scatter([int(count)] * len(values), values, s=12, color=colour, alpha=0.4, linewidths=0)
                    x.append(int(count))
                    middle.append(sum(values) / len(values))
                axes.plot(x, middle, color=colour, label="one expression" if kind == "winner" else "five")
            best = max(
                (sum(e.value for e in row if e) / len(row), proxy)
                for proxy in next(iter(counts.values()))[0]["baselines"]
                if (row := estimates(counts["50"], "spearman", "baselines", proxy))
            )
            axes.axhline(best[0], color="0.4", linestyle="--", linewidth=1, label=best[1])
            axes.set_xscale("log")
            axes.set_xticks([int(count) for count in counts], list(counts))
            axes.minorticks_off()
            axes.set(title=name, xlabel="architectures searched on", ylabel="rho held out")
            axes.legend(fontsize=8, edgecolor="none", loc="lower right")
        return {"how-many": figure}
