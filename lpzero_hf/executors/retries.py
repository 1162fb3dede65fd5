"""Which task is next, and how often a task is tried again after its worker has died."""

from __future__ import annotations

import warnings
from collections import deque

from lpzero_hf.errors import ExecutorWarning
from lpzero_hf.executors.base import Failure

TRIES = 3  # of a task whose worker dies, before it has failed


class RetryQueue:
    """The tasks of one `Executor.map`, by number.

    A task whose worker has died is tried again after all others. Its last try runs alone, so that no task fails
    because of another: a task that takes all memory can also kill the workers beside it.

    Args:
        count: number of tasks.
    """

    def __init__(self, count: int) -> None:
        self._pending = deque(range(count))
        self._last: deque[int] = deque()  # those with one try left
        self._busy: set[int] = set()
        self._crashes = [0] * count

    @property
    def left(self) -> int:
        """Number of tasks that are not done, including those that workers are running."""
        return len(self._pending) + len(self._last) + len(self._busy)

    @property
    def busy(self) -> int:
        """Number of tasks that workers are running."""
        return len(self._busy)

    def take(self) -> int | None:
        """The next task for a worker; None if there is none now."""
        queue = self._pending or (self._last if not self._busy else None)
        if not queue:
            return None
        number = queue.popleft()
        self._busy.add(number)
        return number

    def done(self, number: int) -> None:
        """A worker has done the task."""
        self._busy.remove(number)

    def crashed(self, number: int, cause: str) -> Failure | None:
        """The task's worker has died: the failure if that was its last try; else a warning, and it is tried again."""
        self._busy.remove(number)
        self._crashes[number] += 1
        crashes = self._crashes[number]
        if crashes == TRIES:
            return Failure(f"its worker died {TRIES} times, perhaps out of memory ({cause})")
        (self._last if crashes == TRIES - 1 else self._pending).append(number)
        alone = ", alone" if crashes == TRIES - 1 else ""
        warnings.warn(
            f"a worker died ({cause}), perhaps out of memory; another does its task again{alone} "
            f"(try {crashes + 1} of {TRIES})",
            ExecutorWarning,
            stacklevel=3,
        )
        return None
