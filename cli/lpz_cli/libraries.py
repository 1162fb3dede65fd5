"""Imports the libraries that models are made of, which is most of the start of a command that runs one."""

from __future__ import annotations

import gc
import sys


def load_libraries() -> None:
    """Import torch and transformers before anything that is built on them.

    They make hundreds of thousands of objects that all stay. The garbage collector would look through them again and
    again while they come, and at each later collection: it is off meanwhile, and passes them over afterwards.
    """
    if "transformers.modeling_utils" in sys.modules:
        return
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
        import transformers.generation.utils
        import transformers.modeling_utils  # noqa: F401

        gc.freeze()
    finally:
        if collecting:
            gc.enable()
