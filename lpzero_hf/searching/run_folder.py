"""The folder of a search: its configuration, one history and checkpoint for each split, and the result."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.files import parse_json, read_json, read_text, reading, same_settings, write_json, write_text
from lpzero_hf.searching.config import LATER, SearchConfig
from lpzero_hf.searching.pruning import RENAMED
from lpzero_hf.searching.strategies import Iteration, Strategy

FORMAT, VERSION = "lpzero-hf search", 1
LARGEST = 2**30  # bytes of a history, or of a checkpoint
REMEDY = "search that split again"
CONFIG_FILE, BENCHMARKS_FILE, RESULT_FILE = "plan.json", "benchmarks.json", "result.json"

TEXT = "the text of the minibatch"  # among the contents


def open_run(folder: Path, config: SearchConfig, resume: bool, contents: Mapping[str, str]) -> None:
    """Make the folder of a new search, or check that the one in it has the same configuration and benchmarks.

    Args:
        folder: of the search.
        config: of the search.
        resume: whether there must be a search, or must be none.
        contents: by benchmark, a digest of its content, and by `TEXT` one of a text that is not embedded; those of a
            search of version 0.1.0 are unknown.

    Raises:
        UsageError: there is a search and `resume` is false, or none and `resume` is true, or it has another
            configuration, or a benchmark or the text has changed since it was started.
        LpzError: the folder cannot be read or written.
    """
    header = {"format": FORMAT, "version": VERSION}
    same_settings(
        folder / CONFIG_FILE,
        config.to_json(),
        what="search",
        header=header,
        key="plan",
        resume=resume,
        later=LATER,
        results=[RESULT_FILE],
    )
    file, known = folder / BENCHMARKS_FILE, {}
    if file.exists():
        known = read_json(file, f"choose another `out=`, or delete '{file}'")
        if not isinstance(known, dict):
            raise LpzError(f"'{file}' holds no digests of benchmarks; choose another `out=`, or delete it")
    for name in contents:
        if known.get(name, contents[name]) != contents[name]:
            what = name if name == TEXT else f"benchmark '{name}'"
            raise UsageError(f"{what} is not what it was when the search in '{folder}' began; choose another `out=`")
    write_json(file, {**known, **contents})


def begun_with(folder: Path, config: SearchConfig) -> SearchConfig:
    """The configuration of a search to resume, with what the one in the folder started from.

    Raises:
        LpzError: the folder cannot be read.
    """
    file = folder / CONFIG_FILE
    if not file.exists():
        return config
    document = read_json(file, "choose another `out=`")
    plan = document.get("plan") if isinstance(document, dict) else None
    if not isinstance(plan, dict):  # which `open_run` refuses
        return config
    with reading(f"'{file}'", "choose another `out=`"):
        starts, saw = (tuple(map(tuple, plan.get(name, ()))) for name in ("starts", "saw"))
    return replace(config, starts=starts, saw=saw)


class SplitLog:
    """The history and the checkpoint of one split, from which another process can continue.

    The history has one line for each iteration; a checkpoint is written completely or not at all. On resuming, lines of
    the history after the checkpoint are removed, and their iterations run again.

    Args:
        folder: of the split.
        strategy: the search, which continues from the checkpoint if there is one.

    Raises:
        LpzError: checkpoint or history are damaged, or cannot be written.
    """

    def __init__(self, folder: Path, strategy: Strategy) -> None:
        self.folder, self.strategy = folder, strategy
        self.history, self.checkpoint = folder / "history.jsonl", folder / "checkpoint.json"
        self.seconds = 0.0
        lines: list[str] = []
        if self.checkpoint.exists():
            lines = self._restore()
        write_text(self.history, "".join(f"{line}\n" for line in lines))
        self._file: TextIO = self.history.open("a", encoding="utf-8")

    def _restore(self) -> list[str]:
        """Continue from the checkpoint; the lines of the history up to it."""
        remedy = f"delete '{self.folder}', and this split is searched again"
        state = read_json(self.checkpoint, remedy, LARGEST)
        with reading(f"the checkpoint '{self.checkpoint}'", remedy, LpzError):
            self.strategy.restore(state)
            self.seconds = float(state["seconds"])
            lines = read_text(self.history, remedy, LARGEST).splitlines()[: max(0, self.strategy.done)]
            iterations = [entry["iteration"] for entry in _entries(self.history, lines)]
            if iterations != list(range(len(lines))) or len(lines) != self.strategy.done:
                raise ValueError("the history is shorter than the checkpoint")
        return lines

    def write(self, iteration: Iteration) -> None:
        """Add one line to the history."""
        self._guarded(lambda: self._file.write(json.dumps(iteration.to_json()) + "\n"))

    def save(self, seconds: float) -> None:
        """Write a checkpoint; `seconds` is the time of the search so far."""
        self.seconds = seconds
        self._guarded(self._flush)
        write_json(self.checkpoint, self.strategy.state() | {"seconds": seconds}, indent=None)

    def close(self) -> None:
        """Close the history."""
        self._file.close()

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _guarded(self, write: Any) -> None:
        try:
            write()
        except OSError as error:
            raise LpzError(
                f"cannot write '{self.history}': {error.strerror or error}; free disk space, then use `resume=True`"
            ) from error


def read_history(folder: Path) -> list[list[dict[str, Any]]]:
    """The history of each split of a search. Raises `LpzError` if one cannot be read."""
    histories = []
    for file in sorted(folder.glob("split-*/history.jsonl")):
        with reading(f"the history '{file}'", REMEDY, LpzError):
            entries = _entries(file, read_text(file, REMEDY, LARGEST).splitlines())
            histories.append([entry | _current(entry) for entry in entries])
    return histories


def _entries(file: Path, lines: Sequence[str]) -> list[dict[str, Any]]:
    """The iterations in lines of a history."""
    return [parse_json(line, f"line {number} of '{file}'", REMEDY) for number, line in enumerate(lines, 1)]


def _current(line: dict[str, Any]) -> dict[str, Any]:
    """The reason for a rejection as it is called now, if the line has one."""
    reason = line.get("rejected")
    return {"rejected": RENAMED.get(reason, reason)} if reason else {}
