"""Zero-cost proxies inside architecture search: a search under a budget, and what Archai, Optuna and Ray Tune call.

`find_architecture` is `lpz nas` in one call. The modules `optuna_study` and `ray_tune` need the extras of their name;
`evaluator` needs nothing.
"""

from lpz_nas.budget import Budget, count
from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.finding import find_architecture
from lpz_nas.outcome import Found, Tried

__all__ = ["Budget", "Found", "ProxyEvaluator", "Tried", "count", "find_architecture"]
