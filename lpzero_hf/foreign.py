"""Runs the code of others, a plugin's above all, so that it can neither end this process nor write into its results."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn, TextIO

from lpzero_hf.errors import Stopped, printable

PATIENCE = 5.0  # seconds before a line tells what is being waited for
MOST_ITEMS = 100_000  # that a hook of a plugin may return

_lock = threading.RLock()
_inside = threading.local()  # `depth` of `Survived` in this thread, and the `process` that entered it
_users = {"stdout": 0, "exit": 0}
_results: list[TextIO] = []  # standard output, while `stdout_kept`
_restore: list[Callable[[], None]] = []  # what ends it
_exit = os._exit


@contextlib.contextmanager
def stdout_kept() -> Iterator[TextIO]:
    """Send to standard error what anything but the yielded stream writes to standard output.

    That is `print`, C code and child processes alike: the file descriptor itself points elsewhere. For all threads; may
    be entered again inside, by other threads too.

    Yields:
        A stream to the real standard output; inside another `stdout_kept`, the same one.
    """
    with _lock:
        _users["stdout"] += 1
        if _users["stdout"] == 1:
            _restore.append(_redirect())
    try:
        yield _results[-1]
    finally:
        with _lock:
            _users["stdout"] -= 1
            if _users["stdout"] == 0:
                _restore.pop()()


def _redirect() -> Callable[[], None]:
    """Begin `stdout_kept`; returns what ends it."""
    before = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # none if 1 was closed
    own = sys.__stdout__
    before.flush()
    _flush_c()
    kept, results = _kept_descriptor(), before
    if kept is not None and _descriptor(before) == 1:
        copy = os.dup(kept)
        results = open(copy, "w", encoding=before.encoding, errors=before.errors, newline="\n")  # noqa: SIM115
    _results.append(results)
    sys.stdout = sys.stderr

    def restore() -> None:
        _results.pop()
        sys.stdout = _open(before, 1)
        try:
            if results is not before:
                results.close()  # raises if nobody reads any more
        finally:
            if kept is not None:
                with contextlib.suppress(OSError, ValueError):
                    if own is not None:
                        own.flush()  # into standard error, too
                _flush_c()
                _put_back(kept, 1)

    return restore


def _flush_c() -> None:
    """Write what C code has printed where descriptor 1 points now, and not where it points when the process ends."""
    with contextlib.suppress(OSError, TypeError, AttributeError):  # not on Windows
        ctypes.CDLL(None).fflush(None)


def _copy(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # it is closed
        return None


def _kept_descriptor() -> int | None:
    """A copy of descriptor 1, which now points at standard error; None if it is closed."""
    if (kept := _copy(1)) is None:
        return None
    try:
        os.dup2(2, 1)
    except OSError:  # no standard error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    return kept


def _put_back(kept: int, descriptor: int) -> None:
    with contextlib.suppress(OSError):  # it was closed by number
        os.dup2(kept, descriptor)
        os.close(kept)


def _open(stream: TextIO, descriptor: int) -> TextIO:
    """`stream`, or another one to `descriptor` if it was closed."""
    if not getattr(stream, "closed", False):
        return stream
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None


class Survived:
    """A context in which code of others cannot end this process.

    An exception that is no `Exception`, such as `SystemExit`, leaves it as `Stopped`, and so does a call of `os._exit`
    in this thread. A process that the code inside forks ends where it would leave. Ctrl-C of the user still interrupts,
    even if the code inside ignores it.
    """

    def __enter__(self) -> None:
        self.interrupted = False
        self.process = os.getpid()
        self.handler: Any = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self.handler = handler
                signal.signal(signal.SIGINT, self._interrupt)
        with _lock:
            _users["exit"] += 1
            if _users["exit"] == 1:
                _set_exit(_no_exit)
        _inside.depth = getattr(_inside, "depth", 0) + 1
        _inside.process = self.process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() != self.process:
            _exit(0 if error is None else 1)
        _inside.depth -= 1
        with _lock:
            _users["exit"] -= 1
            if _users["exit"] == 0:
                _set_exit(_exit)
        if self.handler is not None:
            signal.signal(signal.SIGINT, self.handler)
        if self.interrupted:
            raise KeyboardInterrupt
        if error is not None and not isinstance(error, Exception):
            raise Stopped(error) from error

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        self.handler(number, frame)


class ExitCall(BaseException):
    """The code of others has called `os._exit`."""


def _set_exit(function: Callable[[int], NoReturn]) -> None:
    os._exit = function  # type: ignore[assignment]  # its parameter has another name
    if (system := sys.modules.get(os.name)) is not None:  # `posix`, of which `os` has it
        system._exit = function  # type: ignore[attr-defined]  # of a module


def _no_exit(status: int) -> NoReturn:
    """In place of `os._exit`: refuses it inside `Survived`, but not in other threads or forked processes."""
    if getattr(_inside, "depth", 0) and _inside.process == os.getpid():
        raise ExitCall(f"os._exit({status})")
    _exit(status)


@contextlib.contextmanager
def contained(doing: str, name: str) -> Iterator[None]:
    """A context for the code of a plugin: `Survived`, and what it prints goes to standard error.

    Args:
        doing: what a line on standard error says if it takes longer than `PATIENCE`.
        name: of the plugin.
    """
    remedy = "" if name.startswith("builtin-") else f"; leave it out with LPZ_NO_PLUGINS={name}"
    errors, line = sys.stderr, printable(f"still {doing} ...{remedy}")
    timer = threading.Timer(PATIENCE, lambda: print(line, file=errors, flush=True))
    timer.daemon = True
    timer.start()
    try:
        with stdout_kept(), _streams_kept(), Survived():
            yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _streams_kept() -> Iterator[None]:
    """Undo what the code inside does to the standard streams, inside `stdout_kept`: replaces or closes them."""
    output, errors, kept = sys.stdout, sys.stderr, _copy(2)
    try:
        yield
    finally:
        if kept is not None:
            _put_back(kept, 2)
            with contextlib.suppress(OSError):
                os.dup2(2, 1)
        sys.stderr = _open(errors, 2)
        sys.stdout = sys.stderr if output is errors else _open(output, 1)


def several(offered: Iterable[Any]) -> list[Any]:
    """What a hook of a plugin returns, as a list. Raises `ValueError` if it has no end."""
    found = list(itertools.islice(offered, MOST_ITEMS + 1))
    if len(found) > MOST_ITEMS:
        raise ValueError(f"more than {MOST_ITEMS:,} items")
    return found
