"""Optuna on spaces of language models: an objective that is a proxy, with the number of parameters as constraint.

Needs `pip install 'lpzero-hf[optuna]'`.

>>> import optuna
>>> from lpz_nas import Budget, ProxyEvaluator
>>> from lpz_nas.optuna_study import Objective, create_study
>>> optuna.logging.set_verbosity(optuna.logging.WARNING)
>>> study = create_study()
>>> evaluator = ProxyEvaluator("num_heads", space="tiny-gpt2")
>>> study.optimize(Objective(evaluator, Budget(max_params=500_000)), n_trials=12)
>>> study.best_trial.user_attrs["params"] <= 500_000
True
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from lpz_nas.budget import Budget, count
from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.outcome import Tried
from lpz_nas.proposals import offered
from lpzero_hf.errors import LpzError, UsageError, one_line
from lpzero_hf.spaces.base import Architecture, SearchSpace, Value

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def suggest(trial: optuna.Trial, space: SearchSpace) -> Architecture:
    """The architecture that Optuna proposes in a trial.

    Numbers in equal steps become integers, everything else a categorical choice; a layer's choices are suggested only
    if the architecture has that layer. The names are those of `space.parameters()`. Lists, which Optuna does not take,
    are written as texts.
    """

    def pick(name: str, values: Sequence[Value]) -> Value:
        numbers = [value for value in values if isinstance(value, int)]
        steps = {b - a for a, b in pairwise(numbers)}
        if len(numbers) == len(values) > 2 and len(steps) == 1 and min(steps) > 0:
            return trial.suggest_int(name, numbers[0], numbers[-1], step=steps.pop())
        options = offered(values)
        return values[options.index(trial.suggest_categorical(name, options))]

    return space.assemble(pick)


class Objective:
    """A proxy's score of the architecture that a trial proposes, to be maximised.

    The parameters are counted first, without memory for them. A proposal outside the budget is pruned without being
    built, with its excess as Optuna's constraint, which the samplers use; one that cannot be built, or has no score, is
    pruned as well.
    A trial's user attributes are `architecture` (its text id), `params`, and the `reason` of a missing score.

    Args:
        evaluator: scores; its space is searched.
        budget: limits of the number of parameters.
        front: return (score, parameters), for a study with two directions.

    Raises:
        UsageError: the evaluator has no space.
    """

    def __init__(self, evaluator: ProxyEvaluator, budget: Budget | None = None, *, front: bool = False) -> None:
        if evaluator.space is None:
            raise UsageError("a study searches a space; name it with ProxyEvaluator(..., space=...)")
        self.evaluator, self.space = evaluator, evaluator.space
        self.budget = Budget() if budget is None else budget
        self.front = front

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, float]:
        """The score, or the score and the number of parameters."""
        try:
            architecture = suggest(trial, self.space)
            trial.set_user_attr("architecture", self.space.text(architecture))
            config = self.space.config(architecture)
            params = count(config)
        except LpzError as error:  # no architecture, or none that can be built
            trial.set_user_attr("reason", str(error))
            raise optuna.TrialPruned(str(error)) from error
        trial.set_user_attr("params", params)
        for bound, excess in self.budget.excess(params).items():
            trial.set_constraint(bound, excess)
        if not self.budget.allows(params):
            raise optuna.TrialPruned(f"{params:,} parameters, not {self.budget}")
        verdict = self.evaluator.try_evaluate(config)
        if verdict.value is None:
            trial.set_user_attr("reason", verdict.reason)
            raise optuna.TrialPruned(verdict.reason)
        return (verdict.value, float(params)) if self.front else verdict.value


class ResumableSampler(BaseSampler):
    """Samples each trial with a sampler of its own, seeded by the number of trials finished before it.

    So a study that is resumed from its storage makes the same proposals as an uninterrupted one. For one trial at a
    time; with `n_jobs` above 1 there is no such order, so use Optuna's own samplers.

    Args:
        seed: of every trial.
        first: parameters of the first trials, before any are drawn.
    """

    def __init__(self, seed: int = 42, first: Sequence[Mapping[str, Value]] = ()) -> None:
        self._seed, self._first = seed, first
        self._fixed: Mapping[str, Value] = {}
        self._inner: BaseSampler = TPESampler(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        finished = len(study.get_trials(deepcopy=False, states=FINISHED))
        self._fixed = self._first[finished] if finished < len(self._first) else {}
        self._inner = self.sampler(study, random.Random(f"{self._seed}/{finished}").getrandbits(32))
        self._inner.before_trial(study, trial)

    def sampler(self, study: optuna.Study, seed: int) -> BaseSampler:
        """The sampler of one trial."""
        return TPESampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the trial's sampler does."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the trial's sampler does."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value given for this trial, or as its sampler does."""
        if param_name in self._fixed:
            return self._fixed[param_name]
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As the trial's sampler does."""
        self._inner.after_trial(study, trial, state, values)


def create_study(
    storage: str | Path | None = None,
    *,
    name: str = "lpz-nas",
    seed: int = 42,
    front: bool = False,
    first: Sequence[Mapping[str, Value]] = (),
    sampler: BaseSampler | None = None,
    signs: Sequence[int] = (),
) -> optuna.Study:
    """A study that maximises a score; continues the one in `storage` if there is one.

    Args:
        storage: a file for SQLite, or a URL as Optuna takes it; None keeps the study in memory.
        name: of the study in its storage.
        seed: of the proposals, see `ResumableSampler`.
        front: maximise the score and minimise the number of parameters: a Pareto front instead of one winner.
        first: parameters of the first trials, see `corners`.
        sampler: another sampler of Optuna's, instead of `seed` and `first`.
        signs: 1 for every objective that is maximised, -1 for every other, instead of `front`.

    Raises:
        LpzError: the storage cannot be opened.
    """
    is_file = isinstance(storage, Path) or (storage is not None and "://" not in storage)
    try:
        url = _url_of(Path(storage)) if storage is not None and is_file else cast("str | None", storage)
        return optuna.create_study(
            study_name=name,
            storage=url,
            sampler=ResumableSampler(seed, first) if sampler is None else sampler,
            directions=["maximize" if sign > 0 else "minimize" for sign in signs or ([1, -1] if front else [1])],
            load_if_exists=True,
        )
    except LpzError:
        raise
    except Exception as error:  # SQLAlchemy's and Optuna's own kinds
        raise LpzError(f"cannot open the study in '{storage}': {one_line(error)}; choose another place") from error


def _url_of(file: Path) -> str:
    """The URL by which Optuna opens an SQLite file, whatever characters its path has."""
    url = sqlalchemy.URL.create("sqlite", database=str(file)).render_as_string()
    if sqlalchemy.make_url(url).database != str(file):  # SQLAlchemy before 2.1 has no way to write a question mark
        raise LpzError(f"this version of SQLAlchemy cannot open '{file}'; choose a place without '?', or update it")
    return url.replace("{", "{{").replace("}", "}}")  # Optuna fills in templates


def corners(space: SearchSpace, budget: Budget) -> list[dict[str, Value]]:
    """First proposals for a study: the smallest architecture of a space if the budget has a maximum, the largest if it
    has a minimum, so that a budget that can be met is met by the first trials."""
    return ends(space, budget.max_params is not None, budget.min_params is not None)


def ends(space: SearchSpace, smallest: bool, largest: bool) -> list[dict[str, Value]]:
    """The smallest architecture of a space, and the largest, as parameters."""
    return [extreme(space, side) for wanted, side in ((smallest, False), (largest, True)) if wanted]


def extreme(space: SearchSpace, largest: bool) -> dict[str, Value]:
    """The largest, or smallest, value of every parameter of a space; for words, the first."""

    def end(values: Sequence[Value]) -> Value:
        numbers = [value for value in values if isinstance(value, int | float)]
        if len(numbers) < len(values):
            return offered(values)[0]
        return max(numbers) if largest else min(numbers)

    return {name: end(values) for name, values in space.parameters().items()}


def forget_interrupted(study: optuna.Study) -> None:
    """Mark the trials of a process that was killed as failed; only where no other process works on the study."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def as_tried(trial: FrozenTrial, budget: Budget) -> Tried | None:
    """A finished trial as its outcome; None if its architecture is outside the budget, or cannot be built."""
    params = trial.user_attrs.get("params")
    if params is None or not budget.allows(params):
        return None
    value = trial.values[0] if trial.state == TrialState.COMPLETE else None
    return Tried(trial.user_attrs["architecture"], params, value, trial.user_attrs.get("reason", ""))
