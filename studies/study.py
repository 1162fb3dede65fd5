"""What a study is: data that are made once and kept in a run file, and the tables and figures that show them."""

from __future__ import annotations

import datetime
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from lpzero_hf.executors.base import Executor
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.executors.process import ProcessExecutor, cores
from lpzero_hf.files import read_json, write_text
from studies.machine import machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNS = Path(__file__).parent / "runs"
WORKERS = cores()
Progress = Callable[[str, int, int], None]
Runs = Mapping[str, Mapping[str, Any]]  # the data of every study by its name


class Study(ABC):
    """One question with its answer.

    Attributes:
        name: of the study and of its run file.
        title: heading of its section in the results.
        figures: file names of its figures without ending.
        pending: whether its run file may be missing; results then leave it out.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    figures: ClassVar[tuple[str, ...]] = ()
    pending: ClassVar[bool] = False

    @property
    def page(self) -> str:
        """The page of the results that shows it, which has the name of its folder; empty for the opening."""
        return ".".join(type(self).__module__.split(".")[1:-1])

    @property
    def makes(self) -> bool:
        """Whether it has data of its own: whether its class says how to make them."""
        return type(self).make is not Study.make

    def make(self, progress: Progress) -> dict[str, Any]:
        """The data: plain values for JSON. Scores and branch tables that are in the cache are taken from there.

        Args:
            progress: called with (what is done, steps done, all steps).
        """
        raise NotImplementedError(f"study '{self.name}' shows what others have made")

    @abstractmethod
    def show(self, runs: Runs) -> str:
        """Its section of the results, without the heading."""

    def draw(self, runs: Runs) -> Mapping[str, Figure]:
        """The figures by the names in `figures`."""
        return {}


@dataclass(frozen=True)
class Run:
    """The data of a study, and how they came about.

    Args:
        study: its name.
        seconds: it took to make them.
        made: the day.
        machine: cores, processor and versions.
        data: what the study made.
    """

    study: str
    seconds: float
    made: str
    machine: dict[str, Any]
    data: dict[str, Any]

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return RUNS / f"{self.study}.json"


def make(study: Study, progress: Progress) -> Run:
    """Make a study's data and keep them in its run file."""
    torch.set_num_threads(1)  # their number decides how sums are rounded
    start = time.perf_counter()
    data = study.make(progress)
    run = Run(study.name, round(time.perf_counter() - start, 1), str(datetime.date.today()), machine(), data)
    write_records(run.file, asdict(run))
    return run


def read(name: str) -> Run:
    """The run of a study. Raises `LpzError` if there is none."""
    return Run(**read_json(RUNS / f"{name}.json", f"make it: `python -m studies --run {name}`"))


def kept(studies: Sequence[Study]) -> dict[str, Run]:
    """The runs of all studies that have data of their own, by name; without those that are pending and not made.

    Raises:
        LpzError: another one is missing.
    """
    making = [study for study in studies if study.makes]
    return {
        study.name: read(study.name) for study in making if not study.pending or (RUNS / f"{study.name}.json").exists()
    }


def write_records(path: Path, document: Mapping[str, Any]) -> None:
    """Write a run file or the result of a measurement, whole or not at all."""
    write_text(path, one_record_a_line(document))


def one_record_a_line(document: Mapping[str, Any]) -> str:
    """A document as JSON with one record on each line; floats keep every bit.

    Each key of the document starts a line. A list or a mapping of plain values is one line. Of a list that holds lists
    or mappings, each element is one line, whatever it holds; a mapping that holds them has a line for each entry, which
    is opened in the same way.
    """
    plain: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))  # tuples are lists, keys are text
    return _entries(plain, "") + "\n"


def _entries(mapping: Mapping[str, Any], indent: str) -> str:
    lines = [f"{_line(key)}: {_opened(value, indent + ' ')}" for key, value in mapping.items()]
    return _block("{", lines, "}", indent)


def _opened(value: Any, indent: str) -> str:
    if isinstance(value, dict) and any(isinstance(part, dict | list) for part in value.values()):
        return _entries(value, indent)
    if isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        return _block("[", [_line(part) for part in value], "]", indent)
    return _line(value)


def _block(start: str, lines: Sequence[str], end: str, indent: str) -> str:
    return f"{start}\n{indent} " + f",\n{indent} ".join(lines) + f"\n{indent}{end}"


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def executor_of(workers: int = WORKERS) -> Executor:
    """So many processes of one thread each; one works in this process."""
    return LocalExecutor() if workers == 1 else ProcessExecutor(workers)
