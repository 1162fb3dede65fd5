"""The comparison of schemes: each goes on where it stopped, and the table says what they reached."""

from __future__ import annotations

import json
import random

import pytest

from lpzero_hf.searching.archive import Candidate
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.strategies import Exhaustive
from studies.cost import search as cost
from studies.search.scheme_comparison import Schemes, best, course, ground
from studies.search.schemes import SCHEMES, Ageing, Islands, Restarts, Tournament

SPACE = ExpressionSpace((1, 1))


def fed(name: str, generations: int, rng: random.Random) -> object:
    scheme = SCHEMES[name](SPACE, rng)
    for _ in range(generations):
        proposed = dict.fromkeys(scheme.propose() for _ in range(60))
        scheme.learn([Candidate(e, len(str(e)) % 17 / 17, 1) for e in proposed])
    return scheme


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_goes_on_from_its_state(name: str) -> None:
    rng, other = random.Random(1), random.Random(2)
    scheme = fed(name, 12, rng)
    again = SCHEMES[name](SPACE, other)
    again.restore(json.loads(json.dumps(scheme.state())))  # type: ignore[attr-defined]
    other.setstate(rng.getstate())
    assert [again.propose() for _ in range(30)] == [scheme.propose() for _ in range(30)]  # type: ignore[attr-defined]


def test_the_oldest_or_the_least_fit_leave_and_a_stale_population_begins_anew() -> None:
    rng = random.Random(1)
    made = [Candidate(SPACE.draw(rng), 1 - i / 10, 1) for i in range(10)]
    for scheme, left in ((Tournament(SPACE, rng, 4), made[:4]), (Ageing(SPACE, rng, 4), made[-4:])):
        scheme.learn(made)
        assert scheme.population == left
    restarts = Restarts(SPACE, rng, 4, patience=2)
    for number in range(3):
        assert (restarts.population == []) == (number == 0)
        restarts.learn(made)
    assert restarts.population == []
    islands = Islands(SPACE, rng, islands=2, size=3, every=1)
    first, second = islands.propose(), islands.propose()
    islands.learn([Candidate(first, 0.9, 1), Candidate(second, 0.8, 1)])
    assert sorted(len(island.population) for island in islands.islands) == [2, 2]  # the fittest of each has moved


@pytest.mark.integration
def test_every_scheme_is_shown_and_none_is_above_the_optimum() -> None:
    study = Schemes({"tiny-gpt2": (1, 1000)}, 6, 2, ["paper", "local search", "islands"])
    told: list[str] = []
    data = json.loads(json.dumps(study.make(lambda what, done, total: told.append(what))))
    assert {what.partition(", ")[2] for what in told} == {"tables", "searches"}
    for courses in data["courses"]["tiny-gpt2"].values():
        assert [steps[-1][0] for steps in courses] == [1000, 1000]
        assert all(steps[i][2] < steps[i + 1][2] for steps in courses for i in range(len(steps) - 2))
    space, fitness = ground("tiny-gpt2", 1, 6)
    optimum = course(Exhaustive(space, fitness))[-1][2]
    assert data["optimum"] == {"tiny-gpt2": optimum}
    text = study.show({"schemes": data})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "1,000 eval" in line]
    assert {row[0] for row in rows} == {"paper", "local search", "islands"}
    assert max(float(row[2]) for row in rows) <= round(optimum, 4)
    assert f"{optimum:.4f}" in text


def test_the_largest_fitness_within_a_limit_is_known_only_of_a_search_that_reached_it() -> None:
    steps = [[200, 1.0, 0.5], [400, 2.0, 0.7], [1000, 5.0, 0.7]]
    assert [best(steps, 0, limit) for limit in (100, 200, 999, 1000, 2000)] == [None, 0.5, 0.7, 0.7, None]
    assert best(steps, 1, 1.5) == 0.5


@pytest.mark.integration
def test_candidates_a_second_are_counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["search", "tiny-gpt2", "--store", "--limit", "3", "--sample", "1", "--candidates", "12"]
    monkeypatch.setattr("sys.argv", asked)
    assert cost.main() == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 4
    assert all(float(row.split("|")[2].replace(",", "")) > 0 for row in rows)
