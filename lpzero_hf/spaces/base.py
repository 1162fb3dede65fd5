"""What every space of architectures can do, whatever its members are made of."""

from __future__ import annotations

import hashlib
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lpzero_hf.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Value = Any  # a number, a text, a truth value, None, or a tuple of these: hashable, and plain data
Row = tuple[Value, ...]
By = Literal["architecture", "choice"]
Pick = Callable[[str, Sequence[Value]], Value]


@dataclass(frozen=True)
class Architecture:
    """One member of a space.

    Args:
        shared: the values of the space's shared choices, in their order.
        layers: for each layer, the values of the space's layer choices; empty where the space has none.
    """

    shared: Row
    layers: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Count:
    """A number of architectures.

    Args:
        value: the number, or its estimate.
        low: the lower end of its 95% interval.
        high: the upper end.
    """

    value: int
    low: int
    high: int

    @property
    def exact(self) -> bool:
        """Whether it was counted rather than estimated."""
        return self.low == self.high


class SearchSpace(ABC):
    """A set of architectures: it draws them, names them by text ids, and makes their configurations.

    Attributes:
        name: what users type.
        summary: one line for people.
        citation: the source.
    """

    name: str
    summary: str
    citation: str

    @abstractmethod
    def count(self) -> Count:
        """The number of architectures, exactly or, where that would take too long, estimated with an interval."""

    @abstractmethod
    def sample(self, rng: random.Random, by: By = "architecture") -> Architecture:
        """A random architecture.

        Args:
            rng: the source of randomness.
            by: "architecture" makes all architectures equally likely; "choice" draws every choice uniformly.
        """

    @abstractmethod
    def check(self, architecture: Architecture) -> Architecture:
        """`architecture` itself. Raises `UsageError`, naming what is wrong, if it is not of this space."""

    @abstractmethod
    def text(self, architecture: Architecture) -> str:
        """The stable text id of an architecture."""

    @abstractmethod
    def parse(self, text: str) -> Architecture:
        """The architecture with that text id. Raises `UsageError` if there is none."""

    @abstractmethod
    def config(self, architecture: Architecture) -> PreTrainedConfig:
        """The Hugging Face configuration of an architecture."""

    @abstractmethod
    def parameters(self) -> dict[str, list[Value]]:
        """The space as a list of named parameters with their values, for tools that know nothing of architectures."""

    @abstractmethod
    def assemble(self, pick: Pick) -> Architecture:
        """The architecture whose values `pick` chooses.

        Args:
            pick: called with names of `parameters`, in order and only those that this architecture has, and the
                possible values; returns one of these. Where constraints leave no architecture with that value, the
                nearest value that they allow is taken instead.

        Raises:
            UsageError: `pick` returned a value that is not in the space.
        """

    @abstractmethod
    def named_values(self, architecture: Architecture) -> dict[str, Value]:
        """The values by which `assemble` makes an architecture: by names of `parameters`, only those it has."""

    def size(self) -> int:
        """The number of architectures; an estimate where `count` says so."""
        return self.count().value

    def samples(self, n: int, seed: int = 42, by: By = "architecture") -> list[Architecture]:
        """`n` different random architectures.

        Raises:
            UsageError: the space has fewer.
        """
        if n > (count := self.count()).high:
            raise UsageError(f"space '{self.name}' has only {count.value} architectures; ask for no more")
        rng = random.Random(seed)
        found: dict[Architecture, None] = {}
        for _ in range(1000 * n + 10_000):
            if len(found) == n:
                return list(found)
            found.setdefault(self.sample(rng, by))
        raise UsageError(f"many draws from space '{self.name}' gave only {len(found)} architectures; ask for fewer")

    def definition(self) -> dict[str, Any] | None:
        """What makes this space again, as plain data; None where it is code, known by its name."""
        return None

    def fingerprint(self) -> str:
        """What tells this space from others: its name where it is code, else a digest of what it defines."""
        if (definition := self.definition()) is None:
            return self.name
        parts = {key: value for key, value in definition.items() if key not in ("name", "summary", "citation")}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def content(self, architecture: Architecture) -> tuple[Any, ...]:
        """Plain data that an architecture is known by, whatever a release of transformers fills in by default.

        Two different architectures never share it. Empty if there is none.
        """
        return (self.fingerprint(), self.text(architecture))

    def described(self) -> list[Mapping[str, Any]]:
        """A row for every choice: its `name`, what it is made `per` (model or layer), its `values`, and these as
        `shown` to people."""
        return [
            {"per": "model", "name": name, "values": values, "shown": listed(values)}
            for name, values in self.parameters().items()
        ]


def listed(values: Sequence[Value]) -> str:
    """Values for people, with commas."""
    return ", ".join(map(str, values))
