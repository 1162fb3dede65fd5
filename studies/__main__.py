"""Makes the results from the run files, and the run files from nothing.

    python -m studies                       RESULTS.md and docs/results from the run files in studies/runs
    python -m studies --run [NAME ...]      make those run files (all of them) first, with what the cache holds
    python -m studies --from-nothing        the same in an empty cache

Making them needs the upstream files in the folder named by LPZ_DATA; showing them needs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from rich import progress as rich_progress
from rich.console import Console

from lpzero_hf.errors import LpzError
from studies.results import STUDIES, write
from studies.study import RUNS, Progress, Study, make


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
        needed = [study.name for study in STUDIES if study.makes and not study.pending]
        if missing := [name for name in needed if not (RUNS / f"{name}.json").exists()]:
            print(f"not made yet: {', '.join(missing)}; the results stay as they are", file=sys.stderr)
            return 0 if chosen else 1
        for file in write(timed=bool(chosen)):
            print(file)
    except LpzError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(studies: list[Study]) -> None:
    """Make the run files of some studies, with a progress bar for each step."""
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
    )
    for study in studies:
        with rich_progress.Progress(*columns, console=Console(stderr=True)) as shown:
            made = make(study, _bars(shown, study))
        print(f"{study.name}: {made.seconds:.0f} s", file=sys.stderr)


def _bars(shown: rich_progress.Progress, study: Study) -> Progress:
    bars = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = shown.add_task(f"{study.name}: {what}", total=total)
        shown.update(bars[what], completed=done, total=total)

    return progress


if __name__ == "__main__":
    sys.exit(main())
