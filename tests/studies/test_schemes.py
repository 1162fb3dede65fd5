"""The comparison of schemes: each goes on where it stopped, and the table says what they reached."""

from __future__ import annotations

import json
import random

import pytest

from lpzero_hf.searching.archive import Candidate
from lpzero_hf.searching.expression_space import ExpressionSpace
from studies.search import compare_schemes
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
def test_the_table_holds_every_scheme_and_none_above_the_optimum(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--unary", "1", "--train", "6", "--evaluations", "1000", "--seeds", "2", "--optimum"]
    assert compare_schemes.main(["tiny-gpt2", *options, "--schemes", "paper", "local search", "islands"]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    reached = {row[0]: float(row[2]) for row in rows if "1,000 eval" in row[1] or row[0] == "optimum"}
    assert set(reached) == {"paper", "local search", "islands", "optimum"}
    assert max(reached.values()) == reached["optimum"]


@pytest.mark.integration
def test_candidates_a_second_are_counted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from studies.cost import search as cost

    monkeypatch.setattr("sys.argv", ["search", "tiny-gpt2", "--store", "--limit", "3", "--sample", "14"])
    monkeypatch.setattr(cost, "GENERATION", 6)
    monkeypatch.setattr(cost, "SHARED", 2)
    assert cost.main() == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 5
    assert all(float(row.split("|")[2].replace(",", "")) > 0 for row in rows)
