"""Search strategies: repeatable, carried over from one process to another, and as good as they should be."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from statistics import mean
from typing import Any

import pytest
import torch

from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.benchmarks.grade import spaced
from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.canonical import canonical
from lpzero_hf.expressions.expression import BUILT_IN, Expression, parse
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import Wanted
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring.cache import cache_folder
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.archive import Archive, Candidate, candidate_from
from lpzero_hf.searching.correlation import RankCorrelation
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import FitnessEvaluator, SearchPart
from lpzero_hf.searching.pruning import Pruner
from lpzero_hf.searching.strategies import Evolution, Exhaustive, Iteration, RandomSearch, Strategy
from lpzero_hf.searching.table_cache import make_tables

FEW = {name: BUILT_IN[name] for name in ("abs", "l1_norm", "to_mean_scalar", "relu", "no_op", "disconnect")}
WHOLE = ExpressionSpace()
SMALL = ExpressionSpace((1, 1), ("sum",), ("sum",), ("W", "S"), FEW)
Ground = Callable[[ExpressionSpace], tuple[Stack, list[float]]]
Make = Callable[..., Strategy]


@pytest.fixture(scope="module")
def ground() -> Ground:
    """Tables of twelve trained architectures for a space, and how good they are."""
    plugins = load_plugins()
    benchmark = load_benchmark("tiny-gpt2", plugins)
    entries = spaced(benchmark.trained(), 12)
    configs = {entry.key: benchmark.space.config(entry.architecture) for entry in entries}
    kept: dict[str, Stack] = {}

    def tables(space: ExpressionSpace) -> tuple[Stack, list[float]]:
        # a space of some operations has tables of its own, that are looked up by all operations
        wanted = Wanted(space.wanted.chains, space.wanted.pairs, installed_operations(plugins))
        key = repr((wanted.chains, wanted.pairs))
        if key not in kept:
            folder = cache_folder() / "tables"
            kept[key] = Stack(make_tables(configs, wanted, Setting(2, 8), folder, plugins=plugins), wanted)
        return kept[key], [benchmark.target(entry) for entry in entries]

    return tables


@pytest.fixture(scope="module")
def make(ground: Ground) -> Make:
    """Start a search on the twelve architectures."""

    def start(
        kind: type[Strategy], seed: int = 42, *, space: ExpressionSpace = WHOLE, prune: bool = True,
        early: int = 5, **options: Any,
    ) -> Strategy:  # fmt: skip
        stack, truth = ground(space)
        judge = FitnessEvaluator([SearchPart(stack, RankCorrelation(truth))], early=early)
        if kind is Exhaustive:
            return Exhaustive(space, judge, seed, **options)
        pruner = Pruner(space.operations, [stack]) if prune else None
        usual = {"iterations": 60, "population": 15} if kind is Evolution else {"iterations": 75}
        return kind(space, judge, seed, pruner, **usual | options)

    return start


def run(strategy: Strategy, until: int | None = None) -> list[Iteration]:
    """Make iterations up to a number of them."""
    made = []
    while strategy.done < (strategy.total if until is None else until):
        made.append(strategy.iterate())
    return made


# Repeatable ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Evolution, RandomSearch])
@pytest.mark.parametrize("options", [{}, {"prune": False}, {"batch": 5}, {"early": 0}])
def test_one_seed_makes_one_search_and_another_seed_another(
    make: Make, kind: type[Strategy], options: dict[str, Any]
) -> None:
    first, again, other = (make(kind, seed, **options) for seed in (1, 1, 2))
    made = run(first)
    assert made == run(again)
    assert made != run(other)
    assert first.archive.fittest() == again.archive.fittest()
    assert first.state() == again.state()
    assert [iteration.number for iteration in made] == list(range(75))
    assert len(made) == first.total == first.evaluated


@pytest.mark.parametrize("moment", [0, 1, 14, 15, 17, 40, 74, 75])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Evolution, {}), (Evolution, {"batch": 5}), (Evolution, {"prune": False}),
        (Evolution, {"batch": 5, "prune": False}), (RandomSearch, {}), (RandomSearch, {"batch": 7}),
        (RandomSearch, {"prune": False}),
    ],
)  # fmt: skip
def test_a_search_goes_on_in_another_process_as_if_nothing_had_happened(
    make: Make, kind: type[Strategy], options: dict[str, Any], moment: int
) -> None:
    whole = make(kind, **options)
    expected = run(whole)
    before = make(kind, **options)
    assert run(before, moment) == expected[:moment]
    state = json.loads(json.dumps(before.state()))
    after = make(kind, seed=7, **options)  # what it was started with does not count
    after.restore(state)
    assert json.loads(json.dumps(after.state())) == state
    assert run(after) == expected[moment:]
    assert after.state() == whole.state()
    assert after.archive.fittest() == whole.archive.fittest()
    assert after.archive.pareto() == whole.archive.pareto()


@pytest.mark.parametrize("seed", [42, 46])
@pytest.mark.parametrize("kind", [Evolution, RandomSearch])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_search_that_stops_at_every_iteration_is_an_uninterrupted_one(
    ground: Ground, kind: type[Strategy], seed: int, batch: int
) -> None:
    """In a space so small that nothing new is left in the end, and where two branches have equal tables."""
    given, truth = ground(SMALL)
    stack = given.part(range(given.n))
    stack.totals = {name: totals.clone() for name, totals in given.totals.items()}
    stack.totals["W"][..., stack.index["W"]["abs",]] = stack.totals["W"][..., stack.index["W"]["relu",]]

    def make(kind: type[Strategy], seed: int) -> Strategy:
        judge, pruner = FitnessEvaluator([SearchPart(stack, RankCorrelation(truth))]), Pruner(FEW, [stack])
        usual = {"iterations": 60, "population": 15} if kind is Evolution else {"iterations": 75}
        return kind(SMALL, judge, seed, pruner, batch=batch, **usual)

    whole = make(kind, seed)
    expected = run(whole)
    assert whole.pruner is not None
    assert whole.pruner.counts["equal tables"] > 3
    assert expected[-1].rejected == "nothing new"
    state = make(kind, seed).state()
    for iteration in expected:
        after = make(kind, 7)
        after.restore(json.loads(json.dumps(state)))
        assert after.iterate() == iteration
        state = after.state()
        assert after.pruner is not None
    assert dict(after.pruner.counts) == dict(whole.pruner.counts)
    assert state == whole.state()
    assert after.archive.fittest() == whole.archive.fittest()


@pytest.mark.parametrize("kind", [Evolution, RandomSearch])
@pytest.mark.parametrize("space", ["small", "whole"])
def test_nothing_known_or_redundant_is_evaluated(make: Make, ground: Ground, kind: type[Strategy], space: str) -> None:
    strategy = make(kind, space=SMALL if space == "small" else WHOLE, early=0)
    made = run(strategy)
    fresh = Pruner(strategy.space.operations, strategy.fitness.tables)
    evaluated = [iteration for iteration in made if iteration.evaluated]
    assert [fresh.reject(parse(iteration.what)) for iteration in evaluated] == [""] * len(evaluated)
    assert strategy.evaluated == len(evaluated)
    idle = [iteration for iteration in made if not iteration.evaluated]
    assert bool(idle) == (space == "small")
    assert all((one.what, one.fitness, one.rejected) == ("", None, "nothing new") for one in idle)
    if idle:  # so it has seen the whole space
        assert all(fresh.reject(member) for member in strategy.space)
    assert len(made) == strategy.total


@pytest.mark.parametrize("moment", [0, 1, 30, 52, 53])
def test_an_enumeration_goes_on_where_it_stopped(make: Make, moment: int) -> None:
    space = ExpressionSpace((1, 1), ("sum",), ("sum",))
    whole = make(Exhaustive, space=space)
    expected = run(whole)
    assert len(expected) == 6 + 15 * 3 + 2  # alone; pairs; matrix products, of W with G and A with J alone
    before = make(Exhaustive, space=space)
    assert run(before, moment) == expected[:moment]
    after = make(Exhaustive, space=space)
    after.restore(json.loads(json.dumps(before.state())))
    assert run(after) == expected[moment:]
    assert after.state() == whole.state()


def test_what_the_pruner_has_counted_is_what_the_history_says(make: Make) -> None:
    strategy = make(Evolution)
    made = run(strategy)
    counted: dict[str, int] = {}
    for iteration in made:
        for reason, count in (iteration.pruned or {}).items():
            counted[reason] = counted.get(reason, 0) + count
    assert strategy.pruner is not None
    assert counted == dict(strategy.pruner.counts)
    assert counted["equivalent"] > 0
    missing = [iteration for iteration in made if iteration.fitness is None]
    assert len(missing) == sum(strategy.rejections.values())
    assert all(iteration.rejected in strategy.rejections for iteration in missing)
    best = 0.0
    for iteration in made:
        best = max(best, iteration.fitness or 0.0)
        assert iteration.best == best == pytest.approx(iteration.best)


# Good ------------------------------------------------------------------------------------------------------


def brute_force(space: ExpressionSpace, judge: FitnessEvaluator) -> dict[Expression, float]:
    """The fitness of every member, by canonical form."""
    found = {}
    for member in space:
        verdict = judge(member)
        if verdict.fitness is not None:
            found[canonical(member, space.operations)] = verdict.fitness
    return found


@pytest.mark.integration
def test_an_enumeration_with_a_small_archive_finds_the_whole_front(ground: Ground) -> None:
    space = ExpressionSpace((1, 1), ("sum",), ("sum", "mean"), operations=FEW)
    stack, truth = ground(space)
    judge = FitnessEvaluator([SearchPart(stack, RankCorrelation(truth))])
    strategy = Exhaustive(space, judge)
    strategy.archive.capacity = 1
    run(strategy)
    best: dict[int, float] = {}
    for expression, fitness in brute_force(space, judge).items():
        best[expression.complexity] = max(best.get(expression.complexity, 0.0), fitness)
    sizes = sorted(best)
    front = [size for i, size in enumerate(sizes) if best[size] > max((best[s] for s in sizes[:i]), default=-1.0)]
    found = strategy.archive.pareto()
    assert [candidate.expression.complexity for candidate in found] == front
    assert [candidate.fitness for candidate in found] == pytest.approx([best[size] for size in front], abs=1e-12)


ONE = ExpressionSpace((1, 1), ("sum",), ("sum", "mean"), operations=FEW)
FEWER = {name: operation for name, operation in FEW.items() if name != "relu"}
TWO = ExpressionSpace((2, 2), ("mean",), ("sum",), ("W", "G", "S"), FEWER)


@pytest.mark.parametrize(
    ("space", "combine"),
    [(ONE, "mean"), (ONE, "worst"), (TWO, "worst")],
    ids=["one operation-mean", "one operation-worst", "two operations-worst"],
)
@pytest.mark.integration
def test_an_enumeration_finds_what_brute_force_finds(ground: Ground, space: ExpressionSpace, combine: Any) -> None:
    stack, truth = ground(space)
    other = [value + random.Random(3).gauss(0, 0.05) * (i % 3) for i, value in enumerate(truth)]
    judge = FitnessEvaluator(
        [SearchPart(stack, RankCorrelation(truth)), SearchPart(stack.part(range(9)), RankCorrelation(other[:9]))],
        combine,
    )
    strategy = Exhaustive(space, judge)
    run(strategy)
    found = brute_force(space, judge)
    best = strategy.archive.fittest()[0]
    assert best.fitness == strategy.archive.best == pytest.approx(max(found.values()), abs=1e-12)
    assert judge(best.expression).fitness == pytest.approx(best.fitness, abs=1e-12)
    assert judge(best.expression).orientation == best.orientation
    by_size: dict[int, float] = {}
    for expression, fitness in found.items():
        by_size[expression.complexity] = max(by_size.get(expression.complexity, 0.0), fitness)
    front = strategy.archive.pareto()
    assert front[0].expression.complexity == 1
    for candidate in front:
        assert candidate.fitness == pytest.approx(by_size[candidate.expression.complexity], abs=1e-12)
        smaller = [fitness for size, fitness in by_size.items() if size < candidate.expression.complexity]
        assert candidate.fitness > max(smaller, default=-1.0)
    kept = {canonical(c.expression, space.operations) for c in strategy.archive.fittest()}
    assert all(expression in found for expression in kept)
    threshold = sorted({round(fitness, 9) for fitness in found.values()})[-10]
    ranks = {_ranks(judge, expression) for expression, fitness in found.items() if fitness > threshold}
    assert ranks <= {_ranks(judge, expression) for expression in kept}


def _ranks(judge: FitnessEvaluator, expression: Expression) -> bytes:
    order = [part.source.score(expression).float().argsort().argsort() for part in judge.parts]
    return bytes(min(torch.cat(order).tolist(), torch.cat([len(o) - 1 - o for o in order]).tolist()))


def test_a_space_of_three_operations_is_not_enumerated(make: Make, ground: Ground) -> None:
    stack, truth = ground(WHOLE)
    with pytest.raises(UsageError, match="too large"):
        Exhaustive(ExpressionSpace((3, 1)), FitnessEvaluator([SearchPart(stack, RankCorrelation(truth))]))


@pytest.mark.integration
def test_evolution_is_at_least_as_good_as_random_search(make: Make) -> None:
    found: dict[type[Strategy], list[float]] = {Evolution: [], RandomSearch: []}
    for kind, bests in found.items():
        for seed in range(6):
            options = {"iterations": 150, "population": 30} if kind is Evolution else {"iterations": 180}
            strategy = make(kind, seed, early=0, **options)
            run(strategy)
            assert strategy.evaluated == 180
            bests.append(strategy.archive.best)
    assert mean(found[Evolution]) >= mean(found[RandomSearch])


def test_children_of_an_evolution_come_from_the_fittest(make: Make) -> None:
    strategy = make(Evolution, iterations=120)
    assert isinstance(strategy, Evolution)
    filling = run(strategy, 15)
    drawn = {iteration.what for iteration in filling if iteration.fitness is not None}
    assert {str(member.expression) for member in strategy.population} == drawn
    for _ in range(120):
        before = list(strategy.population)
        made = strategy.iterate()
        assert strategy.population == sorted(strategy.population, key=lambda member: member.order)
        assert len(strategy.population) <= 15
        fresh = [member for member in strategy.population if member not in before]
        assert [str(member.expression) for member in fresh] in ([], [made.what])
        if len(before) == 15 and made.fitness is not None and made.fitness > before[-1].fitness:
            assert before[-1] not in strategy.population  # the least fit has made room
            assert fresh


def test_the_elite_are_the_parents(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = make(Evolution, elite=0.2, crossover=0.0, prune=False)
    assert isinstance(strategy, Evolution)
    run(strategy, 20)
    parents: list[Expression] = []
    mutate = ExpressionSpace.mutate

    def recorded(self: ExpressionSpace, expression: Expression, rng: random.Random) -> Expression:
        parents.append(expression)
        return mutate(self, expression, rng)

    monkeypatch.setattr(ExpressionSpace, "mutate", recorded)
    places = set()
    for _ in range(50):
        elite = [member.expression for member in strategy.population[:3]]
        parents.clear()
        strategy.iterate()
        assert parents
        places |= {elite.index(parent) for parent in parents}
    assert places == {0, 1, 2}


# Archive ---------------------------------------------------------------------------------------------------


def some_candidates(count: int, seed: int) -> list[Candidate]:
    rng = random.Random(seed)
    found = {ExpressionSpace((2, 2)).draw(rng) for _ in range(count)}
    # few values, so that many are equal
    return [Candidate(e, rng.randint(0, 12) / 12, rng.choice((1, -1))) for e in sorted(found)]


@pytest.mark.parametrize("capacity", [1, 7, 50, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_archive_keeps_the_fittest_whatever_their_order(capacity: int, seed: int) -> None:
    found = some_candidates(400, seed)
    ranked = sorted(found, key=lambda c: (-c.fitness, c.expression.complexity, str(c.expression)))
    for order in (found, found[::-1], ranked, ranked[::-1]):
        archive = Archive(capacity)
        for i in range(0, len(order), 9):
            archive.add(order[i : i + 9])
            archive.add(order[:1])  # what is there already
        assert archive.fittest() == ranked[:capacity]
        assert archive.best == ranked[0].fitness
        front = archive.pareto()
        assert front == [
            c for c in sorted(ranked, key=lambda c: (c.expression.complexity, c.order))
            if all(
                other.order >= c.order if other.expression.complexity == c.expression.complexity
                else other.fitness < c.fitness
                for other in found
                if other.expression.complexity <= c.expression.complexity and other is not c
            )
        ]  # fmt: skip
        again = Archive(capacity)
        again.restore(json.loads(json.dumps(archive.to_json())))
        assert (again.fittest(), again.pareto(), again.best) == (archive.fittest(), front, archive.best)


def test_an_archive_starts_empty() -> None:
    archive = Archive()
    assert (archive.fittest(), archive.pareto(), archive.best) == ([], [], 0.0)
    candidate = Candidate(parse("sum(sum(product(abs(W), abs(G))))"), 0.1 + 0.2, -1)
    assert candidate_from(json.loads(json.dumps(candidate.to_json()))) == candidate


# Several benchmarks ----------------------------------------------------------------------------------------


def test_several_benchmarks_share_one_orientation(ground: Ground) -> None:
    stack, truth = ground(WHOLE)
    subjects = [
        SearchPart(stack, RankCorrelation(truth)),
        SearchPart(stack.part([0, 2, 4, 6, 8]), RankCorrelation([5.0, 1.0, 3.0, 2.0, 4.0])),
    ]
    rng = random.Random(9)
    seen = set()
    for _ in range(200):
        expression = WHOLE.draw(rng)
        by_mean, by_worst = (FitnessEvaluator(subjects, combine)(expression) for combine in ("mean", "worst"))  # type: ignore[arg-type]
        if by_mean.fitness is None:
            assert by_worst.fitness is None
            continue
        one, other = by_mean.correlations
        assert by_worst.correlations == (one, other)
        single = FitnessEvaluator(subjects[:1])(expression)
        assert single.fitness == abs(one)
        assert single.correlations == (one,)
        assert single.orientation == (1 if one > 0 else -1) or one == 0
        assert by_mean.fitness == pytest.approx(abs(one + other) / 2)
        assert by_worst.fitness == pytest.approx(max(min(one, other), min(-one, -other)))
        if one + other:
            assert by_mean.orientation == by_worst.orientation == (1 if one + other > 0 else -1)
        seen.add((one > 0, other > 0))
    assert len(seen) == 4
