"""The interface of executors: one function applied to many tasks, in this process or in others."""

from __future__ import annotations

import pickle
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from lpzero_hf.errors import LpzError, UsageError, one_line
from lpzero_hf.foreign import Survived

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """Takes the place of the result of a task that has none.

    Args:
        reason: why, in one line.
    """

    reason: str


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What a worker sends back for a task: a result, or the error that it raised."""

    result: Result | None = None
    error: Exception | None = None

    def get(self) -> Result:
        """The result. Raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # None is a result, too


class Executor(ABC):
    """Applies one function to many tasks, and yields each result when it is finished.

    On a CPU, the number of threads decides the rounding of sums; the kind of executor and the number of workers do
    not. With the same `threads`, every executor gives the same results on machines of the same kind.

    Used as a context manager, an executor calls `close` at the end.

    Args:
        threads: CPU threads of each task.

    Raises:
        UsageError: less than one thread.
    """

    def __init__(self, threads: int = 1) -> None:
        if threads < 1:
            raise UsageError(f"{threads} threads are not possible; ask for at least one")
        self.threads = threads

    @property
    def sharing(self) -> int:
        """How many tasks at most share the memory of one machine."""
        return 1

    @abstractmethod
    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result | Failure]]:
        """Do `work` on every task.

        Args:
            work: a function that other processes can find, with arguments that can be pickled.
            tasks: one argument each.

        Yields:
            (number of the task, result), in the order in which they finish. A task whose worker dies is tried again
            by another worker; if several die, a `Failure` takes the place of its result.

        Raises:
            Exception: what `work` raised; results yielded before are valid.
            LpzError: no worker can be started.
        """

    def every(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """As `map`, for work whose results are all needed.

        Raises:
            LpzError: a task has no result; results yielded before are valid.
        """
        for number, result in self.map(work, tasks):
            if isinstance(result, Failure):
                raise LpzError(f"task {number + 1} of {len(tasks)} has no result: {result.reason}")
            yield number, result

    def close(self) -> None:  # noqa: B027  # nothing to end, for most
        """Stop what this executor has started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def attempt(work: Callable[[Task], Result], task: Task) -> Outcome[Result]:
    """Run `work` in a worker; an error is returned as one that can be pickled, with its traceback as a note."""
    try:
        with Survived():
            return Outcome(result=work(task))
    except Exception as error:
        note = "In a worker:\n" + "".join(traceback.format_exception(error))
        try:
            sent: Exception = pickle.loads(pickle.dumps(error))
        except Exception:  # pickle raises many kinds of errors
            sent = LpzError(one_line(error))
        sent.add_note(note)
        return Outcome(error=sent)
