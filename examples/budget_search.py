"""Search a space under two budgets, train the winner for a moment, and compare it with random architectures.

    python examples/budget_search.py

Every model has the same tokens, steps and learning rate. The seeds are 0, 1 and 2.
"""

import random
import statistics
import tempfile
from pathlib import Path

import torch
from lpz_nas import explore, read_goals, read_limits

from lpzero_hf import ConfigSpace, Setting, load_plugins, measure_costs, minibatch

STEPS, RATE, SEEDS, OTHERS = 60, 3e-3, (0, 1, 2), 7
space = ConfigSpace(
    "small-llama",
    base={
        "model_type": "llama", "vocab_size": 4200, "max_position_embeddings": 64, "num_attention_heads": 2,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    },
    choices={
        "hidden_size": [16, 32, 48, 64], "num_hidden_layers": [1, 2, 3, 4], "num_key_value_heads": [1, 2],
        "intermediate_size": [32, 64, 128],
    },
)  # fmt: skip
plugins = load_plugins()
limits = read_limits(["params=450k", "kv_cache=2KiB"], [], plugins, {})
goals = read_goals(["proxy:lpzero-any"], plugins, {})


def loss(text: str, seed: int) -> float:
    """The loss after a short training, on text that was not trained on."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(space.config(space.parse(text)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for step in range(STEPS):
        ids = minibatch(batch_size=8, seq_len=32, seed=1000 * seed + step)["input_ids"]
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    ids = minibatch(batch_size=32, seq_len=32, seed=10**6)["input_ids"]
    with torch.no_grad():
        return float(model.eval()(input_ids=ids, labels=ids).loss)


def within(text: str) -> bool:
    """Whether an architecture keeps the same limits."""
    rows = measure_costs(space.config(space.parse(text)), [limit.cost for limit in limits], plugins=plugins)
    return all(limit.excess(rows[limit.cost.name].require()) <= 0 for limit in limits)


with tempfile.TemporaryDirectory() as folder:
    found = explore(space, goals, limits, trials=20, out=Path(folder) / "nas", setting=Setting(4, 32), plugins=plugins)
winner = found.winner.architecture
rng, others = random.Random(0), []
while len(others) < OTHERS:
    drawn = space.text(space.sample(rng))
    if within(drawn) and drawn not in others:
        others.append(drawn)
best = statistics.fmean(loss(winner, seed) for seed in SEEDS)
rest = [statistics.fmean(loss(other, seed) for seed in SEEDS) for other in others]
print(f"winner {winner}: loss {best:.3f}")
print(f"random under the same budgets: median loss {statistics.median(rest):.3f}, best {min(rest):.3f}")
