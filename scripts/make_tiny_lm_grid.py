"""Chooses the architectures of the benchmark `tiny-lm`: many of each size, of different shapes.

    python scripts/make_tiny_lm_grid.py 8e3 12e3 18e3 27e3 --most 40960 > grid.txt

Each line is an architecture of the space `tiny-lm`. Those of one size have numbers of parameters outside embeddings
within 10% of one another. Sizes take turns, so that the first lines of the file are a grid too.
"""

from __future__ import annotations

import argparse
import random
from itertools import product, zip_longest
from typing import cast

from lpz_zoo.spaces import TINY_LM

from lpzero_hf.errors import UsageError
from lpzero_hf.spaces.base import Architecture

WITHIN = 1.1  # the largest of a size has at most this many times the parameters of the smallest


def sizes_of(width: int, depth: int, inner: int, vocabulary: int) -> tuple[int, int]:
    """Parameters outside embeddings, and all, of a Llama with tied embeddings and as many key-value heads as heads."""
    body = depth * (4 * width**2 + 3 * width * inner + 2 * width) + width
    return body, body + vocabulary * width


def grid(targets: list[float], n: int, most: int, deepest: int, seed: int) -> list[str]:
    """Text ids of `n` architectures, sizes in turn; in each, pairs of width and depth take turns in random order.

    Args:
        targets: parameters outside embeddings, the middle of each size.
        n: architectures in all.
        most: the most parameters of one, embeddings included.
        deepest: the most layers.
        seed: of the choice.

    Raises:
        SystemExit: the sizes have too few architectures.
    """
    choices = TINY_LM.parameters()
    vocabulary = TINY_LM.config(TINY_LM.sample(random.Random(0))).vocab_size
    rng = random.Random(seed)
    found: list[list[str]] = []
    for target in targets:
        shapes: dict[tuple[int, int], list[str]] = {}
        for values in product(*choices.values()):
            width, depth, _, inner = cast("tuple[int, int, int, int]", values)
            body, total = sizes_of(width, depth, inner, vocabulary)
            if depth > deepest or total > most or not target / WITHIN**0.5 <= body <= target * WITHIN**0.5:
                continue
            try:
                name = TINY_LM.text(TINY_LM.check(Architecture(values)))
            except UsageError:  # a constraint of the space
                continue
            shapes.setdefault((width, depth), []).append(name)
        for names in shapes.values():
            rng.shuffle(names)
        turns = list(shapes.values())
        rng.shuffle(turns)
        ordered = [names[i] for i in range(max(map(len, turns), default=0)) for names in turns if i < len(names)]
        found.append(ordered)
    names = [name for turn in zip_longest(*found) for name in turn if name is not None]
    if len(names) < n:
        raise SystemExit(f"only {len(names)} architectures are of these sizes; ask for fewer, or for other sizes")
    return names[:n]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("sizes", nargs="+", type=float, help="parameters outside embeddings")
    parser.add_argument("--n", type=int, default=128, help="architectures in all")
    parser.add_argument("--most", type=int, default=2**62, help="the most parameters, embeddings included")
    parser.add_argument("--deepest", type=int, default=12, help="the most layers")
    parser.add_argument("--seed", type=int, default=42, help="of the choice")
    given = parser.parse_args()
    print("\n".join(grid(given.sizes, given.n, given.most, given.deepest, given.seed)))
