"""The micro-batch fallback, reported: warnings that a minibatch ran in parts travel from a worker to the user."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lpzero_hf.errors import MicroBatchWarning


@contextmanager
def recording() -> Iterator[list[str]]:
    """The messages of every `MicroBatchWarning` given in here, which is not shown: a worker has no user."""
    recorded: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def record(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, MicroBatchWarning):
                recorded.append(str(message))
            else:
                show(message, category, *rest, **more)

        warnings.simplefilter("always", MicroBatchWarning)
        warnings.showwarning = record
        yield recorded


def report(recorded: Sequence[str], reported: set[str]) -> None:
    """Give the user the warnings that were recorded in a worker, but none twice.

    Args:
        recorded: their messages.
        reported: the messages that were given already; the new ones are added.
    """
    for message in recorded:
        if message not in reported:
            reported.add(message)
            warnings.warn(message, MicroBatchWarning, stacklevel=3)
