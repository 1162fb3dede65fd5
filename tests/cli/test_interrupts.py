"""Ctrl-C at any moment ends a command, and its workers, with one line and exit code 130."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
LPZ = (  # a shell lets what it runs in the background ignore Ctrl-C
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from lpz_cli.entry import main; print('ready', file=sys.stderr, flush=True)\nmain()"
)
SMALL = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu")
COMMANDS = {
    "imports": ("score", "gpt2-variant", "-p", "snip", *SMALL),
    "workers": ("bench", "eval", "tiny-gpt2", "-p", "snip", "--workers", "2", "--no-cache", *SMALL),
    "proxies": ("proxies",),
}
MOMENTS = [("imports", 0.05), ("imports", 0.8), ("workers", 2.0), ("workers", 5.0), ("proxies", 0.3)]
MORE = [("imports", delay) for delay in (0.0, 0.02, 0.1, 0.2, 0.4, 1.6, 3.0)]
MORE += [("workers", delay) for delay in (1.0, 3.0, 4.0, 6.0, 8.0)]


@pytest.mark.parametrize(
    ("command", "delay"), [*MOMENTS, *(pytest.param(*moment, marks=pytest.mark.slow) for moment in MORE)]
)
def test_ctrl_c_ends_a_command_with_one_line(command: str, delay: float, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LPZ, *COMMANDS[command]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"LPZ_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate()  # returns when the last process that holds the pipes has gone
    if process.returncode == 0:  # it was done before
        assert err == ""
    else:
        assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_a_second_ctrl_c_ends_what_does_not_end(tmp_path: Path) -> None:
    code = "import time\nfrom lpz_cli import main as m, entry\ndef run(arguments):\n"
    code += "    try:\n        print('ready', flush=True)\n        time.sleep(600)\n"
    code += "    finally:\n        print('cleaning', flush=True)\n        time.sleep(600)\n"
    code += "m.run = run\nentry.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    for line in ("ready\n", "cleaning\n"):
        assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "interrupted\n"
    assert process.returncode == 130


def test_ctrl_c_while_compiled_code_imports_does_not_abort(tmp_path: Path) -> None:
    """An exception that passes through compiled code, as in parts of torch, would end in `std::terminate`."""
    (tmp_path / "slowly.py").write_text(
        "import time\ntry:\n    print('ready', flush=True)\n    time.sleep(600)\n"
        "except KeyboardInterrupt:\n    import os\n    os.abort()\n"
    )
    code = "from lpz_cli import main as m, entry\ndef run(arguments):\n    import slowly\nm.run = run\nentry.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "interrupted\n"
    assert process.returncode == 130
