"""Optuna searches a space: the objective is a proxy, the number of parameters a constraint, the study resumable.

    pip install 'lpzero-hf[optuna]' && python examples/optuna_study.py [study.sqlite]

Run it again with the same file, and the study continues.
"""

import sys

import optuna
from lpz_nas import Budget, ProxyEvaluator
from lpz_nas.optuna_study import Objective, create_study

from lpzero_hf import Setting

optuna.logging.set_verbosity(optuna.logging.WARNING)
evaluator = ProxyEvaluator("synflow", space="tiny-gpt2", setting=Setting(batch_size=4, seq_len=32))
budget = Budget(max_params=600_000)

study = create_study(sys.argv[1] if len(sys.argv) > 1 else None, seed=42)
study.optimize(Objective(evaluator, budget), n_trials=15)
best = study.best_trial
print(f"best of {len(study.trials)}: tiny-gpt2:{best.user_attrs['architecture']}")
print(f"synflow {best.value:.6g}, {best.user_attrs['params']:,} parameters")

# Two directions instead of one: the architectures than which no smaller one scores as well.
front = create_study(front=True)
front.optimize(Objective(evaluator, budget, front=True), n_trials=15)
for trial in sorted(front.best_trials, key=lambda trial: trial.values[1]):
    print(f"front: {trial.values[1]:,.0f} parameters, synflow {trial.values[0]:.6g}")
