"""NVIDIA ModelOpt narrows the feed-forward layers of a Llama: its evolutionary search, with a proxy as `score_func`.

How to install ModelOpt: docs/how-to/nas-tools.md. Then: python examples/modelopt_search.py
"""

import random
import warnings

import modelopt.torch.nas as mtn
import torch
from lpz_nas import ProxyEvaluator
from lpz_nas.modelopt_score import score_func

from lpzero_hf import Setting, load_model

warnings.simplefilter("ignore")  # ModelOpt names the modules that torch.fx does not trace: attention keeps its width
random.seed(42)  # ModelOpt draws from it
widths = {"nn.Linear": {"*": {"features_ratio": (0.25, 0.5, 0.75, 1.0), "feature_divisor": 32}}}
model = mtn.convert(load_model("llama-mini").model, [("autonas", widths)])

evaluator = ProxyEvaluator("synflow", setting=Setting(batch_size=4, seq_len=32))
best, state = mtn.search(
    model,
    constraints={"params": "80%"},
    dummy_input=torch.zeros(1, 8, dtype=torch.long),
    config={"score_func": score_func(evaluator), "num_iters": 12, "verbose": False},
)
print("feed-forward widths:", *(layer.mlp.up_proj.out_features for layer in best.model.layers))
print(f"synflow {state['best']['metric']:.6g}, {sum(p.numel() for p in best.parameters()):,} parameters")
