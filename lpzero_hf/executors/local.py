"""Works in this process, one task after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from lpzero_hf.executors.base import Executor, Failure, Result, Task


class LocalExecutor(Executor):
    """Works in this process, one task after the other; a task that kills it kills everything.

    Args:
        threads: CPU threads.

    Example:
        >>> from lpzero_hf.executors import LocalExecutor
        >>> list(LocalExecutor().map(abs, [-1, 2]))
        [(0, 1), (1, 2)]
    """

    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result | Failure]]:
        """See `Executor.map`; `work` may be any function."""
        with _threads(self.threads):
            for number, task in enumerate(tasks):
                yield number, work(task)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
