"""An architecture that was searched on is left out wherever it appears, whatever it is called."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lpz_zoo
import pytest
from lpz_nas import Budget, find_architecture
from transformers import GPT2Config

from lpzero_hf import Setting, grade, search
from lpzero_hf.artifacts.artifact import Artifact, Member, parse_artifact
from lpzero_hf.benchmarks.benchmark import Benchmark, Trained, load_benchmark
from lpzero_hf.benchmarks.held_out import content_of, marks_of, searched_keys, unseen
from lpzero_hf.errors import UsageError
from lpzero_hf.proxies.searched_proxy import SearchedProxy, searched_proxy
from lpzero_hf.searching.export import artifact_of
from lpzero_hf.searching.result import SearchResult, read_result
from lpzero_hf.searching.search import drawn_parts
from lpzero_hf.spaces.space import Choice, Space
from tests.support.searches import LOSSES, NAMES, write
from tests.support.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
SMALL = Setting(batch_size=2, seq_len=8)
BRIEF: dict[str, Any] = {"setting": SMALL, "iterations": 20, "population": 8, "train": 5}
SNIP = "sum(sum(product(abs(W), abs(G))))"
TINY = Path(lpz_zoo.__file__).parent / "data" / "tiny-gpt2.json"
SEEN = [entry.key for entry in load_benchmark("tiny-gpt2").trained()[:5]]
OLD = Path(__file__).parent.parent / "data" / "v0.1.0"


def proxy_of(trained_on: Mapping[str, Sequence[str]], marks: Sequence[str] = ()) -> SearchedProxy:
    told: dict[str, Any] = {"benchmarks": [*trained_on], "strategy": "", "seed": 0, "train": {}, "held_out": {}}
    told |= {"versions": {}, "trained_on": {name: list(keys) for name, keys in trained_on.items()}}
    if marks:
        told["architectures"] = list(marks)
    artifact = Artifact("mine", (Member(SNIP, 1),), {"abs": "1"}, told)
    return searched_proxy(parse_artifact(artifact.text))


def marked(keys: Sequence[str]) -> SearchedProxy:
    """A proxy searched on some architectures of tiny-gpt2, in a benchmark of which nothing but this is known."""
    space = load_benchmark("tiny-gpt2").space
    return proxy_of({"gone": keys}, sorted(m for key in keys for m in marks_of(space, space.parse(key))))


def copied(folder: Path, change: Callable[[dict[str, Any]], None] = lambda document: None) -> Path:
    """tiny-gpt2 as a file of another name, with a change."""
    document = json.loads(TINY.read_text(encoding="utf-8"))
    change(document)
    folder.mkdir(parents=True)
    (folder / "benchmark.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def renamed(document: dict[str, Any]) -> None:
    document["name"] = "of-mine"


def reversed_and_fewer(document: dict[str, Any]) -> None:
    document["trained"] = document["trained"][::-1][:-2]


def retrained(document: dict[str, Any]) -> None:
    for row in document["trained"]:
        row["loss"] = None if row["loss"] is None else row["loss"] + 1


@pytest.mark.parametrize("change", [lambda document: None, renamed, reversed_and_fewer, retrained])
def test_what_was_searched_on_is_known_in_a_copy(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    benchmark = load_benchmark(copied(tmp_path / "copy", change))
    there = {entry.key for entry in benchmark.trained()}
    assert len(there & {*SEEN}) > 2
    assert searched_keys(marked(SEEN), benchmark) == there & {*SEEN}


def test_what_was_searched_on_is_known_under_other_keys_and_twice() -> None:
    original = load_benchmark("tiny-gpt2")
    twice = [
        Trained(f"{name}{i}", entry.architecture, entry.quality + i)
        for name in "ab" for i, entry in enumerate(original.trained()[:8])
    ]  # fmt: skip
    other = dataclasses.replace(original, name="other", read=lambda: twice)
    expected = {f"{name}{i}" for name in "ab" for i in range(5)}
    assert searched_keys(marked(SEEN), other) == expected
    # one of a pair is named, so both are seen
    assert searched_keys(proxy_of({"other": ["a3"]}), other) == {"a3", "b3"}


def a_space(name: str, symbol: str = "d") -> Space:
    return Space(
        name=name, summary="", shared=(Choice(symbol, "width", (8, 16, 24)),), depths=(1, 2), layer=(),
        build=lambda shared, layers: GPT2Config(n_embd=shared["width"], n_layer=len(layers)),
    )  # fmt: skip


def test_an_architecture_is_the_same_in_a_space_of_another_name() -> None:
    one, other = a_space("one"), a_space("other", "w")
    for i in range(one.size()):
        marks = marks_of(one, one.nth(i))
        same = [j for j in range(other.size()) if marks & marks_of(other, other.nth(j))]
        assert same == [i]


def test_a_name_means_another_architecture_in_another_space() -> None:
    one = a_space("one")
    other = dataclasses.replace(
        a_space("other"), build=lambda shared, layers: GPT2Config(n_embd=10 * shared["width"], n_layer=len(layers))
    )
    assert one.text(one.nth(0)) == other.text(other.nth(0))
    assert not marks_of(one, one.nth(0)) & marks_of(other, other.nth(0))


def test_an_architecture_is_the_same_after_defaults_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    space = a_space("one")
    before = marks_of(space, space.nth(0))
    later = dataclasses.replace(
        space, build=lambda shared, layers: GPT2Config(n_embd=shared["width"], n_layer=len(layers), new_default=1)
    )
    assert len(before & marks_of(later, later.nth(0))) == 1
    assert not before & marks_of(later, later.nth(1))


@pytest.mark.parametrize(
    "ignored",
    [
        {"attn_implementation": "eager"}, {"dtype": "float16"}, {"use_cache": False}, {"bos_token_id": 1},
        {"id2label": {0: "yes"}}, {"task_specific_params": {"a": 1}}, {"output_hidden_states": True},
    ],
)  # fmt: skip
def test_how_an_architecture_is_run_is_no_part_of_it(ignored: dict[str, Any]) -> None:
    space, other = a_space("one"), dataclasses.replace(a_space("other"), build=lambda s, layers: GPT2Config(
        n_embd=s["width"], n_layer=len(layers), **ignored
    ))  # fmt: skip
    assert marks_of(space, space.nth(3)) & marks_of(other, other.nth(3))


@pytest.mark.parametrize(("one", "other"), [(0, 0.0), ([1, {"dtype": "a"}], (1.0, {"dtype": "b"}))])
def test_an_architecture_is_the_same_however_its_numbers_are_written(one: Any, other: Any) -> None:
    spaces = [
        dataclasses.replace(a_space(f"of-{value}"), build=lambda s, layers, value=value: GPT2Config(
            n_embd=s["width"], n_layer=len(layers), resid_pdrop=0, extra=value
        ))
        for value in (one, other, 2)
    ]  # fmt: skip
    first, same, different = [marks_of(space, space.nth(1)) for space in spaces]
    assert first & same
    assert not first & different


def test_the_content_of_a_benchmark_is_its_architectures_and_results(tmp_path: Path) -> None:
    def content(change: Callable[[dict[str, Any]], None], name: str) -> str:
        benchmark = load_benchmark(copied(tmp_path / name, change))
        return content_of(benchmark, benchmark.trained())

    original = load_benchmark("tiny-gpt2")
    whole = content_of(original, original.trained())
    assert content_of(original, original.trained()[::-1]) == whole
    assert content(renamed, "a") == whole
    assert len({whole, content(reversed_and_fewer, "b"), content(retrained, "c")}) == 3


# Artifacts of version 0.1.0, which record names and keys ------------------------------------------------------


def test_an_artifact_of_names_and_keys_is_held_out_by_what_these_name(tmp_path: Path) -> None:
    old = searched_proxy(parse_artifact((OLD / "v010-found.json").read_bytes()))
    keys = set(old.trained_on["tiny-gpt2"])
    assert not old.searched_marks
    assert len(keys) == 16
    assert searched_keys(old, load_benchmark("tiny-gpt2")) == keys
    assert searched_keys(old, load_benchmark(copied(tmp_path / "copy", renamed))) == keys
    assert searched_keys(proxy_of({"flexibert": ["0", "1"]}), load_benchmark("tiny-gpt2")) == set()


def test_a_path_that_an_artifact_names_need_not_be_there() -> None:
    gone = proxy_of({"/home/somebody/benchmarks/tiny-gpt2": SEEN})
    assert searched_keys(gone, load_benchmark("tiny-gpt2")) == {*SEEN}


# Searches -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("held-out") / "made")


@pytest.fixture(scope="module")
def result(folder: str) -> SearchResult:
    return search(folder, **BRIEF)


def test_a_proxy_searched_on_a_path_is_graded_on_the_others_under_any_name(
    folder: str, result: SearchResult, tmp_path: Path
) -> None:
    artifact = artifact_of(result, "found-here")
    assert parse_artifact(artifact.text) == artifact
    assert set(artifact.provenance["contents"]) == {folder}
    other = shutil.copytree(folder, tmp_path / "elsewhere")
    for place in (folder, other):
        report = grade(str(place), [searched_proxy(artifact)], SMALL)
        (found,) = (one for one in report.grades if one.proxy == "found-here")
        assert found.agreement is not None
        assert found.agreement.n == 7
        held = result.splits[0].winner.held_out[folder].spearman
        assert held is not None
        assert found.agreement.spearman is not None
        assert found.agreement.spearman.value == pytest.approx(held.value)


def duplicated(architectures: int) -> Benchmark:
    """Some architectures of the space, each under two keys."""
    original = load_benchmark("tiny-gpt2")
    entries = [
        Trained(f"{name}{i}", original.space.parse(NAMES[i]), LOSSES[i] + 0.01 * (name == "b"))
        for i in range(architectures) for name in "ab"
    ]  # fmt: skip
    return dataclasses.replace(original, name="doubles", read=lambda: entries)


def test_an_export_knows_what_was_searched_on_without_the_benchmark(
    folder: str, result: SearchResult, tmp_path: Path
) -> None:
    benchmark = load_benchmark(folder)
    entries = [dataclasses.replace(entry, key=f"number {place}") for place, entry in enumerate(benchmark.trained())]
    other = dataclasses.replace(benchmark, name="other", read=lambda: entries)
    seen = {f"number {NAMES.index(key)}" for key in result.splits[0].trained_on[folder]}
    exported = searched_proxy(artifact_of(result, "found-here"))
    away = Path(folder).rename(tmp_path / "away")
    try:
        assert searched_keys(exported, other) == seen
    finally:
        away.rename(folder)


def test_no_architecture_is_on_both_sides_of_a_split(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = duplicated(8)
    monkeypatch.setattr(
        "lpzero_hf.searching.benchmark_scores.load_benchmark", lambda name, plugins, table=None: benchmark
    )
    found = search("doubles", splits=4, **BRIEF | {"train": 6})
    for split in found.splits:
        seen = {key[1:] for key in split.trained_on["doubles"]}
        held = found.held_out(split)["doubles"]
        assert len(seen) > 3
        assert {found.architectures["doubles"][i][1:] for i in held} == {str(i) for i in range(8)} - seen
        assert split.winner.held_out["doubles"].n == len(held) < 10
        assert all(one.n == len(held) for one in split.baselines["doubles"].values())
        artifact = artifact_of(found, "found", which="ensemble", split=found.splits.index(split))
        assert artifact.provenance["held_out"]["doubles"]["n"] == len(held)
        assert searched_keys(searched_proxy(artifact), benchmark) == {f"{name}{i}" for name in "ab" for i in seen}


def test_what_one_benchmark_shows_is_not_held_out_of_another(folder: str, tmp_path: Path) -> None:
    other = write_benchmark(tmp_path / "other", dict(zip(NAMES[::-1], LOSSES, strict=True)))
    found = search([folder, other], splits=2, **BRIEF)
    for split in found.splits:
        seen = {key for keys in split.trained_on.values() for key in keys}
        for name, places in found.held_out(split).items():
            assert {found.architectures[name][i] for i in places} == {*NAMES} - seen
            assert split.winner.held_out[name].n == split.ensemble.held_out[name].n == 12 - len(seen)


@pytest.mark.parametrize("seed", range(20))
def test_benchmarks_that_share_architectures_are_split_alike(seed: int) -> None:
    first, second, third = [{str(i)} for i in range(12)], [{str(i)} for i in range(8)], [{"x", str(i)} for i in "abcd"]
    parts = drawn_parts([first, second[::-1], third], 4, seed)
    assert [len(set(part)) for part in parts] == [4, 4, 4]
    assert parts[0] == sorted(random.Random(seed).sample(range(12), 4))  # as for a benchmark alone
    shared = {place for place in parts[0] if place < 8}
    assert shared <= {7 - place for place in parts[1]}
    assert drawn_parts([first], None, seed) == [list(range(12))]
    assert drawn_parts([first, first[::-1]], 4, seed)[1] == sorted(11 - place for place in parts[0])


def test_a_copy_is_neither_searched_twice_nor_tested_on(folder: str, tmp_path: Path) -> None:
    copy = str(shutil.copytree(folder, tmp_path / "copy"))
    part = write_benchmark(tmp_path / "part", dict(zip(NAMES[:9], LOSSES[::-1], strict=False)))
    with pytest.raises(UsageError, match="same benchmark"):
        search([folder, copy], **BRIEF)
    for name in (copy, part):
        with pytest.raises(UsageError, match="cannot test"):
            search(folder, test=[name], **BRIEF)


def test_a_test_leaves_out_what_was_searched(folder: str, tmp_path: Path) -> None:
    others = [name.replace("e32", "e64") for name in NAMES[:5]]
    mixed = write_benchmark(tmp_path / "mixed", dict(zip(NAMES[:4] + others, LOSSES, strict=False)))
    found = search(folder, test=[mixed], **BRIEF)
    assert [one.n for one in found.tests[mixed]] == [5]


def test_a_search_does_not_go_on_with_another_benchmark(tmp_path: Path) -> None:
    place = Path(write(tmp_path / "made"))
    search(str(place), out=tmp_path / "run", **BRIEF)
    shutil.rmtree(place)
    write(place, LOSSES[::-1])
    with pytest.raises(UsageError, match="not what it was"):
        search(str(place), out=tmp_path / "run", resume=True, **BRIEF)


def test_a_result_without_marks_is_held_out_by_keys() -> None:
    old = read_result(OLD / "run")
    (split,) = old.splits
    keys = old.architectures["tiny-gpt2"]
    held = [keys[i] for i in old.held_out(split)["tiny-gpt2"]]
    assert held == [key for key in keys if key not in split.trained_on["tiny-gpt2"]]
    assert not old.marks


def test_unseen_are_those_without_a_mark_that_was_seen() -> None:
    assert unseen([{"a", "b"}, {"c"}, {"b", "d"}, set()], {"b", "x"}) == [1, 3]


# An architecture under a budget -------------------------------------------------------------------------------


def chosen_among(proxy: Any, among: str, out: Path) -> Any:
    return find_architecture(
        "tiny-gpt2", proxy, Budget(max_params=10**9), trials=200, out=out, among=among, setting=SMALL
    )


def test_no_architecture_is_chosen_that_was_searched_on(folder: str, result: SearchResult, tmp_path: Path) -> None:
    proxy = searched_proxy(artifact_of(result, "found-here"))
    copy = str(shutil.copytree(folder, tmp_path / "copy"))
    held = {NAMES[i] for i in result.held_out(result.splits[0])[folder]}
    for number, among in enumerate((folder, copy)):
        found = chosen_among(proxy, among, tmp_path / str(number))
        assert {tried.architecture for tried in found.trials} == held
        assert found.winner.architecture in held
        assert (found.left_out, found.proposed) == (5, 7)
        assert json.loads((tmp_path / str(number) / "result.json").read_text())["left_out"] == 5
    assert chosen_among("num_heads", folder, tmp_path / "plain").left_out == 0


def test_a_proxy_that_was_searched_on_all_candidates_chooses_none(folder: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="searched on all 12"):
        chosen_among(proxy_of({folder: NAMES}), folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lpz_nas_says_how_many_are_left_out(folder: str, result: SearchResult, lpz: Lpz, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(artifact_of(result, "found-here").text)
    options = ("-p", str(tmp_path / "found.json"), "--max-params", "100000000", "--among", folder, "--workers", "1")
    sizes = ("--batch-size", "2", "--seq-len", "8", "--out", str(tmp_path / "run"))
    code, out, _ = lpz("nas", "tiny-gpt2", *options, *sizes)
    assert code == 0
    assert "searched on 5 " in out
