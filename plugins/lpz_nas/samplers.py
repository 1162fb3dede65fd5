"""What proposes architectures to a study: Optuna's samplers, the evolution of LiteTransformerSearch, or chance.

Each trial has a sampler of its own, seeded by the number of trials finished before it, so that a resumed study proposes
what an uninterrupted one does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from lpz_nas.optuna_study import FINISHED, ResumableSampler
from lpzero_hf.spaces.base import Value

POPULATION = 20  # of NSGA-II (Deb et al. 2002), and parents of the evolution
DRAWN = 20  # proposals at random before the evolution begins
MUTATION = 0.3  # probability of each value to be drawn again
FEW = 5  # proposals, all outside the limits, after which the least bad ones are varied


class EvolutionSampler(BaseSampler):
    """Varies the best architectures so far: half are mutations of one, half crossovers of two.

    As the evolutionary search of LiteTransformerSearch (Javaheripi et al., NeurIPS 2022, arXiv:2203.02094), one
    proposal at a time. The best are those of the first Pareto fronts; while none is within the limits, those that
    exceed them least.

    Args:
        seed: of this trial.
        drawn: proposals at random before the first variation.
    """

    def __init__(self, seed: int, drawn: int = DRAWN) -> None:
        self._rng, self._drawn = random.Random(seed), drawn
        self._random = RandomSampler(seed=seed)
        self._parents: list[FrozenTrial] = []
        self._mutates = True

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose the parents of this trial."""
        finished = study.get_trials(deepcopy=False, states=FINISHED)
        if len(finished) >= self._drawn:
            best = ranked(finished, study)[:POPULATION]
            self._mutates = self._rng.random() < 0.5
            self._parents = [self._rng.choice(best) for _ in range(1 if self._mutates else 2)] if best else []

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: every value is chosen by itself."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parent's value, or one at random."""
        from_parents = [p.params[param_name] for p in self._parents if param_name in p.params]
        if from_parents and not (self._mutates and self._rng.random() < MUTATION):
            value = self._rng.choice(from_parents)
            if param_distribution._contains(param_distribution.to_internal_repr(value)):
                return value
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def ranked(finished: Sequence[FrozenTrial], study: optuna.Study) -> list[FrozenTrial]:
    """Trials from the best: those with values by Pareto front, then those outside limits by how far."""
    signs = [1 if direction == optuna.study.StudyDirection.MAXIMIZE else -1 for direction in study.directions]
    left = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    found: list[FrozenTrial] = []

    def beaten(trial: FrozenTrial) -> bool:
        own = [sign * value for sign, value in zip(signs, trial.values, strict=True)]
        for other in left:
            theirs = [sign * value for sign, value in zip(signs, other.values, strict=True)]
            if theirs != own and all(a >= b for a, b in zip(theirs, own, strict=True)):
                return True
        return False

    while left and len(found) < POPULATION:
        front = [trial for trial in left if not beaten(trial)]
        found += front
        left = [trial for trial in left if trial not in front]
    outside = [(sum(max(0.0, e) for e in t.constraints.values()), t.number, t) for t in finished if t.constraints]
    return found + [trial for excess, _, trial in sorted(outside, key=lambda row: row[:2]) if excess > 0]


STRATEGIES: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION),
    "random": lambda seed: RandomSampler(seed=seed),
    "evolution": EvolutionSampler,
}


class StrategySampler(ResumableSampler):
    """Samples each trial by a strategy; while nothing is within the limits, varies what exceeds them least.

    Args:
        strategy: one of `STRATEGIES`.
        seed: of every trial.
        first: parameters of the first trials.
    """

    def __init__(self, strategy: str, seed: int, first: Sequence[Mapping[str, Value]] = ()) -> None:
        super().__init__(seed, first)
        self._strategy = strategy

    def sampler(self, study: optuna.Study, seed: int) -> BaseSampler:
        """The sampler of one trial."""
        finished = study.get_trials(deepcopy=False, states=FINISHED)
        lost = len(finished) >= FEW and all(trial.state != TrialState.COMPLETE for trial in finished)
        if lost and self._strategy != "random":
            return EvolutionSampler(seed, drawn=FEW)
        return STRATEGIES[self._strategy](seed)
