"""A space in a file that a package ships, read when it is first used."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpzero_hf.spaces.base import Architecture, By, Count, Pick, SearchSpace, Value

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from lpzero_hf.spaces.config_space import ConfigSpace


class ShippedSpace(SearchSpace):
    """A space for the hook `lpz_spaces` that costs nothing until somebody uses it.

    Args:
        name: of the space, as in its file.
        summary: one line for people.
        path: its file, see `lpzero_hf.load_space`.
        size: the exact number of its architectures, so that a listing need not read the file; by default they are
            counted.

    Example:
        >>> from pathlib import Path
        >>> from lpzero_hf import ShippedSpace
        >>> space = ShippedSpace("mine", "Llama decoders", Path("not-read-yet.yaml"))
        >>> space.name
        'mine'
    """

    def __init__(self, name: str, summary: str, path: Path, size: int | None = None) -> None:
        self.name, self.summary, self.path, self._size = name, summary, path, size

    @cached_property
    def _space(self) -> ConfigSpace:
        from lpzero_hf.spaces.space_file import space_from_file

        return space_from_file(self.path)

    @property
    def citation(self) -> str:  # type: ignore[override]  # read-only here
        """The source, as its file says."""
        return self._space.citation

    def count(self) -> Count:
        """The number of architectures."""
        return self._space.count() if self._size is None else Count(self._size, self._size, self._size)

    def sample(self, rng: random.Random, by: By = "architecture") -> Architecture:
        """A random architecture."""
        return self._space.sample(rng, by)

    def samples(self, n: int, seed: int = 42, by: By = "architecture") -> list[Architecture]:
        """`n` different random architectures."""
        return self._space.samples(n, seed, by)

    def check(self, architecture: Architecture) -> Architecture:
        """`architecture` itself, if it is of this space."""
        return self._space.check(architecture)

    def text(self, architecture: Architecture) -> str:
        """The stable text id of an architecture."""
        return self._space.text(architecture)

    def parse(self, text: str) -> Architecture:
        """The architecture with that text id."""
        return self._space.parse(text)

    def config(self, architecture: Architecture) -> PreTrainedConfig:
        """The configuration of an architecture."""
        return self._space.config(architecture)

    def parameters(self) -> dict[str, list[Value]]:
        """The choices by name."""
        return self._space.parameters()

    def assemble(self, pick: Pick) -> Architecture:
        """The architecture whose values `pick` chooses."""
        return self._space.assemble(pick)

    def named_values(self, architecture: Architecture) -> dict[str, Value]:
        """The values of an architecture by the names of the choices."""
        return self._space.named_values(architecture)

    def definition(self) -> dict[str, Any]:
        """What makes this space again without its file."""
        return self._space.definition()

    def described(self) -> list[Mapping[str, Any]]:
        """A row for every choice."""
        return self._space.described()
