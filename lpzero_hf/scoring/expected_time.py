"""The time that the passes over a model are expected to take: from its size, and how fast a matrix product is here.

Rough, for people who wait: within a factor of 3 for dense models before the first pass, and closer after each, because
the passes that are done correct the others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from lpzero_hf.proxies.base import Proxy, ranks_a_set, single
from lpzero_hf.scoring.pass_order import passes_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OVERHEAD = 1.3  # of a forward pass over its matrix products
SIDE = 1024  # of the matrices that are multiplied to find out
TRIAL = 0.1  # seconds of that
WHOLE = 1.0  # forward passes: what takes less says nothing of the others


class ExpectedTime:
    """The seconds of each pass, in the order in which they run; corrected by those that are done.

    Args:
        works: what each takes, by its name, in forward passes of the minibatch.
        forward: the seconds that one is expected to take.
    """

    def __init__(self, works: Mapping[str, float], forward: float) -> None:
        self.works, self.forward = dict(works), forward
        self.done: dict[str, float] = {}

    @property
    def steps(self) -> dict[str, float]:
        """The seconds of every pass: those that it took, or those that it is expected to take."""
        return {name: self.done.get(name, work * self.forward) for name, work in self.works.items()}

    @property
    def total(self) -> float:
        """The seconds of all."""
        return sum(self.steps.values())

    def finish(self, step: str, seconds: float) -> None:
        """A pass is done, after so many seconds."""
        self.done[step] = seconds
        known = {name: spent for name, spent in self.done.items() if self.works.get(name, 0) >= WHOLE}
        if known:
            self.forward = sum(known.values()) / sum(self.works[name] for name in known)


def expected_time(
    model: PreTrainedModel,
    batch: Mapping[str, Any] | None,
    proxies: Sequence[Proxy],
    *,
    checkpointing: bool = False,
    rate: float,
) -> ExpectedTime:
    """The time that scores are expected to take.

    A forward pass takes two operations for each weight and token; of a mixture of experts that is too many.

    Args:
        model: lazy or not.
        batch: `input_ids` [B, T]; None if no proxy uses it.
        proxies: those that are scored.
        checkpointing: as they are.
        rate: operations a second, as `measured_rate` finds out.
    """
    tokens = 0 if batch is None else batch["input_ids"].numel()
    weights = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    passes = passes_of(single(proxy for proxy in proxies if not ranks_a_set(proxy)))
    again = {one.step: 1.0 for one in passes if checkpointing and one.step.endswith(" pass") and one.work >= WHOLE}
    works = {one.step: one.work + again.get(one.step, 0.0) for one in passes}
    return ExpectedTime(works, OVERHEAD * 2 * weights * tokens / rate)


def measured_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second of matrix products, from a tenth of a second of them."""
    one = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
    other = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
    spent, number = 0.0, 0
    _ = float((one @ other)[0, 0])  # the first one is slower
    while spent < TRIAL:
        start = time.perf_counter()
        _ = float((one @ other)[0, 0])  # waits for a GPU
        spent, number = spent + time.perf_counter() - start, number + 1
    return 2 * SIDE**3 * number / spent
