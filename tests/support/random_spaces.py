"""Random spaces over small configurations of ten classes, with a count of their members that enumerates them."""

from __future__ import annotations

import builtins
import itertools
import keyword
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import CodeType
from typing import Any

from transformers import (
    BertConfig,
    CLIPVisionConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    Mamba2Config,
    MixtralConfig,
    OPTConfig,
    PreTrainedConfig,
    Qwen3Config,
    T5Config,
)

from lpzero_hf.errors import UsageError
from lpzero_hf.spaces.base_config import BaseConfig, base_of
from lpzero_hf.spaces.config_space import ConfigSpace

WIDTHS, HEADS, DEPTHS, INNER = [16, 24, 32, 48, 60], [1, 2, 3, 4, 8], [1, 2, 3], [16, 24, 40, 64]
EVEN = "hidden_size % (2 * num_attention_heads) == 0"
DEPTH_FIELDS = ("num_hidden_layers", "n_layer")
TYPES = ["full_attention", "sliding_attention"]
SIZES: dict[str, Any] = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LLAMA: dict[str, Any] = SIZES | {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
LAYER_RULES = [
    "layer_types[0] == 'full_attention'",
    "'sliding_attention' in layer_types",
    "len(layer_types) >= 2 or layer_types[-1] != 'sliding_attention'",
]


@dataclass(frozen=True)
class Material:
    """What spaces over a class are made of.

    Args:
        base: a small configuration.
        pools: values by field, some of which are chosen.
        derived: formulas by field, for fields that are not chosen.
        rules: conditions that the class makes, each for where one of the fields in it is chosen.
        layered: values of fields with one for every layer.
    """

    base: PreTrainedConfig
    pools: Mapping[str, list[Any]]
    derived: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    layered: Mapping[str, list[Any]] = field(default_factory=dict)

    @cached_property
    def kept(self) -> BaseConfig:
        """The base as spaces read it, read once."""
        return base_of(self.base)


def materials() -> dict[str, Material]:
    """Ten classes of configurations."""
    usual = {"hidden_size": WIDTHS, "num_hidden_layers": DEPTHS, "num_attention_heads": HEADS}
    grouped = usual | {"num_key_value_heads": [1, 2, 4], "intermediate_size": INNER, "attention_bias": [True, False]}
    groups = "num_attention_heads % num_key_value_heads == 0"
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    return {
        "llama": Material(
            LlamaConfig(**LLAMA, num_key_value_heads=1),
            grouped | {"rope_parameters.rope_theta": [1e4, 5e5], "hidden_act": ["silu", "gelu"]},
            {"intermediate_size": "3 * hidden_size"},
            (EVEN, groups),
        ),
        "gpt2": Material(
            GPT2Config(**SIZES, n_embd=32, n_layer=2, n_head=4, n_positions=64),
            {"hidden_size": WIDTHS, "n_layer": DEPTHS, "n_head": HEADS, "n_inner": [None, 32, 64],
             "activation_function": ["gelu_new", "relu"]},
            {"n_inner": "hidden_size + 16 * n_layer"},
            ("hidden_size % n_head == 0",),
        ),
        "bert": Material(
            BertConfig(**LLAMA),
            usual | {"intermediate_size": INNER, "type_vocab_size": [1, 2], "hidden_act": ["gelu", "relu"]},
            {"intermediate_size": "hidden_size * 5 // 2"},
            ("hidden_size % num_attention_heads == 0",),
        ),
        "t5": Material(
            T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0),
            {"d_model": WIDTHS, "d_kv": [4, 8, 16], "d_ff": INNER, "num_layers": DEPTHS, "num_heads": HEADS,
             "num_decoder_layers": DEPTHS, "feed_forward_proj": ["relu", "gated-gelu"]},
            {"d_ff": "4 * d_model if num_layers > 1 else 2 * d_model"},
        ),
        "mamba2": Material(
            Mamba2Config(**SIZES, hidden_size=32, num_heads=4, head_dim=16, num_hidden_layers=2, state_size=8,
                         n_groups=1, chunk_size=8),
            {"hidden_size": WIDTHS, "head_dim": [8, 16, 32], "num_heads": [1, 2, 4, 8], "num_hidden_layers": DEPTHS,
             "state_size": [4, 8, 16], "conv_kernel": [2, 4]},
            {"num_heads": "hidden_size * expand // head_dim"},
            ("hidden_size * expand == num_heads * head_dim",),
        ),
        "mixtral": Material(
            MixtralConfig(**LLAMA, num_key_value_heads=1, num_local_experts=2, num_experts_per_tok=1),
            usual | {"num_key_value_heads": [1, 2], "num_local_experts": [2, 3, 4], "num_experts_per_tok": [1, 2, 3]},
            {"intermediate_size": "max(16, hidden_size // 2)"},
            (EVEN, groups, "num_experts_per_tok <= num_local_experts"),
        ),
        "qwen3": Material(
            Qwen3Config(**LLAMA, num_key_value_heads=1, head_dim=8, use_sliding_window=True, sliding_window=8),
            grouped | {"head_dim": [4, 8, 16], "sliding_window": [4, 8]},
            {"intermediate_size": "hidden_size + head_dim"},
            (groups,),
            {"layer_types": TYPES},
        ),
        "gemma3_text": Material(
            Gemma3TextConfig(**LLAMA, num_key_value_heads=1, head_dim=8, sliding_window=8),
            grouped | {"head_dim": [4, 8, 16], "sliding_window": [4, 8]},
            {"head_dim": "2 * (hidden_size // 16)"},
            (EVEN, groups),
            {"layer_types": TYPES},
        ),
        "opt": Material(
            OPTConfig(**SIZES, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48,
                      max_position_embeddings=64),
            usual | {"ffn_dim": {"from": 16, "to": 64, "times": 2}, "activation_function": ["relu", "gelu"]},
            {"ffn_dim": "2 * hidden_size"},
            ("hidden_size % num_attention_heads == 0",),
        ),
        "llava": Material(
            LlavaConfig(text_config=LlamaConfig(**LLAMA, num_key_value_heads=1), vision_config=vision,
                        image_token_index=3),
            {f"text_config.{name}": pool for name, pool in grouped.items()}
            | {"vision_config.num_hidden_layers": {"from": 1, "to": 3},
               "text_config.rope_parameters.rope_theta": [1e4, 1e6]},
            {"text_config.intermediate_size": "text_config.hidden_size + 8"},
            tuple(
                rule.replace("hidden_size", "text_config.hidden_size").replace("num_", "text_config.num_")
                for rule in (EVEN, groups)
            ),
        ),
    }  # fmt: skip


def random_space(material: Material, rng: random.Random) -> ConfigSpace:
    """A space with some of the choices, a derived field perhaps, the rules of the class and one or two more."""
    while True:
        names = rng.sample(sorted(material.pools), rng.randint(2, len(material.pools)))
        choices: dict[str, Any] = {}
        for name in names:
            pool = material.pools[name]
            size = rng.randint(1, len(pool))
            choices[name] = pool if isinstance(pool, dict) else rng.sample(pool, size)
        for name, values in material.layered.items():
            if rng.random() < 0.7:
                choices[name] = {"per_layer": rng.sample(values, rng.randint(1, 2))}
        derived = {name: text for name, text in material.derived.items() if name not in choices and rng.random() < 0.8}
        numbers = {name: values_of(choices[name]) for name in names if _plain(choices[name])}
        constraints = [*material.rules]
        constraints += [_condition(numbers, rng) for _ in range(rng.randint(0, 2)) if numbers]
        if "layer_types" in choices and rng.random() < 0.5:
            constraints.append(rng.choice(LAYER_RULES))
        try:
            return ConfigSpace("random", material.kept, choices, derived, constraints)
        except UsageError as error:
            if not any(words in str(error) for words in ("no member satisfies", "random members satisfies")):
                raise


def _plain(spec: Any) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values_of(spec))


def _condition(choices: Mapping[str, list[int]], rng: random.Random) -> str:
    """A condition that some values of a few choices satisfy, and others often do not."""
    (a, one), (b, two), (c, three) = (rng.choice(list(choices.items())) for _ in range(3))
    x, y, z = rng.choice(one), rng.choice(two), rng.choice(three)
    return rng.choice(
        [
            f"{a} * {b} {rng.choice(['<=', '>=', '!='])} {x * y}",
            f"{a} + {b} < {x + y + 1}",
            f"{a} != {x} or {b} == {y}",
            f"{x} <= {a} < {2 * x} if {b} > {y} else {c} in {[z, y]}",
            f"not ({a} == {x} and {b} == {y}) and abs({a} - {c}) / {b} <= {abs(x - z) / y}",
            f"max({a}, {b}) - min({b}, {c}) <= {max(x, y) - min(y, z)}",
            f"{a} % {b} == {x % y} or {c} // 2 ** 2 > {z // 4}",
        ]
    )


def values_of(spec: Any) -> list[Any]:
    """The values of a choice, written out."""
    if isinstance(spec, dict):
        spec = spec.get("per_layer", spec)
    if not isinstance(spec, dict):
        return list(spec)
    value, found = spec["from"], []
    while value <= spec["to"]:
        found.append(value)
        value = value * spec["times"] if "times" in spec else value + spec.get("step", 1)
    return found


class Reference:
    """The members of a space as Python's own `eval` sees them.

    Args:
        space: whose base, like those of `random_space`, is small.
    """

    def __init__(self, space: ConfigSpace) -> None:
        definition = space.definition()
        self.choices = definition["choices"]
        self.derived = {_flat(name): _code(text) for name, text in definition["derived"].items()}
        self.constraints = [_code(text) for text in definition["constraints"]]
        base = space.config(space.samples(1)[0])
        texts = [*definition["derived"].values(), *definition["constraints"]]
        self.fixed = {_flat(name): _attribute(base, name) for text in texts for name in _names(text)}
        self.depth = base.get_text_config().num_hidden_layers

    def holds(self, row: tuple[Any, ...]) -> bool:
        """Whether values satisfy the constraints."""
        known = self.fixed | {_flat(name): value for name, value in zip(self.choices, row, strict=True)}
        for name, code in self.derived.items():
            known[name] = eval(code, {}, known)
        return all(eval(code, {}, known) for code in self.constraints)

    def members(self, most: int) -> list[tuple[Any, ...]] | None:
        """The values of all members; None if there are more than `most` combinations to try."""
        scalars = {name: values_of(spec) for name, spec in self.choices.items() if not _layered(spec)}
        layered = {name: values_of(spec) for name, spec in self.choices.items() if _layered(spec)}
        depths = next((scalars[name] for name in scalars if name.endswith(DEPTH_FIELDS)), [self.depth])
        number = math.prod(len(v) for v in scalars.values()) * math.prod(
            len(v) ** max(depths) for v in layered.values()
        )
        if number > most:
            return None
        found = []
        for values in itertools.product(*scalars.values()):
            fields = dict(zip(scalars, values, strict=True))
            depth = next((fields[name] for name in fields if name.endswith(DEPTH_FIELDS)), self.depth)
            for layers in itertools.product(*(itertools.product(v, repeat=depth) for v in layered.values())):
                member = fields | dict(zip(layered, layers, strict=True))
                row = tuple(member[name] for name in self.choices)
                if self.holds(row):
                    found.append(row)
        return found


def _code(text: str) -> CodeType:
    return compile(_flat(text), text, "eval")


def _flat(text: str) -> str:
    return re.sub(r"(?<=[a-z])\.(?=[a-z])", "_DOT_", text)


def _names(text: str) -> set[str]:
    words = re.findall(r"[a-z_][a-z_0-9]*(?:\.[a-z_0-9]+)*", re.sub("'[^']*'", "", text))
    return set(words) - set(keyword.kwlist) - set(vars(builtins))


def _attribute(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def _layered(spec: Any) -> bool:
    return isinstance(spec, dict) and "per_layer" in spec
