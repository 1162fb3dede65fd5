"""What a study is: data that are made once and kept in a run file, and the tables and figures that show them."""

from __future__ import annotations

import datetime
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from lpzero_hf.executors import cores
from lpzero_hf.files import read_json, write_json
from studies.machine import machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNS = Path(__file__).parent / "runs"
WORKERS = cores()
Tell = Callable[[str, int, int], None]
Runs = Mapping[str, Mapping[str, Any]]  # the data of every study by its name


class Study(ABC):
    """One question with its answer.

    Attributes:
        name: of the study and of its run file.
        title: heading of its section in RESULTS.md.
        figures: file names of its figures without ending.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    figures: ClassVar[tuple[str, ...]] = ()

    @property
    def makes(self) -> bool:
        """Whether it has data of its own: whether its class says how to make them."""
        return type(self).make is not Study.make

    def make(self, tell: Tell) -> dict[str, Any]:
        """The data: plain values for JSON. Scores and branch tables that are in the cache are taken from there.

        Args:
            tell: called with (what is done, steps done, steps in all).
        """
        raise NotImplementedError(f"study '{self.name}' shows what others have made")

    @abstractmethod
    def show(self, runs: Runs) -> str:
        """Its section of RESULTS.md, without the heading."""

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


def make(study: Study, tell: Tell) -> Run:
    """Make a study's data and keep them in its run file."""
    torch.set_num_threads(1)  # their number decides how sums are rounded
    start = time.perf_counter()
    data = study.make(tell)
    run = Run(study.name, round(time.perf_counter() - start, 1), str(datetime.date.today()), machine(), data)
    write_json(run.file, asdict(run))
    return run


def read(name: str) -> Run:
    """The run of a study. Raises `LpzError` if there is none."""
    return Run(**read_json(RUNS / f"{name}.json", f"make it: `python -m studies --run {name}`"))
