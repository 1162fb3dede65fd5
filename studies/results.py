"""RESULTS.md and its figures, made from the run files of all studies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from lpzero_hf.files import read_json, write_text
from studies.cost.capture import Capture, estimated
from studies.cost.costs import Costs
from studies.markdown import table
from studies.nas.budgets import Nas
from studies.opening import Opening
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
from studies.proxies.grades import Grades
from studies.proxies.noise import Noise
from studies.proxies.pareto import Pareto
from studies.proxies.sensitivity import Sensitivity
from studies.proxies.winners import Winners
from studies.search.ablations import Ablations
from studies.search.ensembles import Ensembles
from studies.search.how_many import HowMany
from studies.search.searched import SEARCHES
from studies.search.transfer import Transfer
from studies.study import RUNS, Run, Study, read, write_records

ROOT = Path(__file__).parent.parent
SHOWN = RUNS / "shown.json"  # how long tables and figures took
STUDIES: tuple[Study, ...] = (  # in the order of RESULTS.md
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
    Winners(),
    Capture(),
    *SEARCHES,
    Ensembles(),
    Transfer(),
    HowMany(),
    Sensitivity(),
    Noise(),
    Pareto(),
    Costs(),
    Ablations(),
    Features(),
    Nas(),
)
INTRODUCTION = """\
rho is Spearman's, tau is Kendall's tau-b, both between a proxy's score, turned so that larger should be better, and
the trained performance, turned likewise; a negative value is a proxy that ranks the wrong way round. Brackets hold
95% percentile bootstrap intervals (1,000 resamples of the architectures) unless said otherwise. "top 10%" is the
share of the truly best tenth among the best-scored tenth; s/arch is the median time to score one architecture on one
core with the other cores busy alike, and proxies that share a pass all show the time of the whole pass. `num_layers`,
`num_heads`, `params` and `decoder_params` are the trivial baselines. Picking the top row of a table is a choice made
on the data the table reports; the searches choose on one part of the architectures and report on the others."""


def write(timed: bool = False) -> list[Path]:
    """Write RESULTS.md and figures/.

    Args:
        timed: also keep how long that took, for the next RESULTS.md.

    Returns:
        The files written.
    """
    from lpz_cli.plots.scatter import save

    start = time.perf_counter()
    runs = {study.name: read(study.name) for study in STUDIES if study.makes}
    data = {name: run.data for name, run in runs.items()}
    written = [ROOT / "RESULTS.md"]
    for study in STUDIES:
        for name, figure in study.draw(data).items():
            written.append(ROOT / "figures" / f"{name}.png")
            save(figure, written[-1])
    if timed:
        text(runs)
        write_records(SHOWN, {"seconds": round(time.perf_counter() - start, 1)})
    write_text(ROOT / "RESULTS.md", text(runs))
    return written


def text(runs: Mapping[str, Run]) -> str:
    """RESULTS.md."""
    data = {name: run.data for name, run in runs.items()}
    parts = ["# Results"]
    for study in STUDIES:
        parts.append(f"## {study.title}\n\n{study.show(data)}")
        parts += [f"![{study.title}](figures/{name}.png)" for name in study.figures]
        if study is STUDIES[0]:
            parts.append(f"## How to read the rest\n\n{INTRODUCTION}")
    parts.append(f"## How this file is made\n\n{_times(runs)}")
    return "\n\n".join(parts) + "\n"


def _times(runs: Mapping[str, Run]) -> str:
    rows = [[run.study, run.made, f"{run.seconds:,.0f}"] for run in runs.values()]
    kept = estimated(runs["capture"].data)
    total = sum(run.seconds for run in runs.values()) + kept
    if kept:
        rows.append(["capture of tables that were in the cache, estimated", "", f"{kept:,.0f}"])
    machines = {tuple(run.machine.items()) for run in runs.values()}
    told = "; ".join(
        f"{of['cores']} cores, {of['processor']}, CPU only, lpzero-hf {of['lpzero-hf']}, torch {of['torch']}, "
        f"transformers {of['transformers']}, Python {of['python']}"
        for of in map(dict, sorted(machines))
    )  # fmt: skip
    shown = f", in {read_json(SHOWN, 'delete it')['seconds']:.0f} s" if SHOWN.exists() else ""
    return (
        f"`python -m studies` makes this file and its figures from the run files in `studies/runs`{shown}. "
        f"`python -m studies --from-nothing` makes the run files as well, in an empty cache: {total / 3600:.1f} hours "
        "by the sum of the following, most of which were measured beside other work on the same cores. "
        f"Machine: {told}.\n\n{table(['run', 'made', 's'], rows)}"
    )
