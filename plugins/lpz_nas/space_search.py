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
from lpz_nas.outcome import Tried, best, none_within, without_score
from lpzero_hf.errors import LpzError, one_line

PATIENCE = 50  # proposals without one in the budget, after which a search gives up
WITHOUT = 10  # architectures without a single score, after which it does
Progress = Callable[[int, int, float | None], None]


class StudyLog:
    """What has become of a study so far.

    Args:
        evaluator: scores, and knows the space.
        budget: what an architecture may cost.
        trials: how many different architectures are to be scored.
    """

    def __init__(self, evaluator: ProxyEvaluator, budget: Budget, trials: int) -> None:
        self.evaluator, self.budget, self.trials = evaluator, budget, trials
        self.made: dict[str, Tried] = {}
        self.sizes: list[int] = []  # of all proposals

    @property
    def scored(self) -> list[Tried]:
        """The architectures with a score."""
        return [tried for tried in self.made.values() if tried.score is not None]

    @property
    def left(self) -> int:
        """How many proposals there may still be; none once enough are scored."""
        return 0 if len(self.scored) >= self.trials else max(0, 10 * self.trials + PATIENCE - len(self.sizes))

    def add(self, trial: FrozenTrial) -> None:
        """Take note of a finished trial.

        Raises:
            LpzError: so many have failed in one way that the next would.
        """
        self.sizes.append(trial.user_attrs["params"])
        tried = as_tried(trial, self.budget)
        if tried is not None:
            self.made.setdefault(tried.architecture, tried)
        if not self.made and len(self.sizes) >= PATIENCE:
            raise none_within(self.budget, self.sizes)
        if not self.scored and len(self.made) >= WITHOUT:
            raise without_score(self.evaluator.proxy.name, self.made.values())


def search_space(
    evaluator: ProxyEvaluator,
    budget: Budget,
    *,
    trials: int,
    storage: Path | None = None,
    front: bool = False,
    progress: Progress | None = None,
) -> tuple[list[Tried], int]:
    """Search the evaluator's space; goes on where a study in `storage` stopped.

    Args:
        evaluator: scores, and knows the space; its setting's seed drives the proposals.
        budget: what an architecture may cost.
        trials: different architectures to score.
        storage: a file for SQLite; None keeps the study in memory.
        front: search for the front of score against parameters, instead of the best score.
        progress: called with (architectures scored, architectures to score, best score so far).

    Returns:
        What was tried within the budget, each architecture once, and the number of proposals.

    Raises:
        LpzError: nothing within the budget or nothing with a score turned up, or the storage failed.
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
    with _quiet():
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
            raise LpzError(f"the study in '{storage}' failed: {one_line(error)}; make room, then resume") from error
    if not log.made:
        raise none_within(budget, log.sizes)
    if not log.scored:
        raise without_score(evaluator.proxy.name, log.made.values())
    return list(log.made.values()), len(log.sizes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna without its log of every trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
