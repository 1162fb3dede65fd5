"""Where independent tasks are done: in this process, in several, or on a Ray cluster.

One small interface, `Executor.map`, and one class per file.
"""

from lpzero_hf.errors import UsageError
from lpzero_hf.executors.base import Executor, Failure
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.executors.process import ProcessExecutor, cores
from lpzero_hf.executors.ray import RayExecutor

__all__ = ["Executor", "Failure", "LocalExecutor", "ProcessExecutor", "RayExecutor", "cores", "executor_for"]


def executor_for(executor: Executor | None, workers: int = 1, threads: int = 1) -> Executor:
    """The executor that a caller has given, else one of that many processes of that many threads.

    Raises:
        UsageError: less than one worker or thread, or both an executor and a number of them.
    """
    if executor is not None:
        if (workers, threads) != (1, 1):
            raise UsageError("an executor has its own workers and threads; give them to its constructor")
        return executor
    return LocalExecutor(threads) if workers == 1 else ProcessExecutor(workers, threads)
