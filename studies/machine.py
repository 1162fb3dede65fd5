"""What measurements depend on: cores, processor and versions."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch
import transformers

import lpzero_hf
from lpzero_hf.executors import cores


def machine() -> dict[str, Any]:
    """Cores, processor and versions of what runs here."""
    return {
        "cores": cores(),
        "processor": processor(),
        "lpzero-hf": lpzero_hf.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
