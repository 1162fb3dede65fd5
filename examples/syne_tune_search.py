"""Syne Tune searches a space: its scheduler is told a proxy's score. Then it searches a benchmark, as a blackbox.

pip install 'lpzero-hf[syne-tune]' && python examples/syne_tune_search.py
"""

import logging

from lpz_nas import Budget, ProxyEvaluator
from lpz_nas.syne_tune_search import blackbox, config_space, objective
from sklearn.neighbors import KNeighborsRegressor
from syne_tune.blackbox_repository import add_surrogate
from syne_tune.optimizer.baselines import REA, RandomSearch
from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

from lpzero_hf import LpzError, Setting

logging.getLogger("syne_tune").setLevel(logging.ERROR)  # a proposal over the budget is no news
evaluator = ProxyEvaluator("synflow", space="tiny-gpt2", setting=Setting(batch_size=4, seq_len=32))
run = objective(evaluator, Budget(max_params=600_000))
rea = REA(config_space(evaluator.space), metric="score", do_minimize=False, population_size=5, random_seed=42)
scheduler = AskTellScheduler(rea)
for _ in range(15):
    trial = scheduler.ask()
    try:
        scheduler.tell(trial, run(trial.config))
    except LpzError:  # no score
        rea.on_trial_error(trial)
best = max((trial.metrics for trial in scheduler.completed_experiments.values()), key=lambda metrics: metrics["score"])
print(f"best: tiny-gpt2:{best['architecture']}")
print(f"synflow {best['score']:.6g}, {best['params']:,} parameters")

# Trained models instead of a proxy; what was not trained is interpolated by Syne Tune.
trained = add_surrogate(blackbox("tiny-gpt2"), surrogate=KNeighborsRegressor(n_neighbors=3))
(metric,) = trained.objectives_names
scheduler = AskTellScheduler(RandomSearch(trained.configuration_space, metrics=[metric], random_seed=42))
for _ in range(15):
    trial = scheduler.ask()
    scheduler.tell(trial, trained.objective_function(trial.config))
lowest = min(trial.metrics[metric] for trial in scheduler.completed_experiments.values())
print(f"{metric}: {lowest:.4f} by 15 random draws")
