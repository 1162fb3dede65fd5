"""What scoring one model gives: a number per proxy, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from lpzero_hf.errors import LpzError
from lpzero_hf.proxies.base import Orientation
from lpzero_hf.scoring.display import Displayed, Panel, Points

Status = Literal["ok", "not applicable", "invalid", "failed", "left out"]


class ScoreError(LpzError):
    """A score is required but is not a finite number; the message says why."""


@dataclass(frozen=True)
class Score:
    """The score of one model by one proxy.

    Args:
        proxy: its name.
        value: the score, or None unless `status` is "ok".
        status: "ok"; "not applicable" (no meaning on this model); "invalid" (NaN or infinite); "failed"; "left out"
            (it needs more memory than is free).
        reason: why there is no value; of a value, what to know of it (what of the model it leaves out), or nothing.
        orientation: 1 if higher is better, -1 if lower is better.
        passes: what the proxy runs.
        seconds: the time of the proxy's own passes and sums; the shared pass is in `Scores.seconds`.
    """

    proxy: str
    value: float | None
    status: Status
    reason: str
    orientation: Orientation
    passes: str
    seconds: float

    @property
    def oriented(self) -> float | None:
        """The value with its sign changed if needed so that higher is better."""
        return None if self.value is None else self.orientation * self.value

    def noted(self, note: str) -> Score:
        """The same, with a further note if it has a value."""
        return self if self.value is None else replace(self, reason="; ".join(filter(None, [self.reason, note])))

    def require(self) -> float:
        """The value. Raises `ScoreError` if there is none."""
        if self.value is None:
            raise ScoreError(f"proxy '{self.proxy}' is {self.status}: {self.reason}")
        return self.value


@dataclass(frozen=True)
class Scores(Mapping[str, Score], Displayed):
    """The scores of one model by the names of the proxies, in the requested order. A notebook shows them as a table.

    Args:
        rows: the scores.
        seconds: the time of each shared pass, by the name of its network.
        checkpointing: whether blocks ran twice in these.
        micro_batch: number of sequences that ran at a time in these, None for all.
    """

    rows: tuple[Score, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    checkpointing: bool = False
    micro_batch: int | None = None

    def __getitem__(self, name: str) -> Score:
        for row in self.rows:
            if row.proxy == name:
                return row
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (row.proxy for row in self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain data for JSON."""
        return {"scores": [asdict(row) for row in self.rows], "shared_seconds": self.seconds}

    @property
    def title(self) -> str:
        """How many there are."""
        return f"{sum(row.value is not None for row in self.rows)} of {len(self.rows)} proxies have a score"

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for every proxy, without its time."""
        return [
            {
                "proxy": row.proxy, "score": row.value, "better": "higher" if row.orientation > 0 else "lower",
                "status": row.status, "reason": row.reason, "passes": row.passes,
            }
            for row in self.rows
        ]  # fmt: skip

    def panels(self) -> list[Panel]:
        """The scores on one logarithmic axis through zero; proxies have no common scale."""
        found = [row for row in self.rows if row.value is not None]
        points = Points("score", [row.require() for row in found], range(len(found)))
        return [Panel("score (logarithmic)", "", [points], [row.proxy for row in found], scale="symlog")]
