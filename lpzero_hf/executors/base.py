"""What an executor is: it does one piece of work on many tasks, somewhere."""

from __future__ import annotations

import pickle
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from lpzero_hf.errors import LpzError, UsageError, one_line

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """Stands where a task has no result.

    Args:
        reason: why, in one line.
    """

    reason: str


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of a task in a worker, on its way back: a result, or the error that it raised."""

    result: Result | None = None
    error: Exception | None = None

    def get(self) -> Result:
        """The result. Raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # None is a result, too


class Executor(ABC):
    """Does one piece of work on many tasks, and hands over each result as it comes.

    The number of threads decides the rounding of sums on a CPU. Where the work is done does not, nor how many workers
    share it: for one `threads`, every executor gives the same results on machines alike.

    Used as a context manager, an executor that has started something ends it.

    Args:
        threads: CPU threads of each task.

    Raises:
        UsageError: less than one thread.
    """

    def __init__(self, threads: int = 1) -> None:
        if threads < 1:
            raise UsageError(f"{threads} threads cannot work; ask for at least one")
        self.threads = threads

    @abstractmethod
    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result | Failure]]:
        """Do `work` on every task.

        Args:
            work: a function that other processes can find, with arguments that can be pickled.
            tasks: one argument each.

        Yields:
            (number of the task, result), as they are finished. In place of a result, a `Failure` for a task that
            has cost several workers their lives; a task whose worker has died once is done again by another.

        Raises:
            Exception: what `work` raised; results handed over before are good.
            LpzError: there are no workers to be had.
        """

    def every(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """As `map`, for work whose results are all needed.

        Raises:
            LpzError: a task has none; results handed over before are good.
        """
        for number, result in self.map(work, tasks):
            if isinstance(result, Failure):
                raise LpzError(f"task {number + 1} of {len(tasks)} has no result: {result.reason}")
            yield number, result

    def close(self) -> None:  # noqa: B027  # nothing to end, for most
        """End what this executor has started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def attempt(work: Callable[[Task], Result], task: Task) -> Outcome[Result]:
    """Do the work in a worker; an error comes back as one that can be pickled, with its traceback as a note."""
    try:
        return Outcome(result=work(task))
    except Exception as error:
        note = "In a worker:\n" + "".join(traceback.format_exception(error))
        try:
            sent: Exception = pickle.loads(pickle.dumps(error))
        except Exception:  # pickle has many ways to say no
            sent = LpzError(one_line(error))
        sent.add_note(note)
        return Outcome(error=sent)
