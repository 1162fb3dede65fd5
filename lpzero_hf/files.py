"""Files: written completely or not at all, read within bounds; and folders of work, which one process holds at a time
and resumes only with the same settings."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

from lpzero_hf.errors import LpzError, UsageError, one_line

MOST = 2**25  # bytes of a document, unless its reader says otherwise
DEEPEST = 64  # levels of a document; what is written here has a tenth of them
UNEXPECTED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
LOCK = ".lock"  # in a folder in which a process works, or has worked
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


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
            f"cannot write '{path}': {error.strerror or error}; free disk space, or choose another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def refuse_unwritable(path: Path) -> None:
    """Raise `LpzError` if nothing can be written at a place; what is missing of its folders is not made yet.

    Args:
        path: of a file or a folder to be made, or of a folder to be written to.
    """
    try:
        folder = path if path.is_dir() else path.parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        raise LpzError(
            f"cannot write '{path}': {getattr(error, 'strerror', None) or error}; choose another place"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: Any, indent: int | None = 1) -> None:
    """Write a JSON document, completely or not at all; floats keep every bit."""
    write_text(path, json.dumps(document, indent=indent, allow_nan=False) + "\n")


@contextlib.contextmanager
def regular_file(path: Path, remedy: str) -> Iterator[BinaryIO]:
    """A regular file, opened to be read as bytes.

    Args:
        path: the file.
        remedy: what to do if it cannot be read, as the end of the message.

    Raises:
        LpzError: it is missing, or no regular file: a device or a pipe, which may have no end. An error of the disk
            while it is read is raised as such too.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait for a writer
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise LpzError(f"'{path}' is {what}, not a file; {remedy}")
        with os.fdopen(descriptor, "rb") as file:
            yield file
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        reason = getattr(error, "strerror", None) or error
        raise LpzError(f"cannot read '{path}': {reason}; {remedy}") from error


def read_bytes(path: Path, remedy: str, most: int = MOST) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        remedy: what to do if it cannot be read, as the end of the message.
        most: bytes that it may have.

    Raises:
        LpzError: it is larger, or as `regular_file`.
    """
    with regular_file(path, remedy) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
    if size > most or len(content) > most:
        raise LpzError(f"'{path}' is too large ({size:,} bytes; at most {most:,}); {remedy}")
    return content


def read_text(path: Path, remedy: str, most: int = MOST) -> str:
    """The UTF-8 text of a regular file. Raises `LpzError` as `read_bytes` does, or if it is no such text."""
    content = read_bytes(path, remedy, most)
    if (place := content.find(0)) >= 0:
        raise LpzError(f"'{path}' is no text (byte {place} is NUL); {remedy}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LpzError(f"'{path}' is not UTF-8 text (byte {error.start}); {remedy}") from error


def read_json(path: Path, remedy: str, most: int = MOST, *, strict: bool = True) -> Any:
    """The JSON document in a regular file. Raises `LpzError` as `read_text` and `parse_json` do."""
    return parse_json(read_text(path, remedy, most), f"'{path}'", remedy, strict=strict)


def parse_json(text: str | bytes, source: str, remedy: str, *, strict: bool = True) -> Any:
    """The JSON document in a text, nested less deeply than any code that reads it could fail at.

    Args:
        text: of the document.
        source: its name in messages.
        remedy: what to do if it cannot be read, as the end of the message.
        strict: refuse what JSON leaves open: a key that appears twice, NaN, infinity, and half of a surrogate pair.

    Raises:
        LpzError: it is not JSON, or is nested too deeply.
    """
    hooks: dict[str, Any] = {"object_pairs_hook": _once, "parse_constant": _refused, "parse_float": _finite}
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        if _deeper(text, DEEPEST):
            raise LpzError(f"{source} is nested too deeply (at most {DEEPEST} levels); {remedy}")
        document = json.loads(text, **(hooks if strict else {}))
        if strict and "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()
        return document
    except ValueError as error:
        raise LpzError(f"{source} is not readable JSON ({one_line(error)}); {remedy}") from error


def _deeper(text: str, levels: int) -> bool:
    """Whether brackets outside of strings are nested more deeply."""
    if text.count("[") + text.count("{") <= levels:
        return False
    brackets = re.finditer(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', text, flags=re.DOTALL)
    steps = ({"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0) for found in brackets)
    return any(depth > levels for depth in accumulate(steps))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large")
    return value


@contextlib.contextmanager
def reading(source: str, remedy: str, *also: type[LpzError]) -> Iterator[None]:
    """Turn whatever unexpected content of a document raises into a `LpzError` that names the document.

    Args:
        source: the document.
        remedy: what to do, as the end of the message.
        also: errors of this library that do not name it, and are turned too.
    """
    unexpected: tuple[type[Exception], ...] = (*UNEXPECTED, *also)
    try:
        yield
    except unexpected as error:
        raise LpzError(f"{source} is damaged, or of another version ({one_line(error)}); {remedy}") from error


@contextlib.contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """A context in which no other process, and no other call in this one, works in a folder.

    The folder is made if it is missing, and removed at the end if nothing was written to it. A killed process holds it
    no longer.

    Raises:
        UsageError: another one works in it.
        LpzError: it cannot be made or written to.
    """
    from filelock import FileLock, Timeout

    made = not folder.exists()
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"another process is at work in '{folder}'; wait until it has ended, or choose another `out=`"
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LpzError(f"cannot write in '{folder}': {reason}; choose another `out=`") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
                if made:
                    folder.rmdir()
        lock.release()


def one_process(work: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function that holds the folder of its argument `out` for itself, as `only_process`; None holds nothing."""
    signature = inspect.signature(work)

    @functools.wraps(work)
    def held(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        out = signature.bind(*arguments, **options).arguments.get("out")
        with contextlib.nullcontext() if out is None else only_process(Path(out)):
            return work(*arguments, **options)

    return held


def same_settings(
    file: Path,
    settings: Mapping[str, Any],
    *,
    what: str,
    header: Mapping[str, Any] | None = None,
    key: str = "settings",
    resume: bool | None = None,
    later: Mapping[str, Any] | None = None,
    grows: Collection[str] = (),
    results: Collection[str] = (),
) -> bool:
    """Write the settings of new work to a file, or refuse to resume work that was started with other settings.

    Args:
        file: where they are written, in the folder of the work.
        settings: plain data for JSON; nested ones are compared by dotted names.
        what: the kind of work, for messages, "search" for example.
        header: entries of the document that must be the same, such as format and version; with None, the document is
            the settings themselves.
        key: of the settings in the document, beside the header.
        resume: True resumes existing work, False starts new work, None does either.
        later: settings that work begun by an earlier version does not name, and what it did.
        grows: names of numbers that may be larger than before: the work goes on to more, and the file says so.
        results: names of files beside `file` that the work writes; new work is refused where there is one already.

    Returns:
        Whether there is work to resume.

    Raises:
        UsageError: there is work but `resume` is False, none but `resume` is True, or it was started with other
            settings; the message says what differs.
        LpzError: the file cannot be read or written, or is something else.
    """
    now = json.loads(json.dumps(settings))
    if not file.exists():
        if resume:
            raise UsageError(f"there is no {what} in '{file.parent}' to resume; leave out `resume=True` to start one")
        if found := [name for name in results if (file.parent / name).exists()]:
            raise UsageError(f"'{file.parent / found[0]}' exists already, of something else; choose another `out=`")
        write_json(file, now if header is None else {**header, key: now})
        return False
    if resume is False:
        raise UsageError(
            f"there is a {what} in '{file.parent}' already; go on with `resume=True`, or choose another `out=`"
        )
    document = read_json(file, "choose another `out=`")
    if isinstance(document, dict) and header is not None:
        document = document.get(key) if all(document.get(name) == header[name] for name in header) else None
    if not isinstance(document, dict):
        shown = "" if header is None else f" of version {header['version']}"
        raise LpzError(f"'{file}' holds no settings of a {what}{shown}; choose another `out=`")
    before, wanted = _flat({**(later or {}), **document}), _flat(now)
    changed = [name for name in sorted({*before, *wanted}) if before.get(name) != wanted.get(name)]
    if changed and all(name in grows and _larger(wanted.get(name), before.get(name)) for name in changed):
        write_json(file, now if header is None else {**header, key: now})
        return True
    if changed:
        differ = [f"{_short(n)} was {_short(before.get(n))}, not {_short(wanted.get(n))}" for n in changed]
        shown = "; ".join(differ[:10] + [f"and {len(differ) - 10} more"] * (len(differ) > 10))
        raise UsageError(
            f"the {what} in '{file.parent}' has other settings: {shown}; give the same, or choose another `out=`"
        )
    return True


def _larger(now: Any, before: Any) -> bool:
    return isinstance(now, int) and isinstance(before, int) and now > before


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": item for inner, item in _flat(value).items()}
        else:
            flat[name] = value
    return flat
