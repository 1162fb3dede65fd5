"""Randomly mutated configurations, each through loading, planning and counting.

`python -m tests.support.fuzzed_configs FIRST COUNT` prints a line of JSON before each configuration and one after it.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from tests.support.families import FAMILIES

VALUES: tuple[Any, ...] = (
    0, 1, -1, -7, 2, 3, 5, 17, 2**15, 10**6, 10**9, 10**12, 2**31 - 1, 2**31, 2**63, 10**30, 0.5, -0.5, 1e-9, 1e300,
    8.0, float("nan"), float("inf"), -float("inf"), "", "8", "eight", "gelu", "\x1b[31m", None, True, False, [], [1],
    [8, 8], [[]], {}, {"a": 1}, [None], "auto", [10**9] * 3, "x" * 1000,
)  # fmt: skip
KEYS: dict[str, tuple[Any, ...]] = {
    "architectures": ("GPT2Model", ["NoSuchModel"], ["LlamaForSequenceClassification"], ["Trainer"], [7], 3, ["load"]),
    "rope_scaling": (
        {"type": "su"},
        {"rope_type": "mrope"},
        {"type": "yarn"},
        {"rope_type": []},
        {"factor": 2.0},
        "x",
        7,
    ),
    "rope_parameters": ({"rope_type": "none"}, {"full_attention": {"rope_type": "su"}}, {"rope_type": "yarn"}, []),
    "attn_implementation": ("flash_attention_2", "flex_attention", "nobody/kernel", 7, {"": "foo"}, []),
    "quantization_config": ({"quant_method": "fp8"}, {}, 5, {"quant_method": "nope"}, "awq"),
    "model_type": (*FAMILIES, "no-such", 7, None, ["gpt2"]),
    "layer_types": (["full_attention"], ["sliding_attention"] * 2, ["mamba", "x"], 3),
    "torch_dtype": ("bfloat16", "float8", 16, None),
    "id2label": ({"0": "a"}, {"a": "b"}, 7, []),
    "num_labels": (10**9, -1, "two"),
    "auto_map": ({"AutoConfig": "x.Y"}, 7, {}),
    "hidden_act": ("nope", 7, None, "linear"),
    "tie_word_embeddings": ("yes", None, 3),
    "is_encoder_decoder": (True, "x"),
    "text_config": ({}, {"model_type": "llama"}, 7),
    "pad_token_id": (10**6, -1, "x", 1.5),
}


SIZES = (0, 1, -1, 2, 3, 4, 6, 8, 12, 17, 24, 48, 64, 100, 777, 1024, 5000, 50_000, 10**6, 10**7, 2**26, 10**9, 2**31)
DEEP = "nested 5,000 deep"  # by `text`, because no encoder writes that


def text(config: dict[str, Any]) -> str:
    """The file of a configuration."""
    return json.dumps(config).replace(json.dumps(DEEP), "[" * 5000 + "]" * 5000)


def mutated(seed: int) -> dict[str, Any]:
    """A configuration of a family with one to three changes."""
    draw = random.Random(seed)
    family = draw.choice(sorted(FAMILIES))
    config: dict[str, Any] = {"model_type": family} | json.loads(json.dumps(FAMILIES[family]))
    for _ in range(draw.randint(1, 3)):
        own = sorted(config)
        kind = draw.random()
        if kind < 0.55:
            config[draw.choice(own)] = draw.choice(SIZES if draw.random() < 0.7 else VALUES)
        elif kind < 0.65:
            config.pop(draw.choice(own))
        elif kind < 0.9:
            key = draw.choice(sorted(KEYS))
            config[key] = draw.choice((*KEYS[key], *VALUES[:1]))
        elif kind < 0.95:
            config[draw.choice(own) + "s"] = draw.choice(VALUES)
        else:
            deep: Any = draw.choice(VALUES)
            for _ in range(draw.choice((2, 60, 300))):
                deep = [deep] if draw.random() < 0.5 else {"a": deep}
            config[draw.choice(own)] = draw.choice((deep, DEEP))
    return config


def outcome(file: Path) -> str:
    """The counts, or the type and message of the library's own error; every other error passes through."""
    from lpzero_hf.errors import LpzError
    from lpzero_hf.models.layout import layout_of
    from lpzero_hf.models.load import load_model
    from lpzero_hf.models.minibatch import minibatch
    from lpzero_hf.proxies.resolve import resolve
    from lpzero_hf.scoring.memory_estimate import estimate_memory
    from lpzero_hf.scoring.score import score

    try:
        model = load_model(str(file), lazy=True).model
        layout = layout_of(model)
        scores = score(model, None, ["params", "decoder_params", "num_layers"])
        batch = minibatch(model, batch_size=1, seq_len=8)
        estimate_memory(model, batch, resolve(["params", "snip"]), layout)
        return " ".join(f"{row.proxy} {row.status} {row.value}" for row in scores.rows)
    except LpzError as error:
        return f"{type(error).__name__}: {error}"


def main(first: int, count: int) -> None:
    """Try the configurations of `count` seeds."""
    import transformers

    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    warnings.simplefilter("ignore")
    for seed in range(first, first + count):
        print(json.dumps({"begins": seed}), flush=True)
        start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        row: dict[str, Any] = {"seed": seed}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "config.json"
            file.write_text(text(mutated(seed)), encoding="utf-8")
            try:
                row["outcome"] = outcome(file)
            except BaseException as error:
                row["raised"] = f"{type(error).__name__}: {error}"[:300]
        used = resource.getrusage(resource.RUSAGE_SELF)
        row["seconds"], row["peak"] = used.ru_utime - start, used.ru_maxrss * 1024  # of this CPU, of memory
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
