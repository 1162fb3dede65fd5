"""Refuses sizes that cannot be built, from the numbers of a configuration alone, before anything is built."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lpzero_hf.errors import ModelError

WORD = re.compile(r"[a-z]+")
LIMITS: tuple[tuple[frozenset[str], int], ...] = (  # the most that a key with one of these words may say
    (frozenset({"layer", "layers", "block", "blocks", "stage", "stages", "depth", "depths"}), 1_000),
    (frozenset({"expert", "experts", "head", "heads", "labels", "codebooks", "quantizers", "langs"}), 100_000),
    (frozenset({"position", "positions", "ctx", "context", "seq"}), 2**26),
)
LARGEST = 2**31 - 1  # of any other number that can be the size of something
NO_SIZES = frozenset({"id", "ids", "theta", "base", "freq", "frequency", "seed", "window", "token", "index", "idx"})
NO_SIZE_KEYS = frozenset({"max_length", "min_length", "model_max_length"})
COUNTED = re.compile(r"(n|num|d)_.*|.*(_size|_dim|_layers|_heads|_experts|embd)|vocab.*|depths?")  # sizes, or how many
NEVER_NEGATIVE = frozenset({"layer", "layers", "head", "heads", "hidden", "vocab", "embd", "experts", "blocks"})
WIDTHS = frozenset({"channels", "size", "dim", "width", "widths"})  # of a layer or a head, and not how many there are
DEEPEST = 50  # nested lists and dicts
LARGE = 2**28  # elements; a model that may have more is measured before it is built


def check_sizes(config: Mapping[str, Any], failure: str) -> None:
    """Refuse a configuration whose numbers no machine can build.

    Args:
        config: as plain data, with nested ones.
        failure: what the message begins with.

    Raises:
        ModelError: it names the key, its value and the limit.
    """
    for key, value in _numbers(config, "", 0, failure):
        words = frozenset(WORD.findall(key.lower()))
        if words & NO_SIZES or key in NO_SIZE_KEYS:
            continue
        counted = COUNTED.fullmatch(key.lower()) is not None
        limit = LARGEST if isinstance(value, int) or counted else math.inf
        limit = next((most for of, most in LIMITS if words & of and not words & WIDTHS), limit)
        if value > limit:
            raise ModelError(f"{failure}: '{key}' is {value:.6g}, and at most {limit:,} can be built; give less")
        if value < 0 and counted and not (value == -1 and not words & NEVER_NEGATIVE):  # -1 often means "no limit"
            raise ModelError(f"{failure}: '{key}' is {value:.6g}, which is no size; give a positive number")


def may_be_large(config: Mapping[str, Any]) -> bool:
    """Whether a model may have more than `LARGE` weights; false only if it surely has fewer."""
    numbers = [(frozenset(WORD.findall(key.lower())), value) for key, value in _numbers(config, "", 0, "")]
    numbers = [(words, value) for words, value in numbers if not words & NO_SIZES and value > 0]
    counts = [value for words, value in numbers if words & LIMITS[0][0]]
    experts = [value for words, value in numbers if words & {"expert", "experts"}]
    widest = sorted((value for words, value in numbers if not words & LIMITS[0][0]), reverse=True)[:2]
    if len(widest) < 2:
        return True
    return widest[0] * widest[1] * (sum(counts) + 2) * max(experts, default=1) * 8 > LARGE


def _numbers(value: Any, key: str, depth: int, failure: str) -> Iterator[tuple[str, float]]:
    """Every number with the key that it, or the list that holds it, stands under."""
    if depth > DEEPEST:
        raise ModelError(f"{failure}: its configuration is nested more than {DEEPEST} deep; save it again")
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield key, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            if name not in ("label2id", "id2label", "quantization_config", "task_specific_params"):
                yield from _numbers(one, str(name), depth + 1, failure)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one, key, depth + 1, failure)
