"""The start of the `lpz` command: from its first moment on, Ctrl-C ends it with one line and exit code 130.

At its top it imports only what Python has imported already, so that no time passes before that holds.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

INTERRUPTED = 130
_exit = os._exit  # of this process, even while `foreign.Survived` refuses it
_state = {"running": False, "interrupted": False, "told": False, "rows": False}
_remedy = [""]  # what to do after Ctrl-C, if the command knows better than `how_to_go_on`


def running() -> bool:
    """Whether this process is a command, and not one of Python's that calls commands."""
    return _state["running"]


def interrupted() -> bool:
    """Whether there was a Ctrl-C."""
    return _state["interrupted"]


def keep_rows(there: bool) -> None:
    """Say whether there are rows that the command prints after Ctrl-C: then it is not ended in the middle of an import,
    but has to ask whether it was `interrupted`."""
    _state["rows"] = there


def go_on(remedy: str) -> None:
    """Say how to go on after Ctrl-C: what follows "interrupted" in the last line."""
    _remedy[0] = remedy


def main() -> None:
    """The entry point of the `lpz` command."""
    try:
        _watch()
        from lpz_cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception:  # only with --debug
        import traceback

        from lpzero_hf.errors import printable

        sys.stderr.write(printable(traceback.format_exc()))
        code = 1
    if code == INTERRUPTED:
        _state["interrupted"] = True  # from now on, another Ctrl-C ends it at once
        _tell()
    else:
        _state["interrupted"] = _state["told"] = True  # what ends is done
    sys.exit(code)


def _watch() -> None:
    """Notice every Ctrl-C, also where Python cannot raise it: in a destructor, for example."""
    import signal

    _state["running"] = True
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, _interrupt)
    before = sys.unraisablehook

    def unraisable(failed: Any) -> None:
        if not issubclass(failed.exc_type, KeyboardInterrupt):
            before(failed)
        elif not _state["rows"]:
            _leave()

    sys.unraisablehook = unraisable


def _interrupt(number: int, frame: FrameType | None) -> None:
    importing = _importing(frame)
    if _state["interrupted"] or (importing and not _state["rows"]):
        _leave()
    _state["interrupted"] = True
    if not importing:
        raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    """Whether `frame` imports a module: its compiled parts may abort the process at an exception."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave() -> None:
    _tell()
    _exit(INTERRUPTED)


def _tell() -> None:
    if not _state["told"]:
        _state["told"] = True
        os.write(2, f"interrupted{_remedy[0] or how_to_go_on(sys.argv[1:])}\n".encode())


CACHED = "; the same command goes on, with the scores that it has kept"
GO_ON = {
    "rank": CACHED,
    "compare": CACHED,
    "eval": CACHED,
    "train": "; the same command goes on with the models trained",
}
RESUMED = ("search", "transfer", "nas")


def how_to_go_on(arguments: list[str]) -> str:
    """What to do after Ctrl-C for a command to go on; nothing where it would begin anew."""
    words = [word for word in arguments[:2] if not word.startswith("-")]
    command = words[-1] if words[:1] == ["bench"] else next(iter(words), "")
    if command in RESUMED and any(word.partition("=")[0] in ("--out", "-o") for word in arguments):
        return "; add --resume to go on" if "--resume" not in arguments else "; the same command goes on"
    return "" if "--no-cache" in arguments else GO_ON.get(command, "")
