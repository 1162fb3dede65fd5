"""A proxy where Archai expects a `ModelEvaluator`: `evaluate(arch, budget) -> float`. It runs without Archai.

    python examples/archai_evaluator.py

With Archai: `import lpz_nas.archai_search`, then
`SearchObjectives().add_objective("synflow", evaluator, higher_is_better=True)`.
"""

import random
from dataclasses import dataclass

from lpz_nas import ProxyEvaluator
from transformers import PreTrainedModel

from lpzero_hf import Setting, load_model, load_space


@dataclass
class ArchaiModel:
    """As `archai.discrete_search.api.ArchaiModel`: a model, and the id of its architecture."""

    arch: PreTrainedModel
    archid: str


evaluator = ProxyEvaluator("synflow", setting=Setting(batch_size=4, seq_len=32))
space, rng = load_space("tiny-gpt2"), random.Random(42)
scores = {}
for _ in range(5):
    name = f"tiny-gpt2:{space.text(space.sample(rng, by='choice'))}"
    scores[name] = evaluator.evaluate(ArchaiModel(load_model(name).model, name), budget=None)
for name, score in sorted(scores.items(), key=lambda item: -item[1]):
    print(f"{score:12.6g}  {name}")
