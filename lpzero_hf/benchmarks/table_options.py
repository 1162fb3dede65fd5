"""How a table of trained architectures is to be read, as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOWER = frozenset({"loss", "losses", "ppl", "perplexity", "nll", "bpb", "bpc", "error", "err", "wer", "mse", "mae"})
HIGHER = frozenset({"acc", "accuracy", "glue", "f1", "auc", "mmlu", "bleu", "rouge", "hellaswag", "squad"})


@dataclass(frozen=True)
class TableOptions:
    """How a table is read; see `benchmark_from_table`.

    Args:
        metric: the column with the trained performance.
        larger_is_better: whether higher is better for it.
        architecture: the column with the architectures; None where its name says so, or with `base`.
        base: a path, Hub id, zoo name or JSON text: the configuration that columns are fields of.
        space: the name of the space that the architectures are ids of.
        seed_column: the column with the seed of each training; None for one that is called `seed`, if any.
        extra_columns: those that are no fields of the base, though they are called nearly so.
        skip_bad_rows: leave out rows that cannot be used, and count them, instead of stopping at the first.
    """

    metric: str
    larger_is_better: bool = False
    architecture: str | None = None
    base: str | None = None
    space: str | None = None
    seed_column: str | None = None
    extra_columns: tuple[str, ...] = ()
    skip_bad_rows: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> TableOptions | None:
        """The options from `dataclasses.asdict`, after a round trip through JSON; None for None."""
        return None if data is None else cls(**{**data, "extra_columns": tuple(data["extra_columns"])})


def usual_direction(metric: str) -> bool | None:
    """Whether higher is better for a metric of that name, where its words are well known; else None.

    Example:
        >>> usual_direction("val_loss"), usual_direction("glue_accuracy"), usual_direction("score")
        (False, True, None)
    """
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    lower, higher = bool(words & LOWER), bool(words & HIGHER)
    return None if lower == higher else higher
