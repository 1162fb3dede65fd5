"""Ray Tune searches a space: a trainable that trains nothing, and reports a proxy's score and the parameters.

pip install 'lpzero-hf[ray]' && python examples/ray_tune.py
"""

import tempfile

import ray
from lpz_nas import Budget, ProxyEvaluator
from lpz_nas.ray_tune import param_space, trainable
from ray import tune
from ray.tune.search import BasicVariantGenerator

from lpzero_hf import Setting

evaluator = ProxyEvaluator("synflow", space="tiny-gpt2", setting=Setting(batch_size=4, seq_len=32))
run = trainable(evaluator, Budget(max_params=1_000_000))

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
with tempfile.TemporaryDirectory() as folder:
    tuner = tune.Tuner(
        run,
        param_space=param_space(evaluator.space),
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            num_samples=4,
            search_alg=BasicVariantGenerator(random_state=42),
            reuse_actors=True,  # one process for all trials: each imports torch and transformers
        ),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    )
    best = tuner.fit().get_best_result().metrics  # leaves out what was over the budget
ray.shutdown()
print(f"best: tiny-gpt2:{best['architecture']}")
print(f"synflow {best['score']:.6g}, {best['params']:,} parameters")
