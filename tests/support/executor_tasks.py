"""Work for the tests of executors: functions that worker processes can find, and import quickly."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path

import torch

from lpzero_hf.errors import UsageError


def where(task: int) -> tuple[int, int, int]:
    """The task, the process that does it, and its number of threads."""
    return task, os.getpid(), torch.get_num_threads()


def root(task: float) -> float:
    """The square root, or an error."""
    return math.sqrt(task)


def die(task: str) -> str:
    """Kills its process if the task says so: "always", or "once" followed by a file that remembers it."""
    if task == "always":
        os.kill(os.getpid(), signal.SIGKILL)
    kind, _, file = task.partition(":")
    if kind == "once" and not Path(file).exists():
        Path(file).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task.upper()


def meet(folder: str) -> None:
    """Returns when three are at work at a time."""
    (Path(folder) / str(os.getpid())).touch()
    while len(list(Path(folder).iterdir())) < 3:
        time.sleep(0.01)


def first_then_long(folder: str) -> None:
    """Takes no time once, and very long after that."""
    if (Path(folder) / "first").exists():
        time.sleep(600)
    (Path(folder) / "first").touch()


def refuse(task: int) -> None:
    """Says something to its caller."""
    raise UsageError(f"task {task} makes no sense")


def hide(task: int) -> object:
    """A result that cannot be pickled."""
    return lambda: task
