"""Spaces of layered architectures: some choices for the whole model, some for each of its layers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from lpzero_hf.errors import UsageError
from lpzero_hf.spaces.base import Architecture as Architecture
from lpzero_hf.spaces.base import By, Count, Pick, Row, SearchSpace, Value, listed

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

DEPTH = "number of layers"


@dataclass(frozen=True)
class Choice:
    """One choice of an architecture in a space, the hidden size for example.

    Args:
        symbol: what stands before the value in a text id, "d" in `d128`; "" where the values are words.
        name: the usual term for it.
        values: the possible values, in order; all numbers or all words.
    """

    symbol: str
    name: str
    values: Sequence[Value]

    def write(self, value: Value) -> str:
        """`value` as written in a text id."""
        return f"{self.symbol}{value}"

    def read(self, text: str) -> Value:
        """The value written as `text`. Raises `UsageError` if it is none of the values."""
        for value in (text[len(self.symbol) :], _number(text[len(self.symbol) :])):
            if value in self.values and self.write(value) == text:
                return value
        raise UsageError(f"'{text}' is no {self.name}; {self.describe()}")

    def describe(self) -> str:
        """The values, for people."""
        values = list(self.values)
        steps = {b - a for a, b in pairwise(values) if isinstance(a, int) and isinstance(b, int)}
        if len(values) > 12 and len(steps) == 1 and all(isinstance(value, int) for value in values):
            step = steps.pop()
            return f"{self.write(values[0])} to {self.write(values[-1])}" + f" in steps of {step}" * (step > 1)
        return ", ".join(self.write(value) for value in values)


@dataclass(frozen=True, kw_only=True)
class Space(SearchSpace):
    """All architectures that some shared choices, a number of layers, and some choices per layer span.

    Args:
        name: what users type.
        summary: one line for people.
        citation: the source.
        shared: choices made once per architecture.
        depths: numbers of layers, ascending.
        layer: choices made for every layer separately.
        build: maps the shared values by name, and those of each layer, to a configuration.

    Example:
        >>> from lpzero_hf import Choice, Space
        >>> from transformers import GPT2Config
        >>> space = Space(
        ...     name="toy",
        ...     summary="",
        ...     shared=(Choice("d", "width", (32, 64)),),
        ...     depths=(1, 2),
        ...     layer=(Choice("h", "heads", (1, 2, 4)),),
        ...     build=lambda shared, layers: GPT2Config(n_embd=shared["width"], n_layer=len(layers)),
        ... )
        >>> space.size(), space.text(space.nth(21))
        (24, 'd64-h2-h4')
    """

    name: str
    summary: str
    citation: str = ""
    shared: tuple[Choice, ...]
    depths: Sequence[int]
    layer: tuple[Choice, ...]
    build: Callable[[Mapping[str, Value], Sequence[Mapping[str, Value]]], PreTrainedConfig]

    def count(self) -> Count:
        """The number of architectures, exactly."""
        per_layer = _count(self.layer)
        number = _count(self.shared) * sum(math.prod([per_layer] * depth) for depth in self.depths)
        return Count(number, number, number)

    def nth(self, index: int) -> Architecture:
        """The architecture with number `index`, from 0 to `size() - 1`; every architecture has one number.

        Raises:
            IndexError: there is none.
        """
        if not 0 <= index < self.size():
            raise IndexError(f"space '{self.name}' has {self.size()} architectures, so none has number {index}")
        index, shared = _digits(index, self.shared)
        for depth in self.depths:
            block = _count(self.layer) ** depth
            if index < block:
                break
            index -= block
        layers = []
        for _ in range(depth):
            index, row = _digits(index, self.layer)
            layers.append(row)
        return Architecture(shared, tuple(layers))

    def sample(self, rng: random.Random, by: By = "architecture") -> Architecture:
        """A random architecture.

        Args:
            rng: the source of randomness.
            by: "architecture" makes all architectures equally likely, so that nearly all drawn have the largest
                depth; "choice" draws the depth and every value uniformly, as in the published benchmarks.
        """
        if by == "architecture":
            return self.nth(rng.randrange(self.size()))
        if by != "choice":
            raise UsageError(f"sampling by '{by}' is unknown; use 'architecture' or 'choice'")
        shared, depth = _draw(self.shared, rng), rng.choice(self.depths)
        return Architecture(shared, tuple(_draw(self.layer, rng) for _ in range(depth)))

    def samples(self, n: int, seed: int = 42, by: By = "architecture") -> list[Architecture]:
        """`n` different random architectures.

        Raises:
            UsageError: the space has fewer.
        """
        if by == "architecture" and self.size() // 2 < n <= self.size():  # drawing again until it is new takes long
            return [self.nth(index) for index in random.Random(seed).sample(range(self.size()), n)]
        return super().samples(n, seed, by)

    def check(self, architecture: Architecture) -> Architecture:
        """`architecture` itself. Raises `UsageError`, naming what is wrong, if it is not of this space."""
        if len(architecture.layers) not in self.depths:
            depths = Choice("", "number of layers", tuple(self.depths)).describe()
            raise UsageError(f"{len(architecture.layers)} layers are not in space '{self.name}'; it has {depths}")
        for choices, row in [(self.shared, architecture.shared), *((self.layer, row) for row in architecture.layers)]:
            if len(row) != len(choices):
                names = ", ".join(choice.name for choice in choices)
                raise UsageError(f"{list(row)} must give one value each for {names}")
            for choice, value in zip(choices, row, strict=True):
                if value not in choice.values:
                    raise UsageError(f"{choice.name} {value} is not in space '{self.name}'; {choice.describe()}")
        return architecture

    def text(self, architecture: Architecture) -> str:
        """The stable text id, `d128.e256.k4-h2.i1071-h4.i640` for example: the shared values, then each layer.

        Where layers have no choices of their own, their number is written, `d128-l6`.
        """
        shared = _write(self.shared, architecture.shared)
        if not self.layer:
            return f"{shared}-l{len(architecture.layers)}"
        return "-".join([shared, *(_write(self.layer, row) for row in architecture.layers)])

    def parse(self, text: str) -> Architecture:
        """The architecture with that text id.

        Raises:
            UsageError: it is malformed, or names a value outside the space.
        """
        shared, *layers = text.strip().split("-")
        if self.layer:
            rows = tuple(_read(self.layer, layer) for layer in layers)
        else:
            depth = _read((Choice("l", "number of layers", tuple(self.depths)),), "-".join(layers))
            rows = ((),) * int(depth[0])
        return self.check(Architecture(_read(self.shared, shared), rows))

    def config(self, architecture: Architecture) -> PreTrainedConfig:
        """The Hugging Face configuration of an architecture."""
        self.check(architecture)
        return self.build(_named(self.shared, architecture.shared), self.layers(architecture))

    def layers(self, architecture: Architecture) -> list[dict[str, Value]]:
        """The values of each layer by name."""
        return [_named(self.layer, row) for row in architecture.layers]

    def parameters(self) -> dict[str, list[Value]]:
        """The shared choices, "number of layers", then "layers.0.<choice>", ... of the deepest architectures."""
        depth = max(self.depths)
        layers = {f"layers.{i}.{choice.name}": list(choice.values) for i in range(depth) for choice in self.layer}
        shared = {choice.name: list(choice.values) for choice in self.shared}
        return shared | {DEPTH: list(self.depths)} | layers

    def assemble(self, pick: Pick) -> Architecture:
        """The architecture whose values `pick` chooses, see `SearchSpace.assemble`."""

        def row(choices: tuple[Choice, ...], prefix: str = "") -> Row:
            return tuple(pick(prefix + choice.name, choice.values) for choice in choices)

        shared = row(self.shared)
        depth = int(cast("int", pick(DEPTH, self.depths)))
        return self.check(Architecture(shared, tuple(row(self.layer, f"layers.{i}.") for i in range(depth))))

    def named_values(self, architecture: Architecture) -> dict[str, Value]:
        """The shared values, "number of layers", then those of the layers it has, see `SearchSpace.named_values`."""
        self.check(architecture)
        shared = {choice.name: value for choice, value in zip(self.shared, architecture.shared, strict=True)}
        layers = {
            f"layers.{i}.{choice.name}": value
            for i, row in enumerate(architecture.layers)
            for choice, value in zip(self.layer, row, strict=True)
        }
        return shared | {DEPTH: len(architecture.layers)} | layers

    def described(self) -> list[Mapping[str, Any]]:
        """A row for every choice and the number of layers, see `SearchSpace.described`."""
        shared, layer = (
            [
                {"per": per, "name": choice.name, "values": list(choice.values), "shown": choice.describe()}
                for choice in choices
            ]
            for per, choices in (("model", self.shared), ("layer", self.layer))
        )
        depths = list(self.depths)
        return [*shared, {"per": "model", "name": "layers", "values": depths, "shown": listed(depths)}, *layer]


def _number(text: str) -> Value:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text


def _count(choices: Sequence[Choice]) -> int:
    return math.prod(len(choice.values) for choice in choices)


def _digits(index: int, choices: Sequence[Choice]) -> tuple[int, Row]:
    row = []
    for choice in choices:
        index, digit = divmod(index, len(choice.values))
        row.append(choice.values[digit])
    return index, tuple(row)


def _draw(choices: Sequence[Choice], rng: random.Random) -> Row:
    return tuple(rng.choice(choice.values) for choice in choices)


def _write(choices: Sequence[Choice], row: Row) -> str:
    return ".".join(choice.write(value) for choice, value in zip(choices, row, strict=True))


def _read(choices: Sequence[Choice], text: str) -> Row:
    words = text.split(".") if text else []
    if len(words) != len(choices):
        expected = _write(choices, tuple(choice.values[0] for choice in choices))
        raise UsageError(f"'{text}' should look like '{expected}'")
    return tuple(choice.read(word) for choice, word in zip(choices, words, strict=True))


def _named(choices: Sequence[Choice], row: Row) -> dict[str, Value]:
    return {choice.name: value for choice, value in zip(choices, row, strict=True)}
