"""Runs tasks on a Ray cluster: on many machines, or on this one."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from lpzero_hf.errors import LpzError, PluginWarning, UsageError, one_line
from lpzero_hf.executors.base import Executor, Failure, Outcome, Result, Task, attempt
from lpzero_hf.executors.process import cores, warn_if_crowded
from lpzero_hf.executors.retries import RetryQueue
from lpzero_hf.plugins import DISABLE_VARIABLE

CHECK_SECONDS = 10  # without a result, after which is checked whether a task still fits on the cluster
PULSE_SECONDS = 2  # without a result, after which is checked whether the cluster is alive
TCP_SECONDS = 5
ANSWER_SECONDS = 30
QUIET = (
    "RAY_USAGE_STATS_ENABLED",  # no usage statistics are sent
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV",  # the working folder is not sent to the nodes
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",  # tasks without a GPU see what this process sees, and no warning is given
)
PROBE = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False, logging_level='ERROR')"


class RayExecutor(Executor):
    """Runs tasks on a Ray cluster. Every node needs this library and the same plugins; results come back to this
    process, so nodes need not share files.

    Connects when first used. A cluster that it has started on this machine ends with `close`. A connection that the
    caller has already made (`ray.init`) is used, and left open.

    Args:
        address: of a cluster: "host:port", "ray://host:port", or "auto" for the one that this machine is part of. None
            starts one on this machine.
        workers: tasks at a time; None for as many as the cores of the cluster allow (of this machine if started here).
        threads: CPU threads, and cores, of each task.
        gpus: GPUs that each task needs; a fraction lets tasks share one.

    Raises:
        UsageError: less than one worker or thread.

    Example:
        >>> from lpzero_hf import RayExecutor
        >>> with RayExecutor(workers=2) as executor:  # doctest: +SKIP
        ...     sorted(executor.map(abs, [-1, 2]))
        [(0, 1), (1, 2)]
    """

    def __init__(
        self, address: str | None = None, *, workers: int | None = None, threads: int = 1, gpus: float = 0.0
    ) -> None:
        if threads < 1 or (workers is not None and workers < 1):
            raise UsageError(f"{workers} workers of {threads} threads are not possible; ask for at least one of each")
        super().__init__(threads)
        self.address, self.workers, self.gpus = address, workers, gpus
        if address is None and workers is not None:
            warn_if_crowded(workers, threads)
        self._connected = False

    @property
    def sharing(self) -> int:
        """As many as one machine may get, where all are like this one."""
        return self.workers or max(1, cores() // self.threads)

    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result | Failure]]:
        """See `Executor.map`. A task whose node has died runs again on another node."""
        if not tasks:
            return
        ray = self._ray()
        slots = self._slots(ray)
        at_once = self.workers or 2 * slots  # twice, so that no node waits for this process
        remote = ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=0)(_in_worker)
        off, shared = os.environ.get(DISABLE_VARIABLE, ""), ray.put(work)
        queue = RetryQueue(len(tasks))
        numbers: dict[Any, int] = {}  # of the submitted tasks, by Ray's reference
        pulse, quiet = _Pulse(ray), 0.0
        try:
            while queue.left:
                while queue.busy < at_once and (taken := queue.take()) is not None:
                    numbers[remote.remote(off, shared, tasks[taken], self.threads)] = taken
                ready = ray.wait(list(numbers), num_returns=1, timeout=PULSE_SECONDS)[0]
                quiet = 0.0 if ready else quiet + PULSE_SECONDS
                if not ready:
                    pulse.check()
                if quiet >= CHECK_SECONDS:
                    self._slots(ray)
                    quiet = 0.0
                for reference in ready:
                    number = numbers.pop(reference)
                    outcome = _outcome(ray, reference)
                    if isinstance(outcome, Outcome):
                        queue.done(number)
                        yield number, outcome.get()
                        continue
                    pulse.check()
                    if failure := queue.crashed(number, outcome):
                        yield number, failure
        finally:
            if self.address is not None or not self._connected:  # one that was started here ends with its tasks
                for reference in numbers:
                    with contextlib.suppress(Exception):  # the cluster may be gone
                        ray.cancel(reference, force=True)

    def close(self) -> None:
        """Disconnect from the cluster, and stop it if it was started here."""
        if self._connected:
            import ray

            ray.shutdown()
            self._connected = False

    def _ray(self) -> Any:
        """Ray, connected."""
        for name in QUIET:  # before the first import
            os.environ.setdefault(name, "0")
        try:
            import ray
        except ImportError as error:
            raise LpzError("the executor 'ray' needs Ray; install it with `pip install 'lpzero-hf[ray]'`") from error
        if not ray.is_initialized():
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
            if self.address is None:
                here = self.workers or max(1, cores() // self.threads)
                options |= {"num_cpus": here * self.threads, "include_dashboard": False}
            else:
                _probe(self.address)
            try:
                ray.init(self.address or "local", **options)
            except Exception as error:  # Ray raises many kinds of errors
                raise LpzError(f"Ray does not start: {one_line(error)}; try another `executor=`") from error
            self._connected = True
        return ray

    def _slots(self, ray: Any) -> int:
        """How many tasks fit on the cluster at the same time. Raises `LpzError` if no node can run one."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fitting = [
            int(node.get("CPU", 0) // self.threads)
            for node in nodes
            if node.get("CPU", 0) >= self.threads and node.get("GPU", 0) >= self.gpus
        ]
        if not fitting:
            wanted = f"{self.threads} cores" + (f" and {self.gpus:g} GPUs" if self.gpus else "")
            raise LpzError(f"no node of the Ray cluster has {wanted}; ask for fewer `threads=`, or for `device=cpu`")
        return sum(fitting)


class _Pulse:
    """Whether the processes that Ray needs beside this one are alive; Ray would end this process without a word.

    They are the head of the cluster, and the node that this process is connected to, where they can be reached.
    """

    def __init__(self, ray: Any) -> None:
        context = ray.get_runtime_context()
        own: dict[str, Any] = next((node for node in ray.nodes() if node["NodeID"] == context.get_node_id()), {})
        host, _, port = str(context.gcs_address).rpartition(":")
        parts: dict[str, tuple[int, Any]] = {"its node on this machine": (_UNIX, own.get("RayletSocketName", ""))}
        if port.isdecimal():
            parts["its head"] = (socket.AF_UNSPEC, (host.strip("[]"), int(port)))
        self.parts = {what: place for what, place in parts.items() if _answers(*place)}

    def check(self) -> None:
        """Raise `LpzError` if one has died."""
        for what, place in self.parts.items():
            if not _answers(*place):
                raise LpzError(
                    f"the Ray cluster has lost {what} (killed, or out of memory); the same command goes on from the "
                    "results that are kept"
                )


_UNIX = getattr(socket, "AF_UNIX", -1)


def _answers(family: int, place: Any) -> bool:
    """Whether something listens at an address."""
    try:
        if family != _UNIX:
            socket.create_connection(place, TCP_SECONDS).close()
            return True
        with socket.socket(family) as tried:
            tried.settimeout(TCP_SECONDS)
            tried.connect(place)
    except OSError:
        return False
    return True


def _in_worker(off: str, work: Callable[[Task], Result], task: Task, threads: int) -> Outcome[Result]:
    """Do a task, in another process, with the plugins in `off` turned off."""
    os.environ[DISABLE_VARIABLE] = off
    warnings.simplefilter("ignore", PluginWarning)  # the parent has told
    torch.set_num_threads(threads)
    return attempt(work, task)


def _outcome(ray: Any, reference: Any) -> Outcome[Any] | str:
    """The outcome of a finished task, or the name of the error that ended its worker."""
    errors = ray.exceptions
    died = (
        errors.WorkerCrashedError, errors.NodeDiedError, errors.LocalRayletDiedError, errors.OutOfMemoryError,
        errors.ObjectLostError, errors.ObjectFetchTimedOutError,
    )  # fmt: skip
    try:
        return ray.get(reference)  # type: ignore[no-any-return]  # Ray is untyped here
    except died as error:
        return type(error).__name__
    except errors.RayError as error:
        raise LpzError(
            f"a Ray worker cannot do its task: {one_line(getattr(error, 'cause', None) or error)}; every node needs "
            "lpzero-hf, the same plugins and versions, and disk space for Ray's files"
        ) from error


def _probe(address: str) -> None:
    """Raise `LpzError` unless a cluster answers at `address`; Ray itself would wait for it without end."""
    place = address.removeprefix("ray://").rpartition(":")
    remedy = "; check the address (`ray status` shows it on the cluster), or leave `address=` out to start one here"
    if address != "auto":
        if not (place[0] and place[2].isdecimal()):
            raise UsageError(f"'{address}' is no address of a Ray cluster: auto, host:port or ray://host:port")
        try:
            socket.create_connection((place[0].strip("[]"), int(place[2])), TCP_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise LpzError(f"no Ray cluster at {address} ({error}){remedy}") from error
    try:
        tried = subprocess.run(
            [sys.executable, "-c", PROBE, address], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LpzError(f"no Ray cluster answers at {address} within {ANSWER_SECONDS} s{remedy}") from error
    if tried.returncode:
        lines = tried.stderr.strip().splitlines() or ["no reason given"]
        raise LpzError(f"cannot connect to a Ray cluster at {address}: {lines[-1]}{remedy}")
