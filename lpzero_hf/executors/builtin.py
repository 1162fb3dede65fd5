"""The executors of this package, offered through the same hook as third-party ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lpzero_hf.errors import UsageError
from lpzero_hf.executors.offer import ExecutorOffer, Resources
from lpzero_hf.hookspecs import hookimpl

if TYPE_CHECKING:
    from lpzero_hf.executors.base import Executor


@hookimpl
def lpz_executors() -> Iterable[ExecutorOffer]:
    """In this process, in several, and on a Ray cluster."""
    return [
        ExecutorOffer("local", "in this process, one task after the other", _local),
        ExecutorOffer("process", "in several processes on this machine", _process),
        ExecutorOffer("ray", "on a Ray cluster, or one started here", _ray),
    ]


def _local(wanted: Resources) -> Executor:
    from lpzero_hf.executors.local import LocalExecutor

    _without_address(wanted, "local")
    if wanted.workers not in (None, 1):
        raise UsageError(f"`executor=local` has one worker, not `workers={wanted.workers}`; use `executor=process`")
    return LocalExecutor(wanted.threads)


def _process(wanted: Resources) -> Executor:
    from lpzero_hf.executors.process import ProcessExecutor

    _without_address(wanted, "process")
    return ProcessExecutor(_workers(wanted), wanted.threads)


def _ray(wanted: Resources) -> Executor:
    from lpzero_hf.executors.ray import RayExecutor

    gpus = 1 if wanted.device.startswith("cuda") else 0
    if gpus and wanted.device != "cuda":
        raise UsageError(f"Ray assigns a GPU to each task; with `executor=ray`, use `device=cuda`, not {wanted.device}")
    return RayExecutor(wanted.address, workers=wanted.workers, threads=wanted.threads, gpus=gpus)


def default_executor(wanted: Resources) -> Executor:
    """The executor of a command that names none: processes where there are several workers, else this process.

    It needs no plugin, so that commands work with every plugin turned off.
    """
    return _process(wanted) if _workers(wanted) > 1 else _local(wanted)


def _workers(wanted: Resources) -> int:
    """The number of workers: as asked for, else one per core, or one on a GPU, which several would share."""
    from lpzero_hf.executors.process import cores

    if wanted.workers is not None:
        return wanted.workers
    return max(1, cores() // max(1, wanted.threads)) if wanted.device == "cpu" else 1


def _without_address(wanted: Resources, name: str) -> None:
    if wanted.address is not None:
        raise UsageError(
            f"`address=` names a cluster, and `executor={name}` runs on this machine; leave it out, or use it with "
            "`executor=ray`"
        )
