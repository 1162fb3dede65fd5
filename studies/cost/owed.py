"""All that is measured on a GPU, in one command that makes the most of few minutes: rows in order, each in its file.

    python -m studies.cost.owed --out FOLDER [--device cuda] [--rows 1,2,3,4] [--minutes 8] [--small]

1. `gpu_agreement.json`: scores of all proxies on eight families, branch tables and a search, against the CPU.
2. `gpu_search.json`: the two-unary space on 50 FlexiBERT models: capture, upload, enumeration, ranks against the CPU's,
   and the share of the card's peak that the matrix products reach.
3. `gpu_large.json`: the proxies that share one backward pass, on Llama shapes of 7 billion and 1 billion parameters.
4. `gpu_evolution.json`: evolution in generations over four unary operations from the store of raw statistics, beside
   passes over the models, and over two from tables, beside the optimum of the space; 50 FlexiBERT models.

A file is written after each step, so that what was measured is there whatever comes next. It says `complete` at the
end, and has an `error` where the row failed, after which the next row begins. A row whose file is complete is not made
again, and one for which too little time is left is not begun. `--small` tries all of it in two minutes, also on a CPU.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lpzero_hf.errors import one_line
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.files import read_json
from lpzero_hf.searching.config import SearchConfig
from studies.cost.devices import agreement
from studies.cost.generations import counted
from studies.cost.gpu import gemms, missing, searched
from studies.cost.large import Keep, large
from studies.machine import card, machine
from studies.study import write_records

OTHER_SIZES = 40.0  # seconds that the largest model leaves to the others


@dataclass(frozen=True)
class Task:
    """What a row is given.

    Args:
        device: to measure.
        small: only try it.
        left: the seconds that may still be used, without those that the next rows need to begin.
        keep: called with all that is measured so far, after each step.
    """

    device: torch.device
    small: bool
    left: Callable[[], float]
    keep: Keep

    def left_but(self, reserved: float) -> float:
        """The seconds left without some that are kept for later."""
        return self.left() - reserved


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        file: name of its file, without the ending.
        what: it measures.
        seconds: that must be left for it to begin.
        measure: does it.
    """

    file: str
    what: str
    seconds: float
    measure: Callable[[Task], None]


def _agreement(task: Task) -> None:
    agreement(task.device, *(2, 6) if task.small else (4, 12), task.keep)


def _search(task: Task) -> None:
    name, unary, limit = ("tiny-gpt2", 1, 6) if task.small else ("flexibert", 2, 50)
    wanted = SearchConfig((name,), unary=(unary, unary)).space(installed_operations()).wanted
    made: dict[str, Any] = {"gemm": gemms(wanted, task.device, 2**12 if task.small else 2**18)}
    task.keep(made)
    searched(name, unary, limit, task.device, limit, left=task.left, keep=lambda found: task.keep(made | dict(found)))


def _large(task: Task) -> None:
    made: dict[str, Any] = {"models": []}
    cases = (("10M", True), ("10M", False)) if task.small else (("7B", True), ("1B", False), ("300M", False))
    for place, (size, checkpointing) in enumerate(cases):
        others = list(made["models"])
        if place == 2 and "left_out" not in others[-1]:
            break  # it is for the price of all proxies where that of the larger ones is too high

        def keep(model: Mapping[str, Any], others: list[Any] = others) -> None:
            made["models"] = [*others, dict(model)]
            task.keep(made)

        reserved = OTHER_SIZES if place == 0 and not task.small else 0.0
        large(
            size, task.device, checkpointing=checkpointing, minibatch_of=(2, 16) if task.small else (16, 128),
            left=partial(task.left_but, reserved), keep=keep,
        )  # fmt: skip
        _free(task.device)


def _evolution(task: Task) -> None:
    if task.small:
        counted("tiny-gpt2", 6, task.device, unary=1, seeds=1, candidates=200, sample=1, keep=task.keep)
    else:
        counted("flexibert", 50, task.device, left=task.left, keep=task.keep)


ROWS: Mapping[int, Row] = {
    1: Row("gpu_agreement", "scores of all proxies, tables and a search, on a GPU and on the CPU", 60, _agreement),
    2: Row("gpu_search", "the two-unary space on 50 FlexiBERT models on a GPU", 120, _search),
    3: Row("gpu_large", "proxies that share one backward pass on large models on a GPU", 75, _large),
    4: Row("gpu_evolution", "evolution in generations, from the store and from tables, on a GPU", 150, _evolution),
}


def make(row: Row, folder: Path, device: torch.device, small: bool, left: Callable[[], float]) -> bool:
    """Measure a row and write its file. Returns whether it did not fail; the traceback is printed if it did."""
    start = time.perf_counter()
    document: dict[str, Any] = {
        "what": row.what + ", in small" * small,
        "command": f"python -m studies.cost.owed --out FOLDER --device {device.type}" + " --small" * small,
        "made": str(datetime.date.today()),
        "machine": machine() | card(device),
        "device": device.type,
        "complete": False,
    }

    def keep(measured: Mapping[str, Any]) -> None:
        document.update(_finite(dict(measured)))
        document["seconds_in_all"] = time.perf_counter() - start
        write_records(folder / f"{row.file}.json", document)

    try:
        row.measure(Task(device, small, left, keep))
        keep({"complete": True})
    except Exception as error:  # the other rows must not be lost with this one
        traceback.print_exc()
        keep({"error": one_line(error)})
    _free(device)
    return "error" not in document


def _finite(value: Any) -> Any:
    """The same without NaN and infinities, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _rows(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if unknown := [number for number in numbers if number not in ROWS]:
        raise argparse.ArgumentTypeError(f"no row {unknown[0]}; there are {', '.join(map(str, ROWS))}")
    return numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the rows that there is time for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the files")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=_rows, default=list(ROWS))
    parser.add_argument("--minutes", type=float, default=8.0, help="for all rows together")
    parser.add_argument("--small", action="store_true", help="only try whether everything runs")
    chosen = parser.parse_args(arguments)
    end: float = time.monotonic() + 60 * chosen.minutes
    device = torch.device(chosen.device)
    if missing(device):
        return 2
    torch.set_num_threads(1)  # of the CPU; their number decides how sums are rounded

    def left(reserved: float = 0.0) -> float:
        return end - time.monotonic() - reserved

    good = True
    for place, number in enumerate(chosen.rows):
        row = ROWS[number]
        reserved = sum(ROWS[later].seconds for later in chosen.rows[place + 1 :])
        file = chosen.out / f"{row.file}.json"
        if file.exists() and read_json(file, "delete it")["complete"]:
            print(f"row {number}: {file} is complete", flush=True)
        elif left() < row.seconds and not chosen.small:
            print(f"row {number}: needs {row.seconds:.0f} s, and {left():.0f} s are left", flush=True)
            good = False
        else:
            print(f"row {number}: {row.what}, {left():.0f} s are left", flush=True)
            good = make(row, chosen.out, device, chosen.small, partial(left, reserved)) and good
    print(f"{left():.0f} s are left", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
