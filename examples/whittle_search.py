"""whittle's multi-objective search of a space: a proxy's score against the number of parameters.

How to install whittle beside this library: docs/how-to/nas-tools.md. Then: python examples/whittle_search.py
"""

from lpz_nas import Budget, ProxyEvaluator
from lpz_nas.syne_tune_search import config_space
from lpz_nas.whittle_objective import objective
from whittle.search import multi_objective_search

from lpzero_hf import Setting

evaluator = ProxyEvaluator("synflow", space="tiny-gpt2", setting=Setting(batch_size=4, seq_len=32))
found = multi_objective_search(
    objective(evaluator, Budget(max_params=600_000)),
    config_space(evaluator.space),
    search_strategy="random_search",
    num_samples=15,
    seed=42,
    verbose=False,
)
front = {tuple(cost) for cost, kept in zip(found["costs"], found["is_pareto_optimal"], strict=True) if kept}
for score, params in sorted(front, key=lambda cost: cost[1]):
    print(f"front: {params:,.0f} parameters, synflow {-score:.6g}")
