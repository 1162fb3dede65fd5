"""What measurements depend on: cores, processor and versions."""

from __future__ import annotations

import platform
import subprocess
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


def card(device: torch.device) -> dict[str, Any]:
    """The name, memory and driver of a CUDA device, and the CUDA that torch was built with; nothing of others."""
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {
        "card": properties.name,
        "card_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": driver(),
        "cuda": torch.version.cuda,
    }


def driver() -> str:
    """The version of the driver of NVIDIA's cards, or nothing where it cannot be read."""
    try:
        text = Path("/sys/module/nvidia/version").read_text(encoding="ascii")
    except OSError:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return ""
    return text.split("\n")[0].strip()
