"""What the proxies that share one backward pass cost on a large model, over a plain forward and backward pass."""

from __future__ import annotations

import gc
import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from lpzero_hf import minibatch, score
from lpzero_hf.models.build import build_model
from lpzero_hf.models.objective import with_labels
from studies.cost.score import single_backward_proxies
from studies.cost.sizes import CUBIC, SIZES, llama

DECOMPOSED = 27  # matrices of one Llama block at most: W and G of 7 and of 4 layers, and the signs of 5 gradients
Keep = Callable[[Mapping[str, Any]], None]


def timed(device: torch.device, work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until all kernels of `work` are done, and what it returns."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    start = time.perf_counter()
    made = work()
    wait()
    return time.perf_counter() - start, made


def peak_of(device: torch.device, work: Callable[[], Any]) -> tuple[float, int | None]:
    """Seconds of `work`, and the most bytes of the device that were in use meanwhile; None on a CPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds, _ = timed(device, work)
    return seconds, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def drawn_on(device: torch.device, size: str) -> PreTrainedModel:
    """A Llama shape in bfloat16 whose weights are drawn on the device itself: drawing 7 billion on a CPU takes long."""
    with device:
        return build_model(llama(size), dtype=torch.bfloat16, device=device)


def decomposition(device: torch.device, size: str) -> float:
    """Seconds for the eigenvalues of one matrix as wide as the model, in double precision."""
    width = SIZES[size][0]
    matrix = torch.randn(width, width, device=device, dtype=torch.float64)
    torch.linalg.eigvalsh(matrix[:64, :64] @ matrix[:64, :64].T)  # loads the solver
    return timed(device, lambda: torch.linalg.eigvalsh(matrix @ matrix.T))[0]


def large(
    size: str,
    device: torch.device,
    *,
    checkpointing: bool,
    minibatch_of: tuple[int, int] = (16, 128),
    repeats: int = 3,
    left: Callable[[], float] = lambda: math.inf,
    keep: Keep = lambda made: None,
) -> dict[str, Any]:
    """Seconds and peak memory of a plain pass, of the proxies that take time in proportion to the weights, and of all.

    Args:
        size: of the model, see `SIZES`.
        device: that it is drawn on.
        checkpointing: of the passes of the proxies; the plain pass keeps all activations.
        minibatch_of: sequences and tokens.
        repeats: of each, after one that is not counted. All proxies are scored as often as `left` allows.
        left: the seconds that may still be used.
        keep: called with what is measured after each of the three.
    """
    building, model = timed(device, lambda: drawn_on(device, size))
    batch = minibatch(model, batch_size=minibatch_of[0], seq_len=minibatch_of[1])
    fed = with_labels(model, batch, 42)
    names = single_backward_proxies()
    linear = [name for name in names if name not in CUBIC]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    made: dict[str, Any] = {
        "size": size, "parameters": parameters, "dtype": "bfloat16", "checkpointing": checkpointing,
        "minibatch": list(minibatch_of), "proxies": {"linear": len(linear), "all": len(names)},
        "weights_bytes": 2 * parameters, "build_seconds": building,
        "seconds": {}, "peak_bytes": {}, "over_plain": {}, "failed": {},
    }  # fmt: skip

    def plain() -> None:
        model(**fed, use_cache=False).loss.backward()
        model.zero_grad(set_to_none=True)

    def scored(chosen: list[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of minibatches and rounding: nothing is ranked here
            scores = score(model, batch, chosen, checkpointing=checkpointing)
        made["failed"] |= {row.proxy: row.reason for row in scores.rows if row.status in ("failed", "left out")}

    _measure(made, device, "plain", plain, repeats)
    keep(made)
    _measure(made, device, "linear", lambda: scored(linear), repeats)
    keep(made)
    made["eigenvalues_seconds"] = decomposition(device, size)
    expected = made["eigenvalues_seconds"] * DECOMPOSED * SIZES[size][2] + statistics.median(made["seconds"]["linear"])
    times = min(repeats, int(left() / expected)) if left() < math.inf else repeats
    if times:
        _measure(made, device, "all", lambda: scored(names), times, warm=False)
    else:
        made["left_out"] = f"all proxies: about {expected:.0f} s, and {left():.0f} s were left"
    keep(made)
    return made


def _measure(
    made: dict[str, Any], device: torch.device, name: str, work: Callable[[], None], repeats: int, warm: bool = True
) -> None:
    """Repeat `work`, and write down its seconds, its peak, and its median over that of the plain pass."""
    if warm:
        work()
    runs = [peak_of(device, work) for _ in range(repeats)]
    made["seconds"][name] = [seconds for seconds, _ in runs]
    peaks = [peak for _, peak in runs if peak is not None]
    made["peak_bytes"][name] = max(peaks, default=None)
    if name != "plain":
        medians = [statistics.median(made["seconds"][of]) for of in (name, "plain")]
        made["over_plain"][name] = {
            "seconds": medians[0] / medians[1],
            "peak": made["peak_bytes"][name] / made["peak_bytes"]["plain"] if peaks else None,
        }
