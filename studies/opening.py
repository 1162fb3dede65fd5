"""The table that RESULTS.md opens with: what was claimed, and what was measured here."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np

from lpzero_hf.agreement import Estimate, Truth
from studies.markdown import interval, pooled, table
from studies.searched import both
from studies.study import Runs, Study

FLEXIBERT, GPT2 = "flexibert", "gpt2-wt103"
CLAIMED = {  # rho and tau as printed
    "LPZero, as printed": {FLEXIBERT: "0.75 | 0.51", GPT2: "0.98 | 0.87 to 0.89"},
    "ZeroLM, as printed": {FLEXIBERT: "0.76 | 0.53", GPT2: "— | —"},
}
TRIVIAL = {"number of parameters": "params", "parameters without embeddings": "decoder_params", "layers": "num_layers"}
PUBLISHED = {FLEXIBERT: "search-flexibert", GPT2: "search-gpt2"}  # whose splits
ORIENTATION = {FLEXIBERT: 1, GPT2: -1}  # of LPZero's winners: smaller GPT-2 scores are better
OURS = {  # row: (winner or ensemble, the study of each benchmark)
    "**evolution** (one expression)": ("winner", {FLEXIBERT: "evolution-flexibert-2", GPT2: "evolution-gpt2"}),
    "**exhaustive** (one expression)": ("winner", {FLEXIBERT: "search-flexibert-2", GPT2: "search-gpt2"}),
    "**exhaustive**, five with summed ranks": ("ensemble", {FLEXIBERT: "search-flexibert-2", GPT2: "search-gpt2"}),
    "**one proxy for both**, evolution": ("winner", {FLEXIBERT: "evolution-both", GPT2: "evolution-both"}),
    "**one proxy for both**, exhaustive": ("winner", {FLEXIBERT: "search-both", GPT2: "search-both"}),
    "**one proxy for both**, five with summed ranks": ("ensemble", {FLEXIBERT: "search-both", GPT2: "search-both"}),
}


class Opening(Study):
    """Papers, trivial counts and this project's searches side by side."""

    name = "opening"
    title = "At a glance"
    makes = False
    needs = ("published", "grades", "search-flexibert-2", "search-gpt2", "search-both", "evolution-flexibert-2",
             "evolution-gpt2", "evolution-both")  # fmt: skip

    def show(self, runs: Runs) -> str:
        """The table, and how to read it."""
        rows = [
            [what, *(cell.strip() for name in (FLEXIBERT, GPT2) for cell in told[name].split("|"))]
            for what, told in CLAIMED.items()
        ]
        rows.insert(1, ["LPZero, its published scores", *_published(runs)])
        for what, proxy in TRIVIAL.items():
            rows.append([what, *_cells(runs, {FLEXIBERT: "search-flexibert", GPT2: "search-gpt2"}, "baselines", proxy)])
        for what, (kind, studies) in OURS.items():
            rows.append([what, *_cells(runs, studies, kind)])
        heads = ["", f"{FLEXIBERT}: rho", "tau", f"{GPT2}: rho", "tau"]
        return f"{table(heads, rows)}\n\n{_NOTE}"


def _cells(runs: Runs, studies: Mapping[str, str], kind: str, proxy: str = "") -> list[str]:
    cells: list[str] = []
    for name, study in studies.items():
        path = (kind, name, proxy) if proxy else (kind, "held_out", name)
        found: tuple[Estimate | None, ...] = both(runs[study]["splits"], *path)
        cells += [interval(estimate) for estimate in found]
    return cells


def _published(runs: Runs) -> list[str]:
    """The published scores of LPZero's winners on what each split holds out."""
    cells: list[str] = []
    for name, study in PUBLISHED.items():
        theirs, graded = runs["published"][name], runs["grades"][name]
        assert theirs["architectures"] == graded["architectures"]
        larger = graded["facts"]["better"] == "larger"
        truth = np.array(graded["truth"]) * (1 if larger else -1)
        scores = np.array(theirs["scores"]["lpzero"]) * ORIENTATION[name]
        found = []
        for split in runs[study]["splits"]:
            part = random.Random(split["seed"]).sample(range(len(truth)), runs[study]["plan"]["train"])
            rest = sorted(set(range(len(truth))) - set(part))
            found.append(Truth(truth[rest]).agreement(scores[rest]))
        cells += [interval(pooled([one.spearman for one in found])), interval(pooled([one.kendall for one in found]))]
    return cells


_NOTE = """\
All rows but the two printed ones are held out: each of ten splits searches on 50 architectures (50 of each for one
proxy for both) and is graded on the other 450 of FlexiBERT and 150 of GPT-2; published scores and trivial counts are
graded on the same. The number is the mean over splits; the brackets are a 95% interval of what one such search gives,
from the variance over splits and that of a bootstrap over the held-out architectures. The papers' figures are on all
architectures, searched on or not, and without intervals. Evolution has the seed paper's budget, a population of 80
and 1,000 children; on FlexiBERT both search two unary operations in each branch, elsewhere one. "One proxy for both"
is one formula searched on both benchmarks at once."""
