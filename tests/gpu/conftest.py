"""The device that is compared with the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from studies.cost.devices import exact


@pytest.fixture(scope="session")
def card() -> torch.device:
    """A CUDA device, or the one that LPZ_GPU_DEVICE names: `LPZ_GPU_DEVICE=cpu` tries these tests without a card."""
    device = torch.device(os.environ.get("LPZ_GPU_DEVICE") or "cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here; LPZ_GPU_DEVICE=cpu tries these tests on the CPU")
    torch.rand(3, device=device)  # starts CUDA, and its generator is no longer as seeded
    return device


@pytest.fixture(autouse=True)
def no_tf32() -> Iterator[None]:
    """Everything is computed in full float32."""
    with exact():
        yield
