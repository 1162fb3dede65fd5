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

AHEAD = 16  # candidates that are looked at with the next refused one; then twice as many


def choose(
    kept: Sequence[Candidate], fitness: FitnessEvaluator, config: SearchConfig,
    refused: Callable[[list[Expression]], set[Expression]],
) -> tuple[list[Candidate], list[Candidate]]:  # fmt: skip
    """The winner and the ensemble, on the architectures searched on.

    Args:
        kept: the candidates, the fittest first.
        fitness: of the search.
        config: of the search.
        refused: the expressions, among some, that a scorer refuses. It passes over every model, so where one of the
            chosen is refused, more and more of the fittest are asked about together.

    Raises:
        LpzError: the scores of all are refused.
    """
    expressions = [candidate.expression for candidate in kept]
    signs = torch.tensor([candidate.orientation for candidate in kept], device=fitness.parts[0].source.device)[:, None]
    scores = [_scores(part.source, expressions) * signs for part in fitness.parts]
    benchmarks = [part.correlation for part in fitness.parts[:: fitness.settings]]
    known: dict[Expression, bool] = {}
    ahead = 0

    def bad(rows: list[int]) -> set[int]:
        nonlocal ahead
        asked = [expressions[row] for row in dict.fromkeys(rows) if expressions[row] not in known]
        if asked:
            others = [one for one in expressions if one not in known and one not in asked]
            asked += others[:ahead]
            ahead = 2 * ahead or AHEAD
            found = refused(asked)
            known.update((one, one in found) for one in asked)
        return {row for row in rows if known[expressions[row]]}

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
