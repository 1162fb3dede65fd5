"""The searches that the ablations compare, as changes to a default `SearchConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Changes = Mapping[str, Any]  # what a case changes in the default plan
Cases = Mapping[str, Mapping[str, Changes]]  # by space and by name

TABLED = (2, 2)  # one set of tables serves all spaces of shorter chains
LONGER: Changes = {"unary": (3, 2)}  # tables of 0.5 GB for each model would be too large: passes over the models
BOTH: dict[str, dict[str, Any]] = {"(1,1)": {"unary": (1, 1)}, "(2,2)": {"unary": TABLED}}


def _in_both(cases: Mapping[str, Changes]) -> Cases:
    return {space: {name: unary | dict(case) for name, case in cases.items()} for space, unary in BOTH.items()}


STRATEGY = _in_both({"evolution": {}, "random search": {"strategy": "random"}})
PRUNING = _in_both({"pruned": {}, "not pruned": {"prune": False}})
POPULATION = _in_both({"80": {}, "100": {"population": 100}, "200": {"population": 200}})
AGGREGATION = _in_both({"sum": {"aggregates": ("sum",)}, "mean": {"aggregates": ("mean",)}, "either": {}})
OPTIMUM = _in_both({"evolution": {}})
UNARY: Cases = {
    "unary operations": {
        f"{sum(unary)} = ({unary[0]},{unary[1]})": {"unary": unary} for unary in ((1, 1), (2, 1), TABLED, (3, 2))
    }
}


def label(changes: Changes) -> str:
    """The name of a case in the run file."""
    return " ".join(f"{what}={changes[what]}".replace(" ", "") for what in sorted(changes))
