"""Passes warnings of the micro-batch fallback (a minibatch ran in parts) from a worker to the user."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lpzero_hf.errors import MicroBatchWarning


@contextmanager
def recording() -> Iterator[list[str]]:
    """Record the message of every `MicroBatchWarning` raised inside, instead of showing it in a worker."""
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
    """Show the user the warnings that were recorded in a worker, each message once.

    Args:
        recorded: their messages.
        reported: the messages already shown; the new ones are added.
    """
    for message in recorded:
        if message not in reported:
            reported.add(message)
            warnings.warn(message, MicroBatchWarning, stacklevel=3)
