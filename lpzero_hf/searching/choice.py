"""Chooses the winner and the ensemble of a search among the candidates that it has kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lpzero_hf.expressions.expression import Expression
from lpzero_hf.searching.archive import Candidate
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.fitness import FitnessEvaluator
from lpzero_hf.searching.score_source import ScoreSource
from lpzero_hf.searching.selection import select


def choose(
    kept: Sequence[Candidate], fitness: FitnessEvaluator, config: SearchConfig,
    refused: Callable[[list[Expression]], set[Expression]],
) -> tuple[list[Candidate], list[Candidate]]:  # fmt: skip
    """The winner and the ensemble, on the architectures searched on.

    Args:
        kept: the candidates, the fittest first.
        fitness: of the search.
        config: of the search.
        refused: the expressions, among some, that a scorer refuses. It passes over every model.

    Raises:
        LpzError: the scores of all are refused.
    """
    expressions = [candidate.expression for candidate in kept]
    signs = torch.tensor([candidate.orientation for candidate in kept], device=fitness.parts[0].source.device)[:, None]
    scores = [_scores(part.source, expressions) * signs for part in fitness.parts]
    benchmarks = [part.correlation for part in fitness.parts[:: fitness.settings]]

    def bad(rows: list[int]) -> set[int]:
        found = refused([expressions[row] for row in rows])
        return {row for row in rows if expressions[row] in found}

    winner, members = select(
        scores, [one.truth for one in benchmarks], config.fitness, config.combine, config.select, config.seed,
        [one.sizes for one in benchmarks], fitness.settings, fitness.over_settings, bad,
    )  # fmt: skip
    return [kept[winner]], [kept[member] for member in members]


def _scores(source: ScoreSource, expressions: Sequence[Expression]) -> Tensor:
    """[m, n]; from tables one by one, as the `paper` evolution and the enumeration evaluate them."""
    if source.tables is None:
        return source.scores(expressions, check=False)
    return torch.stack([source.score(expression) for expression in expressions])
