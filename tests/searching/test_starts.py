"""Searches that begin with the fittest expressions of an earlier one."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lpzero_hf import search
from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.canonical import canonical
from lpzero_hf.expressions.expression import parse
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.result import SearchResult
from lpzero_hf.searching.run_folder import read_history
from lpzero_hf.searching.starts import widened
from lpzero_hf.searching.strategies import LocalSearch

COMMON: dict[str, Any] = {"limit": 12, "train": 6, "setting": Setting(1, 8)}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchResult]:
    folder = tmp_path_factory.mktemp("narrow") / "run"
    return folder, search("tiny-lm", strategy="exhaustive", splits=2, out=folder, **COMMON)


@pytest.mark.parametrize("unary", [(1, 1), (1, 3), (3, 1), (4, 4)])
def test_a_widened_expression_is_a_member_that_computes_the_same(unary: tuple[int, int]) -> None:
    rng, small = random.Random(3), ExpressionSpace((1, 1))
    space = ExpressionSpace(unary)
    for _ in range(100):
        expression = small.draw(rng)
        wide = widened(expression, space)
        assert (len(wide.left.chain), len(wide.right.chain)) == unary
        assert (wide.left.statistic, wide.right.statistic) in space.pairs
        assert canonical(wide) == canonical(expression)


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("sum(sum(product(abs(sqrt(A)), abs(J))))", ExpressionSpace((1, 1))),
        ("mean(sum(product(abs(A), abs(J))))", ExpressionSpace((1, 1), reduces=("sum",), aggregates=("sum",))),
        ("sum(sum(product(abs(A), abs(J_ffn))))", ExpressionSpace((1, 1))),
    ],
)
def test_an_expression_without_a_place_in_the_space_is_refused(text: str, space: ExpressionSpace) -> None:
    with pytest.raises(UsageError, match="no place"):
        widened(parse(text), space)


def test_walkers_begin_at_the_starts_also_when_resumed() -> None:
    space, rng = ExpressionSpace((1, 1)), random.Random(1)
    starts = [space.draw(rng) for _ in range(5)]
    scheme = LocalSearch(space, random.Random(2), walkers=2, starts=starts)
    first = [scheme.propose() for _ in range(2)]
    again = LocalSearch(space, random.Random(2), walkers=2)
    again.restore(json.loads(json.dumps(scheme.state())))
    assert [*first, *(again.propose() for _ in range(3))] == starts
    assert again.propose() not in starts


@pytest.mark.integration
def test_each_split_begins_with_what_its_own_split_found(narrow: tuple[Path, SearchResult], tmp_path: Path) -> None:
    folder, before = narrow
    found = search(
        "tiny-lm", unary=(3, 2), splits=2, iterations=40, batch=20, start=folder, out=tmp_path / "run", **COMMON
    )
    histories = read_history(tmp_path / "run")
    for number, (split, earlier) in enumerate(zip(found.splits, before.splits, strict=True)):
        assert found.config.starts[number] == tuple(str(one.expression) for one in earlier.fittest)
        assert histories[number][0]["best"] >= earlier.fittest[0].fitness - 1e-6
        assert split.fittest[0].fitness >= earlier.fittest[0].fitness - 1e-6
    again = SearchResult.from_json(json.loads(json.dumps(found.to_json())))
    assert again.config == found.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 7}, "holds out"),
        ({"train": 4}, "holds out"),
        ({"splits": 3}, "split"),
        ({"preset": "paper"}, "default preset"),
        ({"strategy": "random"}, "default preset"),
        ({"test": ["tiny-lm"]}, "name it once|cannot test"),
    ],
)  # fmt: skip
def test_what_an_earlier_search_must_not_have_seen_is_refused_before_any_work(
    narrow: tuple[Path, SearchResult], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    settings = {**COMMON, "splits": 2, "iterations": 10, **change}
    with pytest.raises(UsageError, match=message):
        search("tiny-lm", start=narrow[1], out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_search_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no search in"):
        search("tiny-lm", start=tmp_path, **COMMON)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::lpzero_hf.errors.ModelWarning")
def test_tables_of_two_operations_are_made_only_of_what_is_searched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, SearchResult] = {}
    for name, ceiling in (("some", False), ("all", True)):
        monkeypatch.setenv("LPZ_CACHE", str(tmp_path / name))
        made[name] = search("tiny-lm", unary=(2, 1), splits=2, iterations=200, ceiling=ceiling, **COMMON)
    searched = {key for split in made["some"].splits for key in split.trained_on["tiny-lm"]}
    assert len(list((tmp_path / "some" / "tables").iterdir())) == len(searched) < 12
    assert len(list((tmp_path / "all" / "tables").iterdir())) == 12
    for one, other in zip(made["some"].splits, made["all"].splits, strict=True):
        assert one.winner.expressions == other.winner.expressions
        assert one.winner.scores["tiny-lm"][0] == pytest.approx(other.winner.scores["tiny-lm"][0])


@pytest.mark.integration
def test_what_the_first_of_several_searches_saw_is_known_to_the_last(
    narrow: tuple[Path, SearchResult], tmp_path: Path
) -> None:
    folder, first = narrow
    second = search("tiny-gpt2", splits=1, iterations=20, start=folder, out=tmp_path / "second", **COMMON)
    assert set(second.seen(second.splits[0])) > set(first.seen(first.splits[0]))
    assert SearchResult.from_json(json.loads(json.dumps(second.to_json()))).config == second.config
    with pytest.raises(UsageError, match="holds out"):
        search("tiny-lm", seed=7, start=tmp_path / "second", **COMMON)
    tested = search("tiny-gpt2", iterations=20, start=first, test=["tiny-lm"], **COMMON)
    assert tested.tests["tiny-lm"][0].n == 6  # of twelve, the first search saw six
    with pytest.raises(UsageError, match="each split"):
        search(replace(second.config, saw=()))


@pytest.mark.integration
def test_a_search_that_began_with_another_is_resumed_without_naming_it(
    narrow: tuple[Path, SearchResult], tmp_path: Path
) -> None:
    settings = {**COMMON, "unary": (3, 1), "iterations": 40, "batch": 10, "start": narrow[0]}
    whole = search("tiny-lm", out=tmp_path / "whole", **settings)
    search("tiny-lm", out=tmp_path / "part", minutes=1e-6, **settings)
    del settings["start"]
    resumed = search("tiny-lm", out=tmp_path / "part", resume=True, **settings)
    assert resumed.splits[0].fittest == whole.splits[0].fittest
    assert resumed.config == whole.config
