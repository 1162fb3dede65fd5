"""The version of this release, and the versions that decide a result."""

from __future__ import annotations

__version__ = "0.2.0.dev0"


def versions() -> dict[str, str]:
    """The version of everything that decides a number, as results and artifacts record it."""
    import platform

    import torch
    import transformers

    return {
        "lpzero-hf": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
