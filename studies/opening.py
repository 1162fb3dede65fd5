"""The table that RESULTS.md opens with: what was claimed, and what was measured here."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from lpzero_hf.benchmarks.agreement import Truth, Vector
from studies.markdown import interval, pooled, spread, table
from studies.search.searched import both
from studies.search.transfer_protocol import opening as transfer_protocol
from studies.study import Runs, Study

FLEXIBERT, GPT2 = "flexibert", "gpt2-wt103"
CLAIMED = {  # rho and tau as printed
    "LPZero, as printed": {FLEXIBERT: "0.75 | 0.51", GPT2: "0.98 | 0.87 to 0.89"},
    "ZeroLM, as printed": {FLEXIBERT: "0.76 | 0.53", GPT2: "— | —"},
}
TRIVIAL = {
    "number of parameters": "params",
    "parameters outside embeddings": "decoder_params",
    "parameters of attention": "attention_params",
    "number of layers": "num_layers",
}
SPLITS = {FLEXIBERT: "search-flexibert", GPT2: "search-gpt2"}  # whose splits
ORIENTATION = {FLEXIBERT: 1, GPT2: -1}  # of LPZero's winners: smaller GPT-2 scores are better
OURS = {  # row: (winner or ensemble, the study of each benchmark)
    "**evolution**, one unary operation": ("winner", {FLEXIBERT: "evolution-flexibert", GPT2: "evolution-gpt2"}),
    "**evolution**, two": ("winner", {FLEXIBERT: "evolution-flexibert-2"}),
    "**exhaustive**, one": ("winner", {FLEXIBERT: "search-flexibert", GPT2: "search-gpt2"}),
    "**exhaustive**, two": ("winner", {FLEXIBERT: "search-flexibert-2"}),
    "five with summed ranks, one": ("ensemble", {FLEXIBERT: "search-flexibert", GPT2: "search-gpt2"}),
    "five with summed ranks, two": ("ensemble", {FLEXIBERT: "search-flexibert-2"}),
    "**one proxy for both**, evolution": ("winner", {FLEXIBERT: "evolution-both", GPT2: "evolution-both"}),
    "**one proxy for both**, exhaustive": ("winner", {FLEXIBERT: "search-both", GPT2: "search-both"}),
    "one set of five for both": ("ensemble", {FLEXIBERT: "search-both", GPT2: "search-both"}),
}
RIDGE = "d_model, n_layer"


class Opening(Study):
    """Papers, trivial counts and this project's searches side by side."""

    name = "opening"
    title = "At a glance"

    def show(self, runs: Runs) -> str:
        """The transfer protocol if it has been run, then the table of searches on one benchmark or two."""
        rows = [
            [what, *(cell.strip() for name in (FLEXIBERT, GPT2) for cell in printed[name].split("|"))]
            for what, printed in CLAIMED.items()
        ]
        rows.insert(1, ["LPZero, its published scores", *_cells_of(runs, _published)])
        for what, proxy in TRIVIAL.items():
            rows.append([what, *_cells_of(runs, partial(_counted, proxy=proxy))])
        rows.append(["ridge regression on width and depth (no proxy)", *_ridge(runs)])
        for what, (kind, studies) in OURS.items():
            rows.append([what, *_searched(runs, studies, kind)])
        heads = ["", f"{FLEXIBERT}: rho", "tau", f"{GPT2}: rho", "tau"]
        found = table(heads, rows)
        protocol = transfer_protocol(runs)
        return "\n\n".join([protocol, "### Searched on a part of each benchmark", found]) if protocol else found


def _searched(runs: Runs, studies: Mapping[str, str], kind: str) -> list[str]:
    cells: list[str] = []
    for name in (FLEXIBERT, GPT2):
        if name in studies:
            found = both(runs[studies[name]]["splits"], kind, "held_out", name)
            cells += [interval(estimate) for estimate in found]
        else:
            cells += ["—", "—"]
    return cells


def _cells_of(runs: Runs, scores: Callable[[Runs, str], Vector]) -> list[str]:
    """Rho and tau of given scores on what each split holds out."""
    cells: list[str] = []
    for name, study in SPLITS.items():
        graded, searched = runs["grades"][name], runs[study]
        truth = np.array(graded["truth"]) * (1 if graded["facts"]["better"] == "larger" else -1)
        values, found = scores(runs, name), []
        for split in searched["splits"]:
            part = random.Random(split["seed"]).sample(range(len(truth)), searched["plan"]["train"])
            rest = sorted(set(range(len(truth))) - set(part))
            found.append(Truth(truth[rest]).agreement(values[rest]))
        cells += [interval(pooled([one.spearman for one in found])), interval(pooled([one.kendall for one in found]))]
    return cells


def _published(runs: Runs, name: str) -> Vector:
    theirs = runs["published"][name]
    assert theirs["architectures"] == runs["grades"][name]["architectures"]
    return np.array(theirs["scores"]["lpzero"]) * ORIENTATION[name]


def _counted(runs: Runs, name: str, proxy: str) -> Vector:
    return np.array(runs["grades"][name]["scores"][proxy])


def _ridge(runs: Runs) -> list[str]:
    rows = {row["benchmark"]: row for row in runs["features"]["rows"] if row["features"] == RIDGE}
    return [spread(rows[name][kind], digits=3) for name in (FLEXIBERT, GPT2) for kind in ("rho", "tau")]


def reading(runs: Runs) -> str:
    """How to read the table."""
    searches = {name: runs[study] for name, study in SPLITS.items()}
    seeds = [split["seed"] for split in searches[FLEXIBERT]["splits"]]
    train = searches[FLEXIBERT]["plan"]["train"]
    rest = {name: len(runs["grades"][name]["truth"]) - search["plan"]["train"] for name, search in searches.items()}
    return "\n".join(
        [
            "- rho is Spearman's, tau is Kendall's tau-b. Both compare the scores of a proxy with the trained "
            "performance, and both are turned so that higher is better: a negative value is a proxy that ranks the "
            "wrong way round.",
            f"- All rows but the two printed ones are held out. Each of {len(seeds)} splits (seeds {seeds[0]} to "
            f"{seeds[-1]}) searches on {train} architectures, or on {train} of each benchmark for one proxy for both, "
            f"and is graded on the other {rest[FLEXIBERT]} of FlexiBERT and {rest[GPT2]} of GPT-2. Published scores, "
            "counts and the regression are graded on the same architectures.",
            "- Each number is the mean over splits. Brackets are a 95% interval of what one such search gives: its "
            "variance is that over splits plus that of a bootstrap over the held-out architectures. ± is the standard "
            "deviation over splits.",
            '- "one" and "two" are the unary operations in each branch of an expression. GPT-2 was not searched with '
            'two. Evolution has the paper\'s budget, a population of 80 and 1,000 children. "One proxy for both" is '
            "one formula with one unary operation, searched on both benchmarks at once.",
            "- `num_layers`, `num_heads`, `params` and `decoder_params` are the trivial baselines.",
            "- Brackets of a mean over splits are such intervals on all pages. Other brackets are 95% percentile "
            "bootstrap intervals (1,000 resamples of the architectures), unless a page says otherwise.",
            "- `docs/explanation/numbers.md` explains these measures.",
        ]
    )


LIMITS = """\
- The printed numbers are on all architectures, including those searched on, and have no intervals.
- How a winner is chosen from what a search keeps was decided while looking at these splits. On ten others, looked at
  once, it did no worse (`docs/explanation/what-was-tried.md`).
- Nine FlexiBERT architectures are in the benchmark twice, so up to three of those held out were also searched on.
- On GPT-2 a count of attention parameters, or a regression on width and depth, ranks as well as the searched proxies.
- Picking the top row of a table is a choice made on the data of that table. The searches choose on some of the
  architectures and report on the others.
- A proxy that was found on one benchmark need not rank another benchmark, and can rank worse on another minibatch. The
  pages on searches and on proxies have the measurements."""
