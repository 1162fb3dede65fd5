"""Archai's evolutionary search of a space: a proxy's score, by default of `synflow`, against the number of parameters.

How to install Archai: docs/how-to/nas-tools.md. Then: python examples/archai_search.py [PROXY]
The proxy can be one that `lpz export --to plugin` made.
"""

import sys
import tempfile

from archai.discrete_search.algos import EvolutionParetoSearch
from lpz_nas import Budget, ProxyEvaluator
from lpz_nas.archai_search import search_objectives
from lpz_nas.archai_space import LanguageModels

from lpzero_hf import Setting

proxy = sys.argv[1] if len(sys.argv) > 1 else "synflow"
evaluator = ProxyEvaluator(proxy, space="tiny-gpt2", setting=Setting(batch_size=4, seq_len=32))
with tempfile.TemporaryDirectory() as folder:
    search = EvolutionParetoSearch(
        LanguageModels(evaluator.space, seed=42),
        search_objectives(evaluator, Budget(max_params=600_000)),
        output_dir=folder,
        num_iters=2,
        init_num_models=6,
        num_random_mix=2,
        num_crossovers=2,
        save_pareto_model_weights=False,
        seed=42,
    )
    found = search.search().get_pareto_frontier()
values = found["evaluation_results"]
for size, score, model in sorted(
    zip(values["params"], values["score"], found["models"], strict=True), key=lambda one: one[0]
):
    print(f"front: {size:,.0f} parameters, {proxy} {score:.6g}, tiny-gpt2:{model.metadata['architecture']}")
