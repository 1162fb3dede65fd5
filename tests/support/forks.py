"""`lpz` in a fork of the test's process, which can be killed and sees what the test has put in place."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def forked(arguments: Sequence[str], out: Path) -> BaseProcess:
    """Start `lpz`; what it prints goes to the file `out`."""
    from lpz_cli.main import run

    def child() -> None:
        with out.open("w") as file, redirect_stdout(file), redirect_stderr(file):
            code = run(arguments)
        os._exit(code)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process
