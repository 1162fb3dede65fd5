"""Runs tasks in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lpzero_hf.executors.base import Executor, Failure, Result, Task
from lpzero_hf.executors.threads import threads


class LocalExecutor(Executor):
    """Runs tasks in this process, one after the other; a task that crashes ends the whole process.

    Args:
        threads: CPU threads.

    Example:
        >>> from lpzero_hf import LocalExecutor
        >>> list(LocalExecutor().map(abs, [-1, 2]))
        [(0, 1), (1, 2)]
    """

    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result | Failure]]:
        """See `Executor.map`; `work` may be any function."""
        with threads(self.threads):
            for number, task in enumerate(tasks):
                yield number, work(task)
