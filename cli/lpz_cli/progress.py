"""Progress bars on stderr; nothing is drawn if stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress


def progress_bar() -> Progress:
    """An empty progress bar; used as a context manager."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Description(ProgressColumn):
        """What is being done; names in it may hold anything."""

        def render(self, task: Task) -> Text:
            return Text(printable(task.description))

    columns = (
        Description(),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def counting(what: str) -> Iterator[Callable[..., None]]:
    """A bar; yields a function of (steps done, total number of steps) and, in a search, the best score so far."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, steps: int, best: float | None = None) -> None:
            text = f"{what} {done}/{steps}" + ("" if best is None else f" · best {best:.6g}")
            bar.update(task, description=text, completed=done, total=steps)

        yield advance


@contextmanager
def stages() -> Iterator[Callable[[str, int, int, float | None], None]]:
    """A bar for each stage of a search; yields a function of (stage, steps done, total number of steps, the highest
    fitness so far or None)."""
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def advance(what: str, done: int, total: int, best: float | None) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[what] = bar.add_task(what, total=total)
            text = f"{what} {done}/{total}" + ("" if best is None else f" · best {best:.4f}")
            bar.update(tasks[what], description=text, completed=done, total=total)

        yield advance


@contextmanager
def downloading() -> Iterator[Callable[[str, int, int], None]]:
    """A bar; yields a function of (file, bytes done, total bytes)."""
    with progress_bar() as bar:
        task = bar.add_task("connecting", total=None)

        def advance(file: str, done: int, total: int) -> None:
            bar.update(task, description=file, completed=done, total=total or None)

        yield advance
