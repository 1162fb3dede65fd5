"""NePS searches a space: `evaluate_pipeline` returns a proxy's score and trains nothing.

pip install 'neural-pipeline-search>=0.17' && python examples/neps_search.py
"""

import tempfile
from pathlib import Path

import neps
import numpy
import torch
from lpz_nas import Budget, ProxyEvaluator
from lpz_nas.neps_search import evaluate_pipeline, pipeline_space

from lpzero_hf import Setting

numpy.random.seed(42)  # NePS draws from the global generators
torch.manual_seed(42)
evaluator = ProxyEvaluator("synflow", space="tiny-gpt2", setting=Setting(batch_size=4, seq_len=32))
found = []
evaluate = evaluate_pipeline(evaluator, Budget(max_params=600_000))


def run(**config):
    """What NePS calls; keeps what was found."""
    result = evaluate(**config)
    found.append((-result["objective_to_minimize"], result["info_dict"]))
    return result


with tempfile.TemporaryDirectory() as folder:
    neps.run(
        run,
        pipeline_space(evaluator.space),
        root_directory=Path(folder) / "neps",
        worker_evaluations_to_spend=12,
        ignore_errors=True,  # those outside the budget
        optimizer="neps_random_search",
    )
score, info = max(found, key=lambda one: one[0])
print(f"best of {len(found)} within the budget: tiny-gpt2:{info['architecture']}")
print(f"synflow {score:.6g}, {info['params']:,} parameters")
