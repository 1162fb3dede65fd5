"""Errors a user can act on: each message is one line that names the remedy."""

from __future__ import annotations

import contextlib
import difflib
import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar
from unicodedata import category


class LpzError(Exception):
    """Base of every error this library raises on purpose. `exit_code` is what `lpz` exits with."""

    exit_code = 1


class UsageError(LpzError):
    """The request itself is wrong: an unknown name, an invalid option, invalid arguments."""

    exit_code = 2


class ModelError(LpzError):
    """A model could not be found, built or loaded."""


class LayoutError(LpzError):
    """The model's blocks could not be found, or the model has none."""


class MinibatchError(LpzError):
    """The minibatch is empty, malformed, or does not fit the model."""


class CaptureError(LpzError):
    """Statistics could not be captured from a model."""


class WayRefused(CaptureError):
    """A model cannot run in the way asked for: in parts of a minibatch, or with blocks that run twice.

    Args:
        cause: why.
        remedy: what to do instead.
    """

    def __init__(self, cause: str, remedy: str) -> None:
        self.cause = cause
        super().__init__(f"{cause}; {remedy}")


class PluginError(LpzError):
    """A plugin is broken, or two plugins claim one name."""


class PluginWarning(UserWarning):
    """A plugin could not be used; everything else continues without it."""


class ModelWarning(UserWarning):
    """A model is scored, but not quite as its configuration, checkpoint or class would have it."""


class MinibatchWarning(UserWarning):
    """A minibatch is not quite what it is used for: of another size than a proxy's, or with more than a model takes."""


class ComparisonWarning(UserWarning):
    """Scores are compared that differ for other reasons than the architectures."""


class TableWarning(UserWarning):
    """Rows of a table cannot be used; everything else continues without them."""


class ExecutorWarning(UserWarning):
    """Work continues, but in another worker, more slowly, or without some of the tasks."""


class MicroBatchWarning(UserWarning):
    """A device ran out of memory, so a minibatch runs in parts."""


class RoundingWarning(UserWarning):
    """A score changes visibly with the rounding of the kernels that a model runs on."""


class NotApplicable(Exception):
    """Raised by a proxy that has no meaning on this model; the message says why."""


class InvalidScore(Exception):
    """Raised by a proxy whose score is not a finite number; the message says why."""


class NotFinite(CaptureError, InvalidScore):
    """The pass of a model overflowed, so that no statistic of it means anything."""


class Stopped(Exception):
    """Stands for an exception of code of others that would have ended this process: `SystemExit`, for example.

    Args:
        cause: what it raised.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(one_line(cause))
        self.cause = cause

    def __reduce__(self) -> tuple[type[LpzError], tuple[str]]:
        return LpzError, (str(self),)  # what it raised may not be known to another process


def printable(text: str) -> str:
    """`text` without control characters: each is shown by its escape, so that a terminal cannot obey it.

    Line feeds and tabs stay. Besides the control characters, those that change the direction of text are shown.

    Example:
        >>> print(printable("a" + chr(27) + "[31m title").replace(chr(92), "/"))
        a/x1b[31m title
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() or category(c) == "Zs" else ascii(c)[1:-1] for c in text)


def one_line(error: BaseException) -> str:
    """The type and message of `error` on one line of printable characters, at most 300."""
    if isinstance(error, Stopped):
        error = error.cause
    try:
        text = printable(" ".join(str(error).split()))
    except BaseException:  # the class of the error is not ours
        text = ""
    name = type(error).__name__
    text = f"{name}: {text}" if text else name
    return text if len(text) <= 300 else text[:297] + "..."


def listed(reasons: Mapping[str, str], most: int = 10) -> str:
    """`"a: why; b: why; and 3 more"`: names with their reasons, on one line."""
    shown = [f"{name}: {reason}" for name, reason in list(reasons.items())[:most]]
    return "; ".join(shown + ([f"and {len(reasons) - most} more"] if len(reasons) > most else []))


def unknown(kind: str, name: str, known: Iterable[str], otherwise: str) -> str:
    """The message for a name that is not among the known ones: the nearest, if one is near, and only otherwise more.

    Example:
        >>> unknown("proxy", "snipp", ["snip"], " (`lpz proxies` lists them all)")
        "unknown proxy 'snipp'; did you mean 'snip'?"
        >>> unknown("proxy", "x", ["snip"], " (`lpz proxies` lists them all)")
        "unknown proxy 'x' (`lpz proxies` lists them all)"
    """
    return f"unknown {kind} '{name}'{did_you_mean(name, known) or otherwise}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'snip'?"` for the nearest of `known`, or an empty string."""
    spelled = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), list(spelled), n=1, cutoff=0.5)
    return f"; did you mean '{spelled[near[0]]}'?" if near else ""


OWN_WARNINGS = (
    ComparisonWarning, ExecutorWarning, MicroBatchWarning, MinibatchWarning, ModelWarning, PluginWarning,
    RoundingWarning, TableWarning,
)  # fmt: skip
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@contextlib.contextmanager
def once(said: set[tuple[type[Warning], str]], file: str, line: int) -> Iterator[None]:
    """Warnings of this library inside are shown unless they were `said`, as of the line of a caller.

    Args:
        said: those already shown; new ones are added.
        file: of the caller.
        line: in it.
    """
    inside = True  # Python shares this between threads: one that ends first would leave it to the others
    with warnings.catch_warnings():
        show = warnings.showwarning

        def new(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *where: Any, **more: Any
        ) -> None:
            if not inside or not issubclass(category, OWN_WARNINGS):
                show(message, category, filename, lineno, *where, **more)
            elif (category, str(message)) not in said:
                said.add((category, str(message)))
                show(message, category, file, line)

        warnings.showwarning = new
        try:
            yield
        finally:
            inside = False


def said_once(run: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function that scores many models, or one many times: each of its warnings is said once a call."""

    @functools.wraps(run)
    def quiet(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        caller = sys._getframe(1)
        with once(set(), caller.f_code.co_filename, caller.f_lineno):
            return run(*arguments, **options)

    return quiet
