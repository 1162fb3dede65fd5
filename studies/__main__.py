"""Makes RESULTS.md and its figures from the run files, and the run files from nothing.

    python -m studies                       RESULTS.md and figures/ from the run files in studies/runs
    python -m studies --run [NAME ...]      make those run files (all of them) first, with what the cache holds
    python -m studies --from-nothing        the same in an empty cache

Making them takes the upstream files in the folder named by LPZ_DATA; showing them takes nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lpzero_hf.errors import LpzError
from studies.results import STUDIES, write
from studies.study import RUNS, Study, Tell, make


def main() -> int:
    """Make what is asked for."""
    names = [study.name for study in STUDIES if study.makes]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="*", metavar="NAME", choices=names, help=f"of {', '.join(names)}")
    parser.add_argument("--from-nothing", action="store_true")
    arguments = parser.parse_args()
    chosen = names if arguments.from_nothing or arguments.run == [] else arguments.run or []
    if chosen == names and "LPZ_DATA" not in os.environ:
        print("error: set LPZ_DATA to the folder of the upstream files; see docs/how-to/reproduce.md", file=sys.stderr)
        return 2
    try:
        if arguments.from_nothing:
            with tempfile.TemporaryDirectory(prefix="lpz-studies-") as folder:
                os.environ["LPZ_CACHE"] = folder
                run([study for study in STUDIES if study.name in chosen])
        else:
            run([study for study in STUDIES if study.name in chosen])
        if missing := [name for name in names if not (RUNS / f"{name}.json").exists()]:
            print(f"not made yet: {', '.join(missing)}; RESULTS.md stays as it is", file=sys.stderr)
            return 0 if chosen else 1
        for file in write(timed=bool(chosen)):
            print(file)
    except LpzError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(studies: list[Study]) -> None:
    """Make the run files of some studies, with a bar for each step."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    for study in studies:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            made = make(study, _bars(progress, study))
        print(f"{study.name}: {made.seconds:.0f} s", file=sys.stderr)


def _bars(progress: Progress, study: Study) -> Tell:
    bars = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = progress.add_task(f"{study.name}: {what}", total=total)
        progress.update(bars[what], completed=done, total=total)

    return tell


if __name__ == "__main__":
    sys.exit(main())
