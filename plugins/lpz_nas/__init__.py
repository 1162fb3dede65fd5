"""Zero-cost proxies inside architecture search: a search under a budget, and what Archai, Optuna and Ray Tune call.

`find_architecture` is `lpz nas` in one call, for one proxy and parameters; `explore` is the one for any objectives and
limits. The modules `optuna_study` and `ray_tune` need the extras of their name;
`evaluator` needs nothing.
"""

from lpz_nas.appraisal import Appraised
from lpz_nas.budget import Budget, count
from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.explore import explore
from lpz_nas.explored import Explored
from lpz_nas.finding import find_architecture
from lpz_nas.goals import Goal, Limit, read_goals, read_limits
from lpz_nas.outcome import Found, Tried

__all__ = [
    "Appraised", "Budget", "Explored", "Found", "Goal", "Limit", "ProxyEvaluator", "Tried", "count", "explore",
    "find_architecture", "read_goals", "read_limits",
]  # fmt: skip
