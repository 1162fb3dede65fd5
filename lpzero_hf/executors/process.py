"""Works in several processes on this machine."""

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

from lpzero_hf.errors import ExecutorWarning, LpzError, UsageError
from lpzero_hf.executors.base import Executor, Failure, Outcome, Result, Task, attempt
from lpzero_hf.executors.retries import TRIES, Tries

PATIENCE = 10  # seconds that a worker has to end


class ProcessExecutor(Executor):
    """Works in several processes on this machine, which are started for each `map` and end with it.

    The threads decide the rounding and so are not divided among the workers: the workers are as many as the cores
    allow for.

    Args:
        workers: processes; None for as many as this process has cores for. With more, a warning: they get in each
            other's way, and results stay the same.
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
            raise UsageError(f"{workers} workers of {threads} threads cannot work; ask for at least one of each")
        super().__init__(threads)
        self.workers = max(1, cores() // threads) if workers is None else workers
        warn_if_crowded(self.workers, threads)

    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result | Failure]]:
        """See `Executor.map`. Ctrl-C is this process's to handle, and no worker outlives it."""
        crew = _Crew(pickle.dumps(work), self.workers, self.threads, tasks)
        try:
            while crew.tries.left:
                crew.employ()
                for worker in crew.ready():
                    news = crew.hear(worker)
                    if news is not None:
                        number, outcome = news
                        yield number, outcome if isinstance(outcome, Failure) else pickle.loads(outcome.get())
        finally:
            crew.dismiss()


class _Crew:
    """The workers of one `map`. Each has one task at a time, so that a death tells which task it was."""

    def __init__(self, work: bytes, size: int, threads: int, tasks: Sequence[object]) -> None:
        self.work, self.size, self.threads, self.tasks = work, size, threads, tasks
        self.tries = Tries(len(tasks))
        self.stillborn = 0  # workers in a row that died before they could work
        self.workers: list[_Worker] = []

    def employ(self) -> None:
        """Give every idle worker a task, and start as many workers as there is work for."""
        for worker in self.workers:
            if worker.begun and worker.number is None:
                number = self.tries.take()
                if number is None:
                    break
                worker.send(number, self.tasks[number])
        for _ in range(min(self.size, self.tries.left) - len(self.workers)):
            self.workers.append(_Worker(self.work, self.threads))

    def ready(self) -> list[_Worker]:
        """Waits for workers that have something to say, or have died."""
        ready = wait([worker.connection for worker in self.workers])
        return [worker for worker in self.workers if worker.connection in ready]

    def hear(self, worker: _Worker) -> tuple[int, Outcome[bytes] | Failure] | None:
        """What has become of a worker's task, if that is settled."""
        number = worker.number
        try:
            outcome = worker.receive()
        except (EOFError, OSError):
            return self._bury(worker)
        self.stillborn = 0
        if outcome is None or number is None:  # it has just begun
            return None
        self.tries.done(number)
        return number, outcome

    def _bury(self, worker: _Worker) -> tuple[int, Failure] | None:
        """Strike off a worker that died; its task is done again, or given up."""
        self.workers.remove(worker)
        cause, number = worker.cause(), worker.number
        if not worker.begun:
            self.stillborn += 1
            if self.stillborn == TRIES:
                raise LpzError(
                    f"{TRIES} worker processes died before they could work ({cause}); their own messages are above; "
                    "a script needs `if __name__ == '__main__':` around what it runs"
                )
        failure = None if number is None else self.tries.died(number, cause)
        return None if number is None or failure is None else (number, failure)

    def dismiss(self) -> None:
        """End all workers; those at work when something went wrong, too."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.connection.close()
            worker.process.join(PATIENCE)
            worker.process.kill()  # one that does not listen


class _Worker:
    """A process, the task it has, and the way to talk to it."""

    def __init__(self, work: bytes, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, work, threads), daemon=True)
        self.begun = False
        self.number: int | None = None
        with _deaf():
            self.process.start()
        other.close()  # so that the pipe ends when the process does

    def send(self, number: int, task: object) -> None:
        """Give it a task; one that died meanwhile is found out when it is heard next."""
        pickled = pickle.dumps(task)
        self.number = number
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(pickled)

    def receive(self) -> Outcome[bytes] | None:
        """What became of its task, or None when it has just begun. Raises `EOFError` or `OSError` if it died."""
        outcome: Outcome[bytes] | None = pickle.loads(self.connection.recv_bytes())
        self.begun, self.number = True, None
        return outcome

    def cause(self) -> str:
        """What it died of."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _serve(connection: Connection, work: bytes, threads: int) -> None:
    """The life of a worker: it says that it is there, then does task after task until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    function = pickle.loads(work)

    def pickled(task: bytes) -> bytes:
        return pickle.dumps(function(pickle.loads(task)))

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send_bytes(pickle.dumps(None))
        while True:
            connection.send_bytes(pickle.dumps(attempt(pickled, connection.recv_bytes())))


def _follow() -> None:
    """A worker does not outlive its parent."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """A process started in here is deaf to Ctrl-C from the first moment, while it imports torch for example."""
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
            f"{workers} workers of {threads} threads share {cores()} cores and get in each other's way; "
            "results are the same, but fewer workers are faster",
            ExecutorWarning,
            stacklevel=3,
        )
