"""The folder of a search for an architecture: its settings, and files that are written completely or not at all."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from lpz_nas.outcome import FORMAT, VERSION
from lpzero_hf.errors import LpzError, UsageError, one_line
from lpzero_hf.files import LOCK, same_settings

SETTINGS, STUDY, RESULT, WINNER, FRONT = "nas.json", "study.sqlite", "result.json", "winner", "front"
WRITTEN = (SETTINGS, RESULT, WINNER, FRONT)  # under temporary names first
ASIDE = "old"


def open_folder(folder: Path, request: Mapping[str, Any], resume: bool) -> None:
    """Make the folder of a new search, or check that the one in it has the same settings.

    Raises:
        UsageError: there is a search and `resume` is false, or none and `resume` is true, or it has other settings;
            the message says what differs.
        LpzError: the folder cannot be read or written.
    """
    file = folder / SETTINGS
    foreign = folder.is_dir() and {*folder.iterdir()}.difference([*_leftovers(folder), folder / LOCK])
    if not file.exists() and not resume and foreign:
        raise UsageError(f"'{folder}' holds something else; choose another `out=`")
    header = {"format": FORMAT, "version": VERSION}
    same_settings(file, request, what="search", header=header, key="request", resume=resume)


def discard(folder: Path) -> None:
    """Undo `open_folder`: remove the files of a search that found nothing, and no other files.

    Args:
        folder: of the search; one with a result or a winner is left unchanged.
    """
    if any((folder / name).exists() for name in (RESULT, WINNER, FRONT)):
        return
    with suppress(OSError):  # the search has failed already, and says why
        for path in _leftovers(folder):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in (STUDY, f"{STUDY}-journal", f"{STUDY}-wal", f"{STUDY}-shm", SETTINGS):  # the settings last
            (folder / name).unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` to write to; it takes the place of `folder` if nothing is raised.

    The old folder is renamed first and removed last. Folders that a killed process has left beside `folder` are
    restored or removed by the next one, so two processes must not write at the same time.

    Raises:
        LpzError: it cannot be written.
    """
    temporary, aside = None, folder.with_name(f".{folder.name}.{ASIDE}")
    try:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        for path in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
            shutil.rmtree(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            folder.rename(aside)
        temporary.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise LpzError(
            f"cannot write '{folder}': {one_line(error)}; free disk space, or choose another place"
        ) from error
    finally:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _leftovers(folder: Path) -> list[Path]:
    """Unfinished files that a killed process has left in the folder of a search."""
    return [path for path in folder.iterdir() if path.name.startswith(tuple(f".{name}." for name in WRITTEN))]
