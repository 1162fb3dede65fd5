"""Searches a whole space with Optuna until enough architectures within the budget are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from lpz_nas.budget import Budget
from lpz_nas.evaluator import ProxyEvaluator
from lpz_nas.optuna_study import FINISHED, Objective, as_tried, corners, create_study, forget_interrupted
from lpz_nas.outcome import NothingScored, Tried, best, none_within, without_score
from lpzero_hf.errors import LpzError, one_line

MAX_OUTSIDE = 50  # proposals, all outside the budget, after which a search stops
MAX_UNSCORED = 10  # architectures, all without a score, after which a search stops
Progress = Callable[[int, int, float | None], None]


class StudyLog:
    """The finished trials of a study.

    Args:
        evaluator: scores, and has the space.
        budget: limits of the number of parameters.
        trials: number of different architectures to score.
    """

    def __init__(self, evaluator: ProxyEvaluator, budget: Budget, trials: int) -> None:
        self.evaluator, self.budget, self.trials = evaluator, budget, trials
        self.made: dict[str, Tried] = {}
        self.sizes: list[int] = []  # of all proposals that can be built
        self.refused: list[str] = []  # why others cannot

    @property
    def scored(self) -> list[Tried]:
        """The architectures with a score."""
        return [tried for tried in self.made.values() if tried.score is not None]

    @property
    def proposed(self) -> int:
        """The number of proposals."""
        return len(self.sizes) + len(self.refused)

    @property
    def left(self) -> int:
        """The number of proposals still allowed; 0 once enough are scored."""
        return 0 if len(self.scored) >= self.trials else max(0, 10 * self.trials + MAX_OUTSIDE - self.proposed)

    def add(self, trial: FrozenTrial) -> None:
        """Record a finished trial.

        Raises:
            LpzError: too many proposals are outside the budget or cannot be built, or too many architectures have no
                score.
        """
        if (params := trial.user_attrs.get("params")) is None:
            self.refused.append(trial.user_attrs.get("reason", ""))
        else:
            self.sizes.append(params)
        tried = as_tried(trial, self.budget)
        if tried is not None:
            self.made.setdefault(tried.architecture, tried)
        if not self.made and self.proposed >= MAX_OUTSIDE:
            raise self.nothing()
        if not self.scored and len(self.made) >= MAX_UNSCORED:
            raise without_score(self.evaluator.proxy.name, self.made.values())

    def nothing(self) -> LpzError:
        """The error where no proposal is within the budget."""
        if self.sizes:
            return none_within(self.budget, self.sizes)
        return NothingScored(f"none of {len(self.refused)} proposals can be built: {self.refused[-1]}")


def search_space(
    evaluator: ProxyEvaluator,
    budget: Budget,
    *,
    trials: int,
    storage: Path | None = None,
    front: bool = False,
    progress: Progress | None = None,
) -> tuple[list[Tried], int]:
    """Search the evaluator's space; continues a study in `storage`.

    Args:
        evaluator: scores, and has the space; its setting's seed determines the proposals.
        budget: limits of the number of parameters.
        trials: different architectures to score.
        storage: a file for SQLite; None keeps the study in memory.
        front: search for the front of score against parameters, instead of the best score.
        progress: called with (architectures scored, architectures to score, best score so far).

    Returns:
        The architectures within the budget that were tried, each once, and the number of proposals.

    Raises:
        LpzError: no architecture is within the budget, none has a score, or the storage failed.
    """
    log = StudyLog(evaluator, budget, trials)
    objective = Objective(evaluator, budget, front=front)

    def report() -> None:
        if progress is not None:
            progress(len(log.scored), trials, best(log.scored).score if log.scored else None)

    def follow(study: optuna.Study, trial: FrozenTrial) -> None:
        log.add(trial)
        report()
        if not log.left:
            study.stop()

    first = corners(objective.space, budget)
    with quiet():
        study = create_study(storage, seed=evaluator.setting.seed, front=front, first=first)
        try:
            forget_interrupted(study)
            for trial in study.get_trials(deepcopy=False, states=FINISHED):
                if log.left:
                    log.add(trial)
            report()
            if log.left:
                study.optimize(objective, n_trials=log.left, callbacks=[follow])
        except optuna.exceptions.StorageInternalError as error:
            raise LpzError(
                f"the study in '{storage}' failed: {one_line(error)}; free disk space, then resume"
            ) from error
    if not log.made:
        raise log.nothing()
    if not log.scored:
        raise without_score(evaluator.proxy.name, log.made.values())
    return list(log.made.values()), log.proposed


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its log of every trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
