"""Turns a panic of native code (tokenizers are written in Rust) into an error of this library."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from lpzero_hf.errors import LpzError, one_line

STDERR = 2


@contextmanager
def reported(failure: str, remedy: str, error: type[LpzError]) -> Iterator[None]:
    """Run native code; a panic, which is no `Exception`, and the trace it prints become one line.

    Args:
        failure: what the message begins with.
        remedy: what it ends with.
        error: raised instead.
    """
    sys.stderr.flush()
    saved = os.dup(STDERR)
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), STDERR)
        shown = True
        try:
            yield
        except BaseException as raised:
            if type(raised).__name__ != "PanicException":
                raise
            shown = False
            raise error(f"{failure}: {one_line(raised)}; {remedy}") from None
        finally:
            sys.stderr.flush()
            os.dup2(saved, STDERR)
            os.close(saved)
            printed.seek(0)
            if shown and (text := printed.read()):
                os.write(STDERR, text)
