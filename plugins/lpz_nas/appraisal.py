"""Finds out the costs and scores of one architecture, the cheap ones first, until one is outside the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.goals import Goal, Limit
from lpzero_hf.errors import LpzError
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.costs import Cost, CostSubject, Deployment, by_stage, measure_cost
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.spaces.base import Architecture, SearchSpace


@dataclass(frozen=True)
class Appraised:
    """What is known of one architecture.

    Args:
        architecture: its text id; "" where there is none.
        status: "ok": it is within all limits and has all values; "outside" a limit; "failed": it cannot be built, or
            has no value of something.
        values: of the objectives, by name; complete where the status is "ok".
        costs: those found out, by name.
        reason: why it is not ok.
        warnings: of measurements.
    """

    architecture: str
    status: Literal["ok", "outside", "failed"]
    values: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Appraised:
        """From the result of `to_json`."""
        return cls(**{**data, "warnings": tuple(data["warnings"])})


class Appraiser:
    """Appraises the architectures of a space.

    Args:
        space: of the architectures.
        goals: the objectives.
        limits: of costs.
        deployment: how costs are measured.
        setting: of scores.
        cache: of scores; None stores none.
        plugins: where layouts and proxies come from.
        threads: CPU threads of scores.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Sequence[Goal],
        limits: Sequence[Limit],
        *,
        deployment: Deployment,
        setting: Setting,
        cache: ScoreCache | None,
        plugins: PluginRegistry,
        threads: int = 1,
    ) -> None:
        self.space, self.goals, self.limits = space, goals, limits
        self.deployment, self.plugins = deployment, plugins
        limited = by_stage({limit.cost.name: limit.cost for limit in limits}.values())
        wanted = [goal.by for goal in goals if isinstance(goal.by, Cost) and goal.by not in limited]
        self.before = [cost for cost in limited if cost.stage != "run"]
        self.after = [*(cost for cost in by_stage(wanted) if cost.stage != "run"), *limited, *by_stage(wanted)]
        self.after = [cost for cost in dict.fromkeys(self.after) if cost not in self.before]
        self.evaluators = {
            goal.name: ProxyEvaluator(
                goal.by, space=space, setting=setting, cache=cache, threads=threads, plugins=plugins
            )
            for goal in goals
            if isinstance(goal.by, Proxy)
        }

    def __call__(self, architecture: Architecture) -> Appraised:
        """What is known of an architecture: first the limited costs that need no weights, then the scores, and last
        what a model has to run for."""
        text = self.space.text(architecture)
        costs: dict[str, float] = {}
        values: dict[str, float] = {}
        warnings: list[str] = []
        try:
            config = self.space.config(architecture)
            subject = CostSubject(config, self.deployment, self.plugins, text)
            _ = subject.model
        except LpzError as error:
            return Appraised(text, "failed", reason=str(error))
        for cost in [*self.before, None, *self.after]:
            if cost is None:
                for name, evaluator in self.evaluators.items():
                    verdict = evaluator.try_evaluate(config)
                    if verdict.value is None:
                        return Appraised(text, "failed", values, costs, f"{name}: {verdict.reason}")
                    values[name] = verdict.value
                continue
            row = measure_cost(cost, subject)
            if row.value is None:
                return Appraised(text, "failed", values, costs, f"{cost.name}: {row.reason}")
            costs[cost.name] = row.value
            warnings += [f"{cost.name}: {warning}" for warning in row.warnings]
            for limit in self.limits:
                if limit.cost is cost and limit.excess(row.value) > 0:
                    reason = f"{cost.name} is {row.value:.6g}, not within {limit}"
                    return Appraised(text, "outside", values, costs, reason, tuple(warnings))
        values |= {goal.name: costs[goal.by.name] for goal in self.goals if isinstance(goal.by, Cost)}
        return Appraised(text, "ok", values, costs, "", tuple(warnings))
