"""Budgets: limits of the number of parameters, which is counted before a model is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lpzero_hf.errors import UsageError
from lpzero_hf.models.build import build_model
from lpzero_hf.models.layout import count_parameters
from lpzero_hf.models.load import load_config

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedConfig


def count(config: str | Path | PreTrainedConfig) -> int:
    """Trainable parameters of a model, tied weights once: the number that the proxy `params` gives.

    The model is built on torch's meta device, so its size in memory does not matter.

    Args:
        config: of the model, or its name as `load_model` takes it.

    Raises:
        UsageError: there is no model of that name.
        ModelError: the configuration cannot be built.

    Example:
        >>> count("tiny-gpt2:d64.e32.k2-h2.i64")
        112962
    """
    made, _ = load_config(config)
    with torch.device("meta"):
        return count_parameters(build_model(made, device="meta"))


@dataclass(frozen=True)
class Budget:
    """Limits of the number of parameters of an architecture.

    Args:
        max_params: the most; None for no bound.
        min_params: the fewest; None for no bound.

    Raises:
        UsageError: a bound is less than 1, or no number lies between them.

    Example:
        >>> Budget(max_params=1_000_000).allows(2_000_000)
        False
    """

    max_params: int | None = None
    min_params: int | None = None

    def __post_init__(self) -> None:
        for name, bound in (("max", self.max_params), ("min", self.min_params)):
            if bound is not None and bound < 1:
                raise UsageError(
                    f"a budget of {bound} {name}imum parameters is less than 1; give a number of parameters"
                )
        if self.max_params is not None and self.min_params is not None and self.min_params > self.max_params:
            raise UsageError(
                f"no architecture has at least {self.min_params:,} and at most {self.max_params:,} parameters; "
                "exchange the bounds"
            )

    def allows(self, params: int) -> bool:
        """Whether a model of `params` parameters is within the budget."""
        return all(excess <= 0 for excess in self.excess(params).values())

    def excess(self, params: int) -> dict[str, float]:
        """The excess over each bound, as a fraction of it: positive outside the budget, as for Optuna's
        constraints."""
        found = {}
        if self.max_params is not None:
            found["max_params"] = params / self.max_params - 1
        if self.min_params is not None:
            found["min_params"] = 1 - params / self.min_params
        return found

    def __str__(self) -> str:
        """The budget in words."""
        bounds = []
        if self.min_params is not None:
            bounds.append(f"at least {self.min_params:,}")
        if self.max_params is not None:
            bounds.append(f"at most {self.max_params:,}")
        return f"{' and '.join(bounds) or 'any number of'} parameters"
