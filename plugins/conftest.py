"""Adapters are collected, for their doctests, where the tools that they import are installed."""

from importlib.util import find_spec

NEEDS = {
    "archai_search": "archai",
    "archai_space": "archai",
    "modelopt_score": "modelopt",
    "neps_search": "neps",
    "optuna_study": "optuna",
    "optunahub_problem": "optunahub",
    "ray_tune": "ray",
    "syne_tune_search": "syne_tune",
}
collect_ignore = [f"lpz_nas/{adapter}.py" for adapter, tool in NEEDS.items() if find_spec(tool) is None]
