"""Runs tasks in several processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait

import torch

from lpzero_hf.errors import ExecutorWarning, LpzError, PluginWarning, UsageError
from lpzero_hf.executors.base import Executor, Failure, Outcome, Result, Task, attempt
from lpzero_hf.executors.retries import TRIES, RetryQueue

STOP_SECONDS = 10  # that a worker has to stop


class ProcessExecutor(Executor):
    """Runs tasks in several processes on this machine, which are started for each `map` and stopped at its end.

    The number of threads per worker decides the rounding, so it does not depend on the number of workers.

    Args:
        workers: number of processes; by default the number of cores that this process may use, divided by `threads`.
            More are allowed, with a warning: results stay the same, but the workers slow each other down.
        threads: CPU threads in each.

    Raises:
        UsageError: less than one worker or thread.

    Example:
        >>> from lpzero_hf import ProcessExecutor
        >>> sorted(ProcessExecutor(workers=1).map(abs, [-1, 2]))
        [(0, 1), (1, 2)]
    """

    def __init__(self, workers: int | None = None, threads: int = 1) -> None:
        if threads < 1 or (workers is not None and workers < 1):
            raise UsageError(f"{workers} workers of {threads} threads are not possible; ask for at least one of each")
        super().__init__(threads)
        self.workers = max(1, cores() // threads) if workers is None else workers
        warn_if_crowded(self.workers, threads)

    @property
    def sharing(self) -> int:
        """All workers."""
        return self.workers

    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result | Failure]]:
        """See `Executor.map`. Workers ignore Ctrl-C, which this process handles; they end when this process ends."""
        pool = _WorkerPool(pickle.dumps(work), self.workers, self.threads, tasks)
        try:
            while pool.queue.left:
                pool.assign()
                for worker in pool.ready():
                    settled = pool.receive(worker)
                    if settled is not None:
                        number, outcome = settled
                        yield number, outcome if isinstance(outcome, Failure) else pickle.loads(outcome.get())
        finally:
            pool.stop()


class _WorkerPool:
    """The workers of one `map`. Each has one task at a time, so that a crash shows which task was running."""

    def __init__(self, work: bytes, size: int, threads: int, tasks: Sequence[object]) -> None:
        self.work, self.size, self.threads, self.tasks = work, size, threads, tasks
        self.queue = RetryQueue(len(tasks))
        self.failed_starts = 0  # workers in a row that died before they could run a task
        self.workers: list[_Worker] = []

    def assign(self) -> None:
        """Give every idle worker a task, and start missing workers while there are tasks for them."""
        for worker in self.workers:
            if worker.started and worker.number is None:
                number = self.queue.take()
                if number is None:
                    break
                worker.send(number, self.tasks[number])
        for _ in range(min(self.size, self.queue.left) - len(self.workers)):
            self.workers.append(_Worker(self.work, self.threads))

    def ready(self) -> list[_Worker]:
        """Wait until at least one worker has sent a message or has died; return all that have."""
        ready = wait([worker.connection for worker in self.workers])
        return [worker for worker in self.workers if worker.connection in ready]

    def receive(self, worker: _Worker) -> tuple[int, Outcome[bytes] | Failure] | None:
        """Read a worker's message: its task and the outcome, or None if no task is settled by it."""
        number = worker.number
        try:
            outcome = worker.receive()
        except (EOFError, OSError):
            return self._remove_crashed(worker)
        self.failed_starts = 0
        if outcome is None or number is None:  # it has just started
            return None
        self.queue.done(number)
        return number, outcome

    def _remove_crashed(self, worker: _Worker) -> tuple[int, Failure] | None:
        """Remove a worker that died: its task, with a failure, if it is not tried again."""
        self.workers.remove(worker)
        cause, number = worker.exit_cause(), worker.number
        if not worker.started:
            self.failed_starts += 1
            if self.failed_starts == TRIES:
                raise LpzError(
                    f"{TRIES} worker processes died before they could work ({cause}); their own messages are above; "
                    "a script needs `if __name__ == '__main__':` around what it runs"
                )
        failure = None if number is None else self.queue.crashed(number, cause)
        return None if number is None or failure is None else (number, failure)

    def stop(self) -> None:
        """Stop all workers, including those that still run a task after an error."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.connection.close()
            worker.process.join(STOP_SECONDS)
            worker.process.kill()  # if it ignored the request


class _Worker:
    """A process, the connection to it, and the task that it runs."""

    def __init__(self, work: bytes, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, work, threads), daemon=True)
        self.started = False
        self.number: int | None = None
        with _interrupts_blocked():
            self.process.start()
        other.close()  # so that the pipe is closed when the process ends

    def send(self, number: int, task: object) -> None:
        """Give it a task; if it has died meanwhile, the next `receive` raises."""
        pickled = pickle.dumps(task)
        self.number = number
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(pickled)

    def receive(self) -> Outcome[bytes] | None:
        """The outcome of its task, or None when it has just started. Raises `EOFError` or `OSError` if it died."""
        outcome: Outcome[bytes] | None = pickle.loads(self.connection.recv_bytes())
        self.started, self.number = True, None
        return outcome

    def exit_cause(self) -> str:
        """The signal that ended it, or its exit code."""
        self.process.join(STOP_SECONDS)
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _serve(connection: Connection, work: bytes, threads: int) -> None:
    """What a worker runs: it reports that it has started, then runs task after task until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    warnings.simplefilter("ignore", PluginWarning)  # the parent has told
    torch.set_num_threads(threads)
    function = pickle.loads(work)

    def pickled(task: bytes) -> bytes:
        return pickle.dumps(function(pickle.loads(task)))

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send_bytes(pickle.dumps(None))
        while True:
            connection.send_bytes(pickle.dumps(attempt(pickled, connection.recv_bytes())))


def _exit_with_parent() -> None:
    """End this worker when its parent process ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process started in here ignores Ctrl-C from its first moment, for example while it imports torch."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warn_if_crowded(workers: int, threads: int) -> None:
    """Warn of more threads than cores."""
    if workers > 1 and workers * threads > cores():
        warnings.warn(
            f"{workers} workers of {threads} threads share {cores()} cores and slow each other down; "
            "results are the same, but fewer workers are faster",
            ExecutorWarning,
            stacklevel=3,
        )
