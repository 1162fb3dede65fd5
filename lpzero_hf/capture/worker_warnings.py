"""Passes warnings from a worker to the user: a minibatch ran in parts, a model is scored with something left out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lpzero_hf.errors import MicroBatchWarning, ModelWarning

PASSED_ON = (MicroBatchWarning, ModelWarning)
Recorded = tuple[type[Warning], str]


@contextmanager
def recording() -> Iterator[list[Recorded]]:
    """Record the warnings that are passed on, instead of showing it in a worker."""
    recorded: list[Recorded] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def record(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            kind = next((kind for kind in PASSED_ON if issubclass(category, kind)), None)
            if kind is None:
                show(message, category, *rest, **more)
            else:
                recorded.append((kind, str(message)))

        for kind in PASSED_ON:
            warnings.simplefilter("always", kind)
        warnings.showwarning = record
        yield recorded


def in_parts(recorded: Sequence[Recorded]) -> bool:
    """Whether the minibatch ran in parts, so that results are equal only to rounding."""
    return any(kind is MicroBatchWarning for kind, _ in recorded)


def report(recorded: Sequence[Recorded], reported: set[str]) -> None:
    """Show the user the warnings that were recorded in a worker, each message once.

    Args:
        recorded: with their categories.
        reported: the messages already shown; the new ones are added.
    """
    for kind, message in recorded:
        if message not in reported:
            reported.add(message)
            warnings.warn(message, kind, stacklevel=3)


def counted(notes: Mapping[str, int], total: int) -> list[str]:
    """Warnings of what scores leave out, the most frequent three.

    Args:
        notes: the number of architectures by what is left out.
        total: the number of architectures.
    """
    frequent = sorted(notes, key=lambda note: -notes[note])
    lines = [f"in {notes[note]} of {total} architectures, {note}" for note in frequent[:3]]
    return lines + ([f"and {len(frequent) - 3} more of these notes, in the rows"] if len(frequent) > 3 else [])
