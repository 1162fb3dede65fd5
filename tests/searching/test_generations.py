"""Evolution in generations, its presets and its time limit."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from lpzero_hf import search
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.expressions.expression import BUILT_IN, Expression, parse
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import gather
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.archive import Candidate
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.correlation import RankCorrelation
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.fitness import FitnessEvaluator, SearchPart
from lpzero_hf.searching.pruning import Pruner
from lpzero_hf.searching.run_folder import read_history
from lpzero_hf.searching.strategies import Generations, LocalSearch, create
from lpzero_hf.searching.strategies.base import Iteration
from tests.expressions.test_store import reduced
from tests.support.raw_expressions import MODELS, raw

DATA = Path(__file__).parents[1] / "data" / "histories"
SPACE = ExpressionSpace((1, 1))
FEW = {name: BUILT_IN[name] for name in ("abs", "l1_norm", "relu", "no_op", "disconnect")}
SMALL = ExpressionSpace((1, 1), ("sum",), ("sum",), ("W", "G", "A"), FEW)
Make = Callable[..., Generations]


@cache
def tables() -> Stack:
    """Those of four models."""
    space = SPACE
    return Stack(
        [gather(space.wanted, reduced(raw(family), space.wanted.reductions)) for family in MODELS], space.wanted
    )


class Made:
    """A source of four models' scores that counts how it is asked, and shows no tables."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.n, self.device, self.tables, self.checks = 4, torch.device("cpu"), None, False

    def part(self, architectures: Any) -> Made:
        raise NotImplementedError

    def prepare(self, expressions: Any) -> None:
        assert not expressions  # a generation is asked for at once

    def score(self, expression: Expression) -> torch.Tensor:
        return self.scores([expression])[0]

    def scores(self, expressions: Any, *, check: bool = True) -> torch.Tensor:
        self.asked.append(len(expressions))
        return tables().scores(expressions).nan_to_num(nan=0.0)  # mamba has no S


@pytest.fixture(scope="module")
def source() -> Made:
    return Made()


@pytest.fixture
def make(source: Made) -> Make:
    def start(seed: int = 1, space: ExpressionSpace = SPACE, evaluations: int = 110, batch: int = 25) -> Generations:
        source.asked.clear()
        fitness = FitnessEvaluator([SearchPart(source, RankCorrelation([1.0, 3.0, 2.0, 4.0]))])
        pruner = Pruner(space.operations)
        return Generations(space, fitness, seed, pruner, scheme=LocalSearch, evaluations=evaluations, batch=batch)

    return start


def run(strategy: Generations, until: int | None = None) -> list[Iteration]:
    made = []
    while strategy.done < (strategy.total if until is None else until):
        made.append(strategy.iterate())
    return made


# Generations -----------------------------------------------------------------------------------------------


def test_a_generation_is_proposed_and_scored_together(make: Make, source: Made) -> None:
    made = run(strategy := make())
    assert source.asked == [25, 25, 25, 25, 10]
    assert [line.evaluated for line in made] == source.asked
    assert strategy.evaluated == 110
    assert [line.number for line in made] == list(range(5))
    assert made[-1].best == max(line.fitness or 0 for line in made) == strategy.archive.best


def test_one_seed_makes_one_search_and_another_seed_another(make: Make) -> None:
    first, again, other = make(1), make(1), make(2)
    made = run(first)
    assert made == run(again)
    assert first.state() == again.state()
    assert made != run(other)


@pytest.mark.parametrize("moment", [0, 1, 3, 5])
def test_a_search_goes_on_in_another_process_as_if_nothing_had_happened(make: Make, moment: int) -> None:
    expected = run(whole := make())
    run(before := make(), moment)
    after = make(7)
    after.restore(json.loads(json.dumps(before.state())))
    assert run(after) == expected[moment:]
    assert after.state() == whole.state()


def test_no_expression_is_scored_twice_and_the_last_generation_is_of_what_is_left(make: Make) -> None:
    strategy = make(space=SMALL, evaluations=SMALL.size, batch=50)
    seen: list[str] = []
    many = strategy.fitness.many
    strategy.fitness.many = lambda some, bar: seen.extend(map(str, some)) or many(some, bar)  # type: ignore[method-assign,func-returns-value]
    made = run(strategy)
    assert len(seen) == len(set(seen)) == strategy.evaluated < SMALL.size
    assert made[-1].rejected == "nothing new"
    everything = [e for e in SMALL if not Pruner(FEW).reject(e)]
    best = max(m.fitness or 0 for m in many(everything))
    assert strategy.archive.best == pytest.approx(best)


def test_a_walker_moves_to_the_fittest_of_its_candidates_and_to_nothing_less_fit() -> None:
    scheme = LocalSearch(SMALL, random.Random(1), walkers=1)
    first, second = scheme.propose(), scheme.propose()
    scheme.learn([Candidate(first, 0.5, 1), Candidate(second, 0.4, 1)])
    assert scheme.at[0] is not None
    assert scheme.at[0].expression == first
    neighbours = SMALL.neighbours(first)
    asked = [scheme.propose() for _ in neighbours]
    assert sorted(map(str, asked)) == sorted(map(str, neighbours))
    scheme.learn([Candidate(asked[0], 0.5, 1), Candidate(asked[1], 0.6, 1), Candidate(asked[2], 0.55, 1)])
    assert scheme.at[0].expression == asked[1]


def test_a_fixed_point_is_kept_and_left() -> None:
    scheme = LocalSearch(SMALL, random.Random(1), walkers=1, fresh=0.0, kicks=1)
    top = scheme.propose()
    scheme.learn([Candidate(top, 0.9, 1)])
    for _ in SMALL.neighbours(top):
        scheme.learn([Candidate(scheme.propose(), 0.1, 1)])
    start = scheme.propose()
    assert [member.expression for member in scheme.fixed] == [top]
    assert start in SMALL.neighbours(top)
    scheme.learn([Candidate(start, 0.2, 1)])
    assert scheme.at[0] is not None
    assert scheme.at[0].expression == start


def test_neighbours_are_all_that_one_mutation_can_make() -> None:
    rng = random.Random(3)
    for _ in range(5):
        parent = SMALL.draw(rng)
        neighbours = SMALL.neighbours(parent)
        mutated = {SMALL.mutate(parent, rng) for _ in range(400)} - {parent}
        assert set(neighbours) >= mutated
        assert len(mutated) == len(neighbours) == len(set(neighbours))


# Scores of many --------------------------------------------------------------------------------------------


CONSTANT, INFINITE = parse("sum(sum(sum(abs(W), abs(H))))"), parse("sum(sum(sum(abs(H), abs(A))))")


class Odd(Made):
    """One expression scores all models alike, and one scores one of them with infinity."""

    def scores(self, expressions: Any, *, check: bool = True) -> torch.Tensor:
        made = super().scores(expressions)
        for row, expression in zip(made, expressions, strict=True):
            if expression == CONSTANT:
                row[:] = 1.0
            if expression == INFINITE:
                row[1] = torch.inf
        return made


def test_many_expressions_have_the_fitness_of_each() -> None:
    rng, source = random.Random(4), Odd()
    parts = [SearchPart(source, RankCorrelation(truth)) for truth in ([1.0, 3.0, 2.0, 4.0], [2.0, 1.0, 4.0, 3.0])]
    fitness = FitnessEvaluator(parts, "worst")
    expressions = [SPACE.draw(rng) for _ in range(30)] + [CONSTANT, INFINITE]
    made = fitness.many(expressions)
    for expression, one in zip(expressions, made, strict=True):
        alone = fitness(expression)
        assert (one.fitness is None, one.rejected) == (alone.fitness is None, alone.rejected)
        assert one.fitness == pytest.approx(alone.fitness)
        assert one.orientation == alone.orientation
        assert one.correlations == pytest.approx(alone.correlations)
    assert {one.rejected for one in made} == {"", "invalid", "all equal"}


# Presets ---------------------------------------------------------------------------------------------------


class Rounding(Made):
    """Rounding decides every third of the scores, which it tells where it is asked to check."""

    def __init__(self) -> None:
        super().__init__()
        self.checks, self.checked = True, 0

    def scores(self, expressions: Any, *, check: bool = True) -> torch.Tensor:
        made = super().scores(expressions)
        if check:
            self.checked += len(expressions)
            made[[self.decided(expression) for expression in expressions]] = torch.nan
        return made

    @staticmethod
    def decided(expression: Expression) -> bool:
        return sum(map(ord, str(expression))) % 3 == 0


def test_rounding_is_looked_for_only_where_the_fitness_matters(make: Make) -> None:
    strategy = make(evaluations=500)
    source = Rounding()
    strategy.fitness = FitnessEvaluator([SearchPart(source, RankCorrelation([1.0, 3.0, 2.0, 4.0]))])
    rng = random.Random(5)
    expressions = list(dict.fromkeys(SPACE.draw(rng) for _ in range(60)))
    free, barred = strategy.fitness.many(expressions), strategy.fitness.many(expressions, bar=0.7)
    for expression, one, other in zip(expressions, free, barred, strict=True):
        assert not source.decided(expression) or one.fitness is None
        assert other.fitness is None or other.fitness < 0.7 or not source.decided(expression)
    assert any(source.decided(e) and one.fitness is not None for e, one in zip(expressions, barred, strict=True))
    source.checked = 0
    run(strategy)
    assert 0 < source.checked < strategy.evaluated
    assert not source.decided(strategy.archive.fittest()[0].expression)


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(
            "tables", {"unary": (2, 1), "train": 12, "limit": 16, "iterations": 120, "population": 20, "early": 5,
                       "setting": Setting(2, 8)}, marks=pytest.mark.slow),
        ("passes", {"unary": (3, 1), "train": 4, "limit": 4, "iterations": 25, "population": 15,
                    "setting": Setting(1, 8)}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_the_paper_preset_makes_the_history_that_it_made_before_there_were_presets(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    search("tiny-gpt2", strategy="evolution", preset="paper", out=tmp_path, **options)
    (history,) = read_history(tmp_path)
    assert history == recorded(name)


def test_a_configuration_of_an_older_version_is_of_the_paper_preset() -> None:
    data = SearchConfig(("x",)).to_json()
    assert data["iterations"] == 105_840 // 10
    assert SearchConfig(("x",), unary=(2, 2)).children == 50_000
    assert SearchConfig(("x",), unary=2) == SearchConfig(("x",), unary=(2, 2))  # type: ignore[arg-type]  # as `search` takes it
    assert SearchConfig(("x",), unary=(4, 4)).children == 5_000
    for name in ("preset", "batch"):
        del data[name]
    old = SearchConfig.from_json(data | {"iterations": 1000})
    assert (old.preset, old.together, old.children) == ("paper", 1, 1000)
    assert isinstance(create(old, SPACE, FitnessEvaluator([]), 1), Generations) is False
    new = SearchConfig(("x",), iterations=300, batch=40)
    made = create(new, SPACE, FitnessEvaluator([]), 1)
    assert (type(made), made.total, made.batch) == (Generations, 8, 40)
    assert SearchConfig(("x",), preset="paper").children == SearchConfig(("x",), "random").children == 1000


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"preset": "none"}, {"minutes": 0}, {"minutes": float("nan")}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        search("tiny-gpt2", **wrong)


# A time limit ----------------------------------------------------------------------------------------------


BRIEF = {"train": 8, "limit": 10, "setting": Setting(2, 8), "iterations": 200, "batch": 20}


@pytest.mark.integration
@pytest.mark.parametrize("more", [{}, {"strategy": "exhaustive"}, {"preset": "paper", "population": 10, "batch": None}])
def test_a_time_limit_is_an_end_from_which_a_search_goes_on(tmp_path: Path, more: dict[str, Any]) -> None:
    options = BRIEF | more
    whole = search("tiny-gpt2", out=tmp_path / "whole", **options)
    (ended,) = search("tiny-gpt2", out=tmp_path / "run", minutes=1e-9, **options).splits
    assert not ended.complete
    (line,) = read_history(tmp_path / "run")[0]
    assert line["iteration"] == 0
    (again,) = search("tiny-gpt2", out=tmp_path / "run", minutes=1e-9, resume=True, **options).splits
    assert again == ended  # its time is over
    gone_on = search("tiny-gpt2", out=tmp_path / "run", resume=True, **options)
    assert gone_on.splits[0].complete
    assert gone_on.splits[0].winner == whole.splits[0].winner
    assert read_history(tmp_path / "run") == read_history(tmp_path / "whole")


@pytest.mark.parametrize("failure", [torch.AcceleratorError, torch.OutOfMemoryError])
def test_a_search_whose_device_fails_says_so_and_goes_on(
    failure: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BRIEF | {"iterations": 60, "batch": 20}
    whole = search("tiny-gpt2", out=tmp_path / "whole", **options)
    scores, left = Stack.scores, [2]

    def lost(self: Stack, expressions: Any, **settings: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise failure("CUDA error: the card has fallen off the bus")
        return scores(self, expressions, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Stack, "scores", lost)
        with pytest.raises(LpzError, match="resume=True") as told:
            search("tiny-gpt2", out=tmp_path / "run", **options)
    assert "off the bus" in str(told.value)
    gone_on = search("tiny-gpt2", out=tmp_path / "run", resume=True, **options)
    assert gone_on.splits[0].winner == whole.splits[0].winner
    assert read_history(tmp_path / "run") == read_history(tmp_path / "whole")


# Tables ----------------------------------------------------------------------------------------------------


def test_many_scores_from_tables_are_the_scores_of_each() -> None:
    stack = tables()
    rng = random.Random(5)
    expressions = [SPACE.draw(rng) for _ in range(300)]
    both = stack.scores(expressions)
    each = torch.stack([stack.score(expression) for expression in expressions])
    torch.testing.assert_close(both, each, rtol=1e-12, atol=1e-12, equal_nan=True)
    some = stack.part([3, 1])
    torch.testing.assert_close(some.scores(expressions), each[:, [3, 1]], rtol=1e-12, atol=1e-12, equal_nan=True)
