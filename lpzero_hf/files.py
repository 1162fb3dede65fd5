"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lpzero_hf.errors import LpzError, one_line


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it takes the place of `path` if nothing is raised.

    Raises:
        LpzError: the folder cannot be written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise LpzError(f"cannot write '{path}': {error.strerror or error}; choose another place") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise LpzError(
            f"cannot write '{path}': {error.strerror or error}; make room, or choose another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: Any, indent: int | None = 1) -> None:
    """Write a JSON document, whole or not at all; floats keep every bit."""
    write_text(path, json.dumps(document, indent=indent, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str) -> Any:
    """The JSON document in a file.

    Args:
        path: the file.
        remedy: what to do if it cannot be read, as the end of the message.

    Raises:
        LpzError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LpzError(f"cannot read '{path}': {error.strerror or error}; {remedy}") from error
    except ValueError as error:
        raise LpzError(f"'{path}' is not readable JSON ({one_line(error)}); {remedy}") from error
