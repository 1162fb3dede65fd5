"""Code of others inside this process: whatever it does to the process, results still reach standard output, once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lpzero_hf.foreign import MOST_ITEMS, several

SCRIPT = """
import contextlib, sys
from lpzero_hf.foreign import contained, stdout_kept
{outer}
    for again in range(2):
        try:
            with contained("at work", "odd"):
                exec({code!r})
        except Exception as error:
            print("caught", error, file=sys.stderr)
        print("told", file=sys.stderr, flush=True)
print("one", flush=True)
with stdout_kept() as results:
    print("two", file=results)
"""
DEEDS = {
    "prints": "print('x'); sys.__stdout__.write('x'); import os; os.write(1, b'x')",
    "prints from C": "import ctypes; ctypes.CDLL(None).puts(b'x')",
    "closes standard output": "sys.stdout.close(); sys.__stdout__.close()",
    "closes standard error": "sys.stderr.close(); sys.__stderr__.close()",
    "closes descriptor 1": "import os; os.close(1)",
    "closes descriptors": "import os; os.close(1); os.close(2)",
    "puts another file there": "import os; os.close(1); os.close(2); open(os.devnull); open(os.devnull)",
    "has no streams": "sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None",
    "has streams of its own": "sys.stdout = sys.stderr = open('/dev/null', 'w')",
    "forks": "import os\nif os.fork() == 0: print('x')",
    "forks and raises": "import os\nif os.fork() == 0: raise SystemExit(3)\nos.wait()",
    "exits": "import os; os._exit(0)",
    "exits by another name": "import posix; posix._exit(0)",
    "exits from a class of its own": "class Odd(SystemExit): pass\nraise Odd(0)",
}


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("outer", ["with contextlib.nullcontext():", "with stdout_kept():"])
@pytest.mark.parametrize("deed", DEEDS)
def test_results_are_printed_once_whatever_a_plugin_does(deed: str, outer: str, unbuffered: str) -> None:
    script = SCRIPT.format(code=DEEDS[deed], outer=outer)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}  # it makes C's standard output unbuffered, too
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n"), done.stderr
    assert done.stderr.count("told") == 2
    assert done.stderr.count("caught") == (2 if deed.startswith("exits") else 0)


def test_what_has_no_end_is_refused() -> None:
    assert several(iter("abc")) == ["a", "b", "c"]
    with pytest.raises(ValueError, match=f"{MOST_ITEMS:,}"):
        several(iter(int, 1))
