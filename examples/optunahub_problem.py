"""Optuna's samplers compared on trained language models: a benchmark as OptunaHub's `BaseProblem`.

pip install 'lpzero-hf[optunahub]' && python examples/optunahub_problem.py
"""

import optuna
from lpz_nas.optunahub_problem import BenchmarkProblem

optuna.logging.set_verbosity(optuna.logging.ERROR)
problem = BenchmarkProblem("tiny-gpt2")
print(f"{problem.table.benchmark.metric}: the best of {len(problem.table.trained)} is {problem.optimum:.4f}")
for sampler in (optuna.samplers.RandomSampler(seed=42), optuna.samplers.TPESampler(seed=42)):
    study = optuna.create_study(sampler=sampler, directions=problem.directions)
    study.optimize(problem, n_trials=40)
    print(f"{type(sampler).__name__}: {study.best_value:.4f} after 40 trials")
