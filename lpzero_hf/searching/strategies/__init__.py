"""Search strategies: the interface `Strategy`, and one file for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lpzero_hf.expressions.expression import Expression
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import FitnessEvaluator
from lpzero_hf.searching.pruning import Pruner
from lpzero_hf.searching.strategies.base import Iteration as Iteration
from lpzero_hf.searching.strategies.base import Strategy as Strategy
from lpzero_hf.searching.strategies.evolution import Evolution as Evolution
from lpzero_hf.searching.strategies.exhaustive import Exhaustive as Exhaustive
from lpzero_hf.searching.strategies.generations import Generations as Generations
from lpzero_hf.searching.strategies.generations import Scheme as Scheme
from lpzero_hf.searching.strategies.local_search import LocalSearch as LocalSearch
from lpzero_hf.searching.strategies.random_search import RandomSearch as RandomSearch


def create(
    config: SearchConfig, space: ExpressionSpace, fitness: FitnessEvaluator, seed: int,
    starts: Sequence[Expression] = (),
) -> Strategy:  # fmt: skip
    """The strategy of a configuration, before its first iteration.

    Args:
        config: names the strategy and its parameters.
        space: to search.
        fitness: evaluates an expression.
        seed: of every random choice.
        starts: members of the space to begin with, where the strategy is an evolution in generations.

    Raises:
        UsageError: the space is too large for the strategy.
    """
    if config.strategy == Exhaustive.name:
        return Exhaustive(space, fitness, seed)
    pruner = Pruner(space.operations, fitness.tables) if config.prune else None
    batch = config.together
    if config.strategy == RandomSearch.name:
        return RandomSearch(
            space, fitness, seed, pruner, iterations=config.population + config.children, batch=batch
        )  # fmt: skip
    if config.in_generations:
        return Generations(
            space, fitness, seed, pruner, scheme=partial(LocalSearch, starts=starts), evaluations=config.children,
            batch=batch,
        )  # fmt: skip
    return Evolution(
        space, fitness, seed, pruner,
        iterations=config.children, population=config.population, elite=config.elite,
        crossover=config.crossover, mutation=config.mutation, batch=batch,
    )  # fmt: skip
