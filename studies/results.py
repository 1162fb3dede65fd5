"""RESULTS.md, and the pages and figures of docs/results, made from the run files of all studies."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lpzero_hf.files import read_json, write_text
from studies.cost.capture import Capture, estimated
from studies.cost.costs import CostStudy
from studies.markdown import table
from studies.nas.budgets import Nas
from studies.opening import LIMITS, Opening, reading
from studies.paper.figure1 import Figure1
from studies.paper.figure5 import Figure5
from studies.paper.figure6 import Figure6
from studies.paper.figure7 import Figure7
from studies.paper.initialised import Initialised
from studies.paper.published import Published
from studies.paper.rebuilt import Rebuilt
from studies.paper.table3 import Table3
from studies.paper.table4 import Table4
from studies.paper.table5 import Table5
from studies.proxies.features import Features
from studies.proxies.grades import FURTHER, Grades
from studies.proxies.noise import Noise
from studies.proxies.pareto import Pareto
from studies.proxies.sensitivity import Sensitivity
from studies.proxies.winners import Winners
from studies.search.ablations import Ablations
from studies.search.consensus import KeptProtocol
from studies.search.ensembles import Ensembles
from studies.search.how_many import HowMany
from studies.search.scheme_comparison import Schemes
from studies.search.searched import SEARCHES
from studies.search.transfer import Transfer
from studies.search.transfer_protocol import TransferProtocol
from studies.study import RUNS, Run, Study, kept, write_records

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "results"
SHOWN = RUNS / "shown.json"  # how long tables and figures took
QUESTION = "How well do searched proxies rank architectures that they were not searched on?"
HOW_TO_READ = "[How to read the numbers](index.md#how-to-read-the-numbers)"
SECTIONS = ("At a glance", "How to read the numbers", "What limits the numbers", "How the results are made")
STUDIES: tuple[Study, ...] = (  # in the order in which they are made; a page shows its own in this order
    Opening(),
    Figure1(),
    Table3(),
    Table4(),
    Figure5(),
    Figure6(),
    Figure7(),
    Table5(),
    Published(),
    Rebuilt(),
    Initialised(),
    Grades(),
    *FURTHER,
    Winners(),
    Capture(),
    *SEARCHES,
    Ensembles(),
    KeptProtocol(),
    TransferProtocol(),
    Transfer(),
    HowMany(),
    Sensitivity(),
    Noise(),
    Pareto(),
    CostStudy(),
    Ablations(),
    Schemes(),
    Features(),
    Nas(),
)
PAGES = {  # by the folder of their studies: title, and what the page answers
    "paper": (
        "The paper's tables and figures",
        "How far do the printed numbers agree with ours, and why do some differ?",
    ),
    "search": (
        "Searches",
        "What do searches find, does it hold on other benchmarks, and what does each part of a search contribute?",
    ),
    "proxies": (
        "Proxies",
        "How well does every proxy rank every benchmark, and how do noise, minibatch, seed and precision limit that?",
    ),
    "nas": (
        "Architectures under a budget",
        "Which proxy chooses a good architecture under a budget of parameters or time, or at one size?",
    ),
    "cost": (
        "Costs",
        "How much time and memory do searches, scores and large models take?",
    ),
}


def write(timed: bool = False) -> list[Path]:
    """Write RESULTS.md, and docs/results with its figures.

    Args:
        timed: also keep how long that took, for the next RESULTS.md.

    Returns:
        The files written.
    """
    from lpz_cli.plots.scatter import save

    start = time.perf_counter()
    runs = kept(STUDIES)
    data = {name: run.data for name, run in runs.items()}
    written = []
    for study in STUDIES:
        for name, figure in study.draw(data).items():
            written.append(FOLDER / "figures" / f"{name}.png")
            save(figure, written[-1])
    if timed:
        texts(runs)
        write_records(SHOWN, {"seconds": round(time.perf_counter() - start, 1)})
    for file, text in texts(runs).items():
        written.append(file)
        write_text(file, text)
    return written


def texts(runs: Mapping[str, Run]) -> dict[Path, str]:
    """RESULTS.md and the pages of docs/results by their files."""
    data = {name: run.data for name, run in runs.items()}
    (opening,) = (study for study in STUDIES if not study.page)
    found = {ROOT / "RESULTS.md": _opening(runs, opening.show(data)), FOLDER / "index.md": _index()}
    for page, (title, question) in PAGES.items():
        parts = [f"# {title}", question, HOW_TO_READ]
        for study in STUDIES:
            if study.page == page and not (study.pending and study.name not in data):
                parts.append(f"## {study.title}\n\n{study.show(data)}")
                parts += [f"![{study.title}](figures/{name}.png)" for name in study.figures]
        if page == "cost":
            parts.append(f"## What these results took to make\n\n{_times(runs)}")
        found[FOLDER / f"{page}.md"] = "\n\n".join(parts) + "\n"
    return found


def _opening(runs: Mapping[str, Run], glance: str) -> str:
    data = {name: run.data for name, run in runs.items()}
    sections = zip(SECTIONS, (glance, reading(data), LIMITS, _made(runs)), strict=True)
    parts = [f"## {heading}\n\n{text}" for heading, text in sections]
    return _joined(parts, "docs/results/")


def _index() -> str:
    """The same on the site, which takes the sections from RESULTS.md when it is built."""
    parts = [f"## {heading}\n\n<!-- include: RESULTS.md # {heading} -->" for heading in SECTIONS]
    return _joined(parts, "")


def _joined(sections: Sequence[str], folder: str) -> str:
    rows = [[f"[{title}]({folder}{page}.md)", question] for page, (title, question) in PAGES.items()]
    links = "## More results\n\n" + table(["page", "answers"], rows, left=2)
    return "\n\n".join(["# Results", QUESTION, sections[0], links, *sections[1:]]) + "\n"


def _made(runs: Mapping[str, Run]) -> str:
    machines = {tuple(run.machine.items()) for run in runs.values()}
    described = "; ".join(
        f"{of['cores']} cores, {of['processor']}, CPU only, lpzero-hf {of['lpzero-hf']}, torch {of['torch']}, "
        f"transformers {of['transformers']}, Python {of['python']}"
        for of in map(dict, sorted(machines))
    )  # fmt: skip
    shown = f", in {read_json(SHOWN, 'delete it')['seconds']:.0f} s" if SHOWN.exists() else ""
    return (
        f"`python -m studies` makes all pages and figures from the run files in `studies/runs`{shown}. "
        "`python -m studies --from-nothing` makes the run files as well, in an empty cache: "
        f"{_seconds(runs) / 3600:.1f} hours; the page on costs has the time of each. Machine: {described}. "
        "`docs/how-to/reproduce.md` has the steps."
    )


def _seconds(runs: Mapping[str, Run]) -> float:
    """Of all runs in an empty cache."""
    return sum(run.seconds for run in runs.values()) + estimated(runs["capture"].data)


def _times(runs: Mapping[str, Run]) -> str:
    rows = [[run.study, run.made, f"{run.seconds:,.0f}"] for run in runs.values()]
    if kept := estimated(runs["capture"].data):
        rows.append(["capture of tables that were in the cache, estimated", "", f"{kept:,.0f}"])
    return (
        f"In an empty cache, {_seconds(runs) / 3600:.1f} hours, the sum of the following. Most were measured while "
        f"other work ran on the same cores.\n\n{table(['run', 'made', 's'], rows)}"
    )
