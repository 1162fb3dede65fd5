"""What `lpz score` shows while it works, where standard error is a terminal: the rows that are done, and what runs."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lpzero_hf.scoring.expected_time import ExpectedTime
    from lpzero_hf.scoring.scores import Scores

BESIDE_ROWS = 6  # lines of the terminal that are no rows


def duration(seconds: float) -> str:
    """A time for people: 8 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    return f"{minutes // 60} h {minutes % 60} min"


class LiveScores(AbstractContextManager["LiveScores"]):
    """A table that fills pass by pass, and a line about the pass that runs; gone when the scores are there.

    Args:
        models: how many are scored.
    """

    def __init__(self, models: int) -> None:
        from rich.console import Console

        self.models, self.console = models, Console(stderr=True)
        self.live: Any = None
        self.expected: ExpectedTime | None = None
        self.begin(0, "")

    def __enter__(self) -> LiveScores:
        if self.console.is_terminal:
            from rich.live import Live

            self.live = Live(get_renderable=self.shown, console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def begin(self, index: int, model: str) -> None:
        """A model begins, from 0 on."""
        self.index, self.model = index, model
        self.rows: dict[str, str] = {}
        self.expected = None
        self.running, self.done, self.steps = "building", 0, 0
        self.started = self.step_started = time.monotonic()

    def step(self, name: str, done: int, steps: int) -> None:
        """A pass begins, or all are done."""
        now = time.monotonic()
        if self.expected is not None and done and self.running:
            self.expected.finish(self.running, now - self.step_started)
        self.running, self.done, self.steps, self.step_started = name, done, steps, now

    def scored(self, scores: Scores) -> None:
        """The scores so far; they stay in the order in which they came."""
        from lpz_cli.score_tables import shown

        values = {row.proxy: "—" if row.value is None else shown(row.value) for row in scores.rows}
        self.rows = {name: value for name, value in self.rows.items() if name in values} | values

    def line(self) -> str:
        """What is running, for how long, of how long; of which model."""
        now, running = time.monotonic(), self.running  # which another thread changes
        which = f" ({self.index + 1} of {self.models})" if self.models > 1 else ""
        parts = [f"{running or 'done'}: {duration(now - self.step_started)}"]
        expected = self.expected
        if expected is not None and running in expected.steps:
            parts[0] += f" of about {duration(expected.steps[running])}"
        if self.steps:
            parts.append(f"pass {min(self.done + 1, self.steps)} of {self.steps}")
        if expected is not None:
            parts.append(f"{duration(now - self.started)} of about {duration(expected.total)} in all")
        return " · ".join([*parts, f"{self.model}{which}"])

    def shown(self) -> RenderableType:
        """The table and the line."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("proxy", "score")
        table.columns[1].justify = "right"
        room = max(1, self.console.height - BESIDE_ROWS)
        for name, value in list(self.rows.items())[-room:]:
            table.add_row(Text(printable(name)), Text(value))
        line = Text(printable(self.line()), no_wrap=True, overflow="ellipsis")
        return Group(table, line) if self.rows else line
