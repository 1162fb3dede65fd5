"""Latency, measured on this machine: of the prefill of prompts, and of one decoding step."""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from lpz_costs.serving import cached, prefill, prompts, step
from lpzero_hf.executors.threads import threads
from lpzero_hf.scoring.costs import Cost, CostSubject, Measured
from lpzero_hf.scoring.quantities import SECONDS

BUSY = 0.1  # share of the machine's cores; other work that takes more is told


def latency(subject: CostSubject) -> Measured:
    """Seconds of the prefill of all prompts."""
    return _timed(subject, lambda model, inputs: lambda: lambda: prefill(model, inputs))


def decode_latency(subject: CostSubject) -> Measured:
    """Seconds of one decoding step of all prompts, with their cache."""

    def prepare(model: Any, inputs: dict[str, torch.Tensor]) -> Callable[[], Callable[[], Any]]:
        output = prefill(model, inputs)
        name, cache = cached(model, output)

        def again() -> Callable[[], Any]:  # a step writes to the cache, so each has a copy
            fresh = copy.deepcopy(cache)
            return lambda: step(model, inputs, output, (name, fresh))

        return again

    return _timed(subject, prepare)


def _timed(subject: CostSubject, prepare: Callable[[Any, dict[str, torch.Tensor]], Callable[[], Any]]) -> Measured:
    """The times of a pass.

    Args:
        subject: the architecture and its deployment.
        prepare: for a model and its inputs, gives what makes each pass ready; that is not timed, the pass is.
    """
    how = subject.deployment
    tokens, device = subject.prompt, torch.device(how.device)
    model = subject.loaded()
    with threads(how.threads), torch.inference_mode():
        inputs = {k: v.to(device) for k, v in prompts(model, how.batch_size, tokens, how.seed).items()}
        ready = prepare(model, inputs)
        for _ in range(how.warmup):
            ready()()
        others, times = OtherWork(), []
        for _ in range(how.repeats):
            run = ready()
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            times.append(time.perf_counter() - start)
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return Measured(middle, low, high, len(times), others.warnings())


def _wait(device: torch.device) -> None:
    if device.type in ("cuda", "mps", "xpu"):
        getattr(torch, device.type).synchronize()


class OtherWork:
    """What else the machine's cores have done since this was made.

    Args:
        root: where the system's files are.
    """

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._file = root / "stat"
        self._start = self._now()

    def warnings(self) -> tuple[str, ...]:
        """A warning if other work took more than a tenth of the cores; none where the system does not tell."""
        end = self._now()
        if self._start is None or end is None or end[1] <= self._start[1]:
            return ()
        busy, whole, own = (after - before for before, after in zip(self._start, end, strict=True))
        share = (busy - own) / whole
        if share <= BUSY:
            return ()
        return (f"other work took {share:.0%} of this machine's cores meanwhile; measure again when it has ended",)

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds that all cores were busy, that they were there, and that this process took."""
        with suppress(OSError, ValueError, IndexError, AttributeError):
            words = self._file.read_text(encoding="ascii").split("\n", 1)[0].split()
            ticks = [int(word) for word in words[1:9]]  # user nice system idle iowait irq softirq steal
            hertz = os.sysconf("SC_CLK_TCK")
            own = os.times()
            return (sum(ticks) - ticks[3] - ticks[4]) / hertz, sum(ticks) / hertz, own.user + own.system
        return None


COSTS = [
    Cost(name="latency", unit=SECONDS, summary="time of the prefill, measured here", measure=latency),
    Cost(name="decode_latency", unit=SECONDS, summary="time of one more token, measured here", measure=decode_latency),
]
