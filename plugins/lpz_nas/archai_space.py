"""A space of language models as a search space of Archai. How to install Archai: `docs/how-to/nas-tools.md`."""

# no `from __future__ import annotations`: Archai compares the types of what is overridden
import hashlib
import random
from pathlib import Path
from typing import Any

from archai.discrete_search.api import ArchaiModel, EvolutionarySearchSpace
from overrides import overrides

from lpzero_hf.errors import UsageError
from lpzero_hf.spaces.base import Architecture, SearchSpace


class LanguageModels(EvolutionarySearchSpace):
    """A space as Archai's: `metadata["architecture"]` of its models is the text id, `archid` a digest of that. There
    are no weights: search with `save_pareto_model_weights=False`.

    Args:
        space: searched.
        seed: of the draws.
    """

    def __init__(self, space: SearchSpace, seed: int = 42) -> None:
        self.space, self._rng = space, random.Random(seed)

    def _model(self, architecture: Architecture) -> ArchaiModel:
        text = self.space.text(architecture)
        return ArchaiModel(architecture, hashlib.sha256(text.encode()).hexdigest()[:16], {"architecture": text})

    def _values(self, model: ArchaiModel) -> dict[str, Any]:
        return self.space.named_values(self.space.parse(model.metadata["architecture"]))  # Archai clears `arch`

    @overrides
    def random_sample(self) -> ArchaiModel:
        """An architecture, every choice drawn uniformly."""
        return self._model(self.space.sample(self._rng, "choice"))

    @overrides
    def mutate(self, arch: ArchaiModel) -> ArchaiModel:
        """One value drawn anew, and what a deeper architecture has beyond this one."""
        own = self._values(arch)
        del own[self._rng.choice(list(own))]
        return self._model(
            self.space.assemble(lambda name, known: own[name] if name in own else self._rng.choice(known))
        )

    @overrides
    def crossover(self, arch_list: list[ArchaiModel]) -> ArchaiModel:
        """Every value of one parent that has it."""
        parents = [self._values(model) for model in arch_list]
        return self._model(
            self.space.assemble(
                lambda name, known: self._rng.choice([one[name] for one in parents if name in one] or known)
            )
        )

    @overrides
    def save_arch(self, model: ArchaiModel, file_path: str) -> None:
        """Write the text id."""
        Path(file_path).write_text(model.metadata["architecture"], encoding="utf-8")

    @overrides
    def load_arch(self, file_path: str) -> ArchaiModel:
        """Read the text id."""
        return self._model(self.space.parse(Path(file_path).read_text(encoding="utf-8")))

    @overrides
    def save_model_weights(self, model: ArchaiModel, file_path: str) -> None:
        """There are none."""
        raise UsageError("nothing is trained, so there are no weights; search with save_pareto_model_weights=False")

    @overrides
    def load_model_weights(self, model: ArchaiModel, file_path: str) -> None:
        """There are none."""
        raise UsageError("nothing is trained, so there are no weights to load")
