"""The folder of a search for an architecture: what was asked for, and files that are there whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpz_nas.outcome import FORMAT, VERSION
from lpzero_hf.errors import LpzError, UsageError, one_line
from lpzero_hf.files import read_json, write_json

SETTINGS, STUDY, RESULT, WINNER = "nas.json", "study.sqlite", "result.json", "winner"


def open_folder(folder: Path, request: Mapping[str, Any], resume: bool) -> None:
    """Make the folder of a new search, or check that the one in it was asked the same.

    Raises:
        UsageError: a search is there already and is not to be resumed, or there is none to resume, or it was asked
            something else; the message says what differs.
        LpzError: the folder cannot be read or written.
    """
    file = folder / SETTINGS
    if not file.exists():
        if resume:
            raise UsageError(f"there is no search in '{folder}' to resume; leave out --resume to start one")
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"'{folder}' holds something else; choose another --out")
        write_json(file, {"format": FORMAT, "version": VERSION} | {"request": request})
        return
    if not resume:
        raise UsageError(f"there is a search in '{folder}' already; go on with --resume, or choose another --out")
    document = read_json(file, "choose another --out")
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (FORMAT, VERSION):
        raise LpzError(f"'{file}' is no request of `lpz nas` of version {VERSION}; choose another --out")
    before, now = _flat(document.get("request") or {}), _flat(json.loads(json.dumps(request)))
    changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if changed:
        told = "; ".join(f"{name} was {before.get(name)}, not {now.get(name)}" for name in changed)
        raise UsageError(f"the search in '{folder}' has other settings: {told}; give the same, or choose another --out")


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` to write to; it takes the place of `folder` if nothing is raised.

    Raises:
        LpzError: it cannot be written.
    """
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        raise LpzError(f"cannot write '{folder}': {one_line(error)}; make room, or choose another place") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{name}": v for name, v in _flat(value).items()} if isinstance(value, dict) else {key: value}
    return flat
