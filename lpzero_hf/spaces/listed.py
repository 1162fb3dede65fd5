"""Spaces that are a finite list of given architectures."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import UsageError, did_you_mean
from lpzero_hf.spaces.base import Architecture, By, Count, Pick, SearchSpace, Value

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

PARAMETER = "architecture"


@dataclass(frozen=True)
class ListedMember:
    """One architecture of a list.

    Args:
        build: makes its configuration, when it is asked for.
        given: what it is made of, as plain data, where that alone decides it; None where a file or the Hub does.
    """

    build: Callable[[], PreTrainedConfig]
    given: Any = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ListedSpace(SearchSpace):
    """A list of architectures under their names, which are their text ids.

    No configuration is built before it is asked for, and the list itself may be read when it is first needed.

    Args:
        name: what users type.
        summary: one line for people.
        citation: the source.
        listing: the members by name, or a function that reads them.

    Example:
        >>> from transformers import GPT2Config
        >>> members = {"small": ListedMember(lambda: GPT2Config(n_embd=48)), "large": ListedMember(GPT2Config)}
        >>> space = ListedSpace(name="two", listing=members)
        >>> space.size(), space.config(space.parse("large")).n_embd
        (2, 768)
    """

    name: str
    summary: str = ""
    citation: str = ""
    listing: Mapping[str, ListedMember] | Callable[[], Mapping[str, ListedMember]]

    @cached_property
    def members(self) -> Mapping[str, ListedMember]:
        """The architectures by name, in order."""
        return self.listing() if callable(self.listing) else self.listing

    def count(self) -> Count:
        """The number of architectures, exactly."""
        return Count(len(self.members), len(self.members), len(self.members))

    def sample(self, rng: random.Random, by: By = "architecture") -> Architecture:
        """A random architecture; all are equally likely, however they are drawn."""
        if by not in ("architecture", "choice"):
            raise UsageError(f"sampling by '{by}' is unknown; use 'architecture' or 'choice'")
        return Architecture((rng.choice(self._names),))

    def samples(self, n: int, seed: int = 42, by: By = "architecture") -> list[Architecture]:
        """`n` different random architectures. Raises `UsageError` if the list is shorter."""
        if n > len(self.members):
            return super().samples(n, seed, by)  # which says so
        return [Architecture((name,)) for name in random.Random(seed).sample(self._names, n)]

    def check(self, architecture: Architecture) -> Architecture:
        """`architecture` itself. Raises `UsageError`, naming what is wrong, if it is not in the list."""
        if len(architecture.shared) != 1 or architecture.layers:
            raise UsageError(f"an architecture of space '{self.name}' is its name alone, not {architecture}")
        name = architecture.shared[0]
        if name not in self.members:
            near = did_you_mean(str(name), self.members) if len(self.members) < 10_000 else ""
            raise UsageError(f"space '{self.name}' lists no architecture '{name}'{near}")
        return architecture

    def text(self, architecture: Architecture) -> str:
        """The name of an architecture."""
        return str(architecture.shared[0])

    def parse(self, text: str) -> Architecture:
        """The architecture with that name. Raises `UsageError` if there is none."""
        return self.check(Architecture((text.strip(),)))

    def config(self, architecture: Architecture) -> PreTrainedConfig:
        """The configuration of an architecture, newly built. Raises `LpzError` if it cannot be built."""
        return self.members[self.check(architecture).shared[0]].build()

    def parameters(self) -> dict[str, list[Value]]:
        """One parameter, whose values are the names."""
        return {PARAMETER: list(self._names)}

    def assemble(self, pick: Pick) -> Architecture:
        """The architecture whose name `pick` chooses, see `SearchSpace.assemble`."""
        return self.check(Architecture((pick(PARAMETER, self._names),)))

    def named_values(self, architecture: Architecture) -> dict[str, Value]:
        """Its name."""
        return {PARAMETER: self.check(architecture).shared[0]}

    def content(self, architecture: Architecture) -> tuple[Any, ...]:
        """What the architecture is made of; nothing where a file or the Hub decides it: its name may be another's."""
        given = self.members[self.check(architecture).shared[0]].given
        return () if given is None else ("listed", given)

    @cached_property
    def _names(self) -> list[str]:
        return list(self.members)
