"""Brings word of a minibatch that ran in parts for want of memory from where it ran to the user."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lpzero_hf.errors import MicroBatchWarning


@contextmanager
def hearing() -> Iterator[list[str]]:
    """The messages of every `MicroBatchWarning` given in here, which is not shown: a worker has no user."""
    heard: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def hear(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, MicroBatchWarning):
                heard.append(str(message))
            else:
                show(message, category, *rest, **more)

        warnings.simplefilter("always", MicroBatchWarning)
        warnings.showwarning = hear
        yield heard


def tell(heard: Sequence[str], told: set[str]) -> None:
    """Give the user the warnings that were heard in a worker, but none twice.

    Args:
        heard: their messages.
        told: the messages that were given already; the new ones are added.
    """
    for message in heard:
        if message not in told:
            told.add(message)
            warnings.warn(message, MicroBatchWarning, stacklevel=3)
