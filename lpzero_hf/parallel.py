"""Runs independent tasks in several processes, and hands over each result as it comes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from lpzero_hf.errors import LpzError, UsageError

Task = TypeVar("Task")
Result = TypeVar("Result")


def each(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int = 1, threads: int = 1
) -> Iterator[tuple[int, Result]]:
    """Call `function` on every task; yields (number of the task, result) as they are finished.

    The number of threads decides the rounding of sums on a CPU, the number of workers does not: for one
    `threads`, results are the same whatever `workers`.

    Args:
        function: for several workers, one that can be pickled, and so its tasks.
        tasks: one argument each.
        workers: processes; 1 works in this process.
        threads: CPU threads in each process.

    Raises:
        UsageError: less than one worker or thread.
        LpzError: a worker died, for want of memory for example; results handed over before are good.
    """
    if workers < 1 or threads < 1:
        raise UsageError(f"{workers} workers of {threads} threads cannot work; ask for at least one of each")
    if workers == 1 or len(tasks) <= 1:
        with _threads(threads):
            for number, task in enumerate(tasks):
                yield number, function(task)
        return
    strangers = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _start, (threads,))
    try:
        with _deaf():
            futures = {pool.submit(function, task): number for number, task in enumerate(tasks)}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    except BrokenProcessPool as error:
        raise LpzError(
            "a worker process died, perhaps for want of memory; what was finished is kept, "
            "so run again, with fewer --workers"
        ) from error
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in strangers:
                process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def _start(threads: int) -> None:
    """Prepare a worker: Ctrl-C is the parent's to handle, and a worker does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
