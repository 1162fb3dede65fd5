"""Artifacts: what a search has found comes back from its file as the same proxy, and a bad file is refused.

The file is long because all of it looks at what one small search has found.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # ships no types
import lpz_zoo
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]  # scipy ships no types
from transformers import PreTrainedModel

from lpzero_hf import grade, load_proxy, score, search
from lpzero_hf.artifacts.artifact import (
    LARGEST,
    Artifact,
    Member,
    parse_artifact,
    read_artifact,
    schema,
    write_artifact,
)  # fmt: skip
from lpzero_hf.artifacts.card import card
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.errors import InvalidScore, LpzError, MinibatchWarning, UsageError
from lpzero_hf.expressions.expression import parse
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.expression_proxy import expression_proxy
from lpzero_hf.proxies.resolve import find_proxy, resolve
from lpzero_hf.proxies.searched_proxy import quantile, searched_proxy
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.searching.export import artifact_of, default_name
from lpzero_hf.searching.result import SearchResult, read_result
from tests.support.seals import seal
from tests.support.searches import few_resamples

Lpz = Callable[..., tuple[int, str, str]]
Batch = dict[str, torch.Tensor]
SNIP = "sum(sum(product(abs(W), abs(G))))"
TOLD: dict[str, Any] = {
    "benchmarks": ["tiny-gpt2"], "strategy": "by hand", "seed": 0, "train": {}, "held_out": {}, "versions": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small search."""
    folder = tmp_path_factory.mktemp("search")
    out, unseen = folder / "run", folder / "unseen"
    unseen.mkdir()
    published = json.loads((Path(lpz_zoo.__file__).parent / "data" / "tiny-gpt2.json").read_text(encoding="utf-8"))
    some = published | {"trained": published["trained"][:12]}
    (unseen / "benchmark.json").write_text(json.dumps(some), encoding="utf-8")
    with few_resamples():
        search(
            "tiny-gpt2", out=out, limit=20, train=12, splits=2, iterations=60, population=20,
            setting=Setting(batch_size=2, seq_len=8), test=[str(unseen)],
        )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def result(run: Path) -> SearchResult:
    return read_result(run)


@pytest.fixture(scope="module")
def artifact(result: SearchResult) -> Artifact:
    return artifact_of(result, "found-here", date="2026-11-25", note="for the tests")


def resealed(document: dict[str, Any]) -> str:
    """The text of a document with the hash that belongs to it."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    return json.dumps(content | {"sha256": seal(content)})


# Round trips -----------------------------------------------------------------------------------------------


def test_a_result_is_read_as_it_was_found(run: Path, result: SearchResult) -> None:
    assert json.loads((run / "result.json").read_text()) == json.loads(json.dumps(result.to_json()))
    assert result.splits[0].winner.expressions[0].complexity > 0


@pytest.mark.parametrize("which", ["winner", "ensemble"])
@pytest.mark.parametrize("split", [0, 1])
def test_an_artifact_is_read_as_it_was_written(result: SearchResult, tmp_path: Path, which: Any, split: int) -> None:
    made = artifact_of(result, "found-here", split=split, which=which)
    write_artifact(tmp_path / "a.json", made)
    assert read_artifact(tmp_path / "a.json") == made
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == made.text
    found = getattr(result.splits[split], which)
    assert made.expressions == tuple(map(str, found.expressions))
    assert made.orientations == found.orientations
    assert made.provenance["held_out"]["tiny-gpt2"]["n"] == 8
    assert made.provenance["trained_on"] == result.splits[split].trained_on
    assert ("tests" in made.provenance) == (which == "winner")


def test_the_published_schema_is_one_and_every_artifact_obeys_it(result: SearchResult) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    for which in ("winner", "ensemble"):
        jsonschema.Draft202012Validator(schema()).validate(json.loads(artifact_of(result, "a", which=which).text))


def test_the_scale_of_a_member_is_its_scores_of_the_architectures_searched_on(result: SearchResult) -> None:
    made = artifact_of(result, "a", which="ensemble")
    split = result.splits[0]
    keys = result.architectures["tiny-gpt2"]
    for member, scores in zip(made.members, split.ensemble.scores["tiny-gpt2"], strict=True):
        expected = sorted(scores[keys.index(key)] for key in split.trained_on["tiny-gpt2"])  # type: ignore[type-var]
        assert list(member.scale) == expected
        assert len(expected) == 12


# Scores ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [1, -1])
def test_a_single_expression_scores_as_the_raw_one_bit_for_bit(
    gpt2: PreTrainedModel, batch: Batch, tmp_path: Path, orientation: int
) -> None:
    made = Artifact("mine", (Member(SNIP, orientation),), {"abs": "1"}, TOLD)
    write_artifact(tmp_path / "mine.json", made)
    raw = score(gpt2, batch, [expression_proxy(parse(SNIP))])[SNIP].require()
    assert load_proxy(tmp_path / "mine.json")(gpt2, batch) == orientation * raw
    assert load_proxy(SNIP)(gpt2, batch) == raw
    assert score(gpt2, batch, [str(tmp_path / "mine.json")])["mine"].value == orientation * raw


def test_an_ensemble_is_the_sum_of_its_members_quantiles(gpt2: PreTrainedModel, batch: Batch) -> None:
    raw = score(gpt2, batch, [SNIP, "sum(sum(sum(abs(W), disconnect(G))))"])
    snip, size = (row.require() for row in raw.rows)
    members = (
        Member(SNIP, 1, (snip / 2, snip * 3 / 2)),  # halfway
        Member("sum(sum(sum(abs(W), disconnect(G))))", -1, (-size - 3, -size - 1, -size, -size + 1, -size + 2)),  # half
    )
    made = Artifact("two", members, {"abs": "1", "disconnect": "1"}, TOLD)
    assert score(gpt2, batch, [searched_proxy(made)])["two"].value == pytest.approx(1.0, abs=1e-9)


def test_quantiles_rise_with_the_score_everywhere_and_stay_near_0_and_1() -> None:
    member = Member(SNIP, 1, (1.0, 2.0, 2.0, 4.0, 5.0))
    scores = [-1e300, -3.0, 0.9, 1.0, 1.5, 2.0, 2.1, 3.9, 4.0, 4.5, 5.0, 5.1, 80.0, 1e300]
    found = [quantile(score, member) for score in scores]
    assert found == sorted(found)
    assert len(set(found[:-1])) == len(found) - 1
    assert all(-0.25 <= value <= 1.25 for value in found)
    assert quantile(1.0, member) == 0
    assert quantile(5.0, member) == 1
    assert quantile(3.0, member) == pytest.approx(2.5 / 4)
    assert quantile(4.5, member) == pytest.approx(3.5 / 4)
    flat = Member(SNIP, 1, (2.0, 2.0))
    assert [quantile(score, flat) for score in (1.0, 2.0, 3.0)] == [-1.0, 1.0, 2.0]
    with pytest.raises(InvalidScore, match="is nan"):
        quantile(float("nan"), member)


def test_a_loaded_proxy_turns_the_orientation_so_that_higher_is_better(gpt2: PreTrainedModel, batch: Batch) -> None:
    raw = score(gpt2, batch, ["lpzero_paper_gpt2", "snip"])
    assert raw["lpzero_paper_gpt2"].orientation == -1
    assert load_proxy("lpzero_paper_gpt2")(gpt2, batch) == -raw["lpzero_paper_gpt2"].require()
    assert load_proxy("snip")(gpt2, batch) == raw["snip"].require()
    assert load_proxy("snip").name == "snip"
    assert "Lee" in load_proxy("snip").citation


def test_a_searched_proxy_reaches_other_processes(artifact: Artifact, gpt2: PreTrainedModel, batch: Batch) -> None:
    proxy = searched_proxy(artifact)
    again = pickle.loads(pickle.dumps(proxy))
    assert again.artifact == artifact
    assert again.version == proxy.version
    assert score(gpt2, batch, [again])[again.name].value == score(gpt2, batch, [proxy])[proxy.name].value


def test_the_same_artifact_asked_for_twice_is_one_proxy_and_a_changed_file_another(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_artifact(file, Artifact("mine", (Member(SNIP, 1),), {"abs": "1"}, TOLD))
    plugins = load_plugins()
    (first,) = resolve([str(file), file, find_proxy(file, plugins)], plugins)
    assert len(resolve([SNIP, expression_proxy(parse(SNIP)), SNIP.replace(" ", "")], plugins)) == 1
    write_artifact(file, Artifact("mine", (Member(SNIP, -1),), {"abs": "1"}, TOLD))
    assert find_proxy(str(file), plugins).version != first.version


def test_a_searched_proxy_is_graded_on_the_architectures_it_was_not_searched_on(
    artifact: Artifact, result: SearchResult
) -> None:
    benchmark = load_benchmark("tiny-gpt2")
    report = grade(benchmark, [searched_proxy(artifact)], Setting(batch_size=2, seq_len=8), limit=20)
    graded = {one.proxy: one for one in report.grades}
    ((why, many),) = graded["found-here"].unscored.items()
    assert ("searched" in why, many) == (True, 12)
    assert graded["params"].unscored == {}
    held_out, agreement = result.splits[0].winner.held_out["tiny-gpt2"], graded["found-here"].agreement
    assert agreement is not None
    assert agreement.spearman is not None
    assert held_out.spearman is not None
    assert (agreement.n, agreement.spearman.value) == (8, pytest.approx(held_out.spearman.value))
    scored = zip(report.trained, report.scores["found-here"], strict=True)
    assert {entry.key for entry, value in scored if value is None} == set(
        artifact.provenance["trained_on"]["tiny-gpt2"]
    )


# The command -----------------------------------------------------------------------------------------------


def test_export_writes_an_artifact_that_score_takes(lpz: Lpz, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "mine.json"
    code, out, err = lpz("export", str(run), "--name", "mine", "--out", str(file), "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["sha256"] == read_artifact(file).digest
    assert told["expressions"] == list(read_artifact(file).expressions)
    sizes = ("--batch-size", "2", "--seq-len", "8", "--json")
    code, out, err = lpz("score", "gpt2-variant", "--proxy", str(file), "--proxy", told["expressions"][0], *sizes)
    assert (code, err) == (0, "")
    mine, raw = json.loads(out)["models"][0]["scores"]
    assert mine["proxy"] == "mine"
    assert mine["value"] == told["orientations"][0] * raw["value"]


def test_an_expression_of_ones_own_is_exported_too(lpz: Lpz, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    code, _, err = lpz("export", SNIP, "--name", "my-snip", "--lower", "--out", str(file), "--date", "2026-11-25")
    assert (code, err) == (0, "")
    made = read_artifact(file)
    assert (made.expressions, made.orientations) == ((SNIP,), (-1,))
    assert made.provenance["held_out"] == {}
    for arguments, told in (
        ((SNIP,), "--name"),
        (("sum(sum(plus(W, G)))", "--name", "a"), "column 9"),
        ((str(tmp_path), "--lower"), "--lower"),
    ):
        code, out, err = lpz("export", *arguments)
        assert (code, out) == (2, "")
        assert told in err
    code, _, err = lpz(
        "export", "sum(sum(sum(disconnect(W), disconnect(G))))", "--name", "a", "--out", str(tmp_path / "b")
    )
    assert (code, (tmp_path / "b").exists()) == (1, False)
    assert "both branches" in err


def test_export_names_a_proxy_by_its_benchmarks(result: SearchResult) -> None:
    assert default_name(result) == "found-tiny-gpt2"
    config = replace(result.config, benchmarks=("some/Folder of mine", "gpt2-wt103"))
    assert default_name(replace(result, config=config)) == "found-folder-of-mine-gpt2-wt103"


def test_export_refuses_what_is_no_finished_search(lpz: Lpz, run: Path, tmp_path: Path) -> None:
    for folder, told in ((tmp_path, "is empty"), (run, "2 splits")):
        code, out, err = lpz("export", str(folder), "--split", "7")
        assert (code, out) == (2, "")
        assert told in err
    (tmp_path / "plan.json").write_text((run / "plan.json").read_text())
    assert "finished" in lpz("export", str(tmp_path))[2]
    (tmp_path / "result.json").write_text((run / "result.json").read_text()[:-200])
    code, _, err = lpz("export", str(tmp_path))
    assert (code, err.count("\n")) == (1, 1)
    assert "JSON" in err
    (tmp_path / "result.json").write_text("{}")
    assert "damaged" in lpz("export", str(tmp_path))[2]
    assert f"'{tmp_path}'" in lpz("export", str(run), "--out", str(tmp_path))[2]
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("name", ["Upper", "two words", "-x", "a" * 65, "semi;colon", "a/b"])
def test_names_that_could_not_be_typed_are_refused(lpz: Lpz, run: Path, tmp_path: Path, name: str) -> None:
    code, _, err = lpz("export", str(run), f"--name={name}", "--out", str(tmp_path / "x.json"))
    assert code == 2
    assert f"'{name}'" in err
    assert not (tmp_path / "x.json").exists()


# Bad artifacts ---------------------------------------------------------------------------------------------


def changed(artifact: Artifact, change: Callable[[dict[str, Any]], Any]) -> str:
    document = copy.deepcopy(json.loads(artifact.text))
    change(document)
    return resealed(document)


def test_only_an_artifact_that_reads_layers_by_role_asks_for_a_version_that_knows_them() -> None:
    by_role = Artifact("mine", (Member("sum(sum(product(abs(J_ffn), H)))", 1),), {"abs": "1", "no_op": "1"}, TOLD)
    assert (by_role.statistics, Artifact("mine", (Member(SNIP, 1),), {"abs": "1"}, TOLD).statistics) == ("2.1", "1.1")
    assert parse_artifact(by_role.text) == by_role
    assert "J_ffn" in searched_proxy(by_role).formula
    assert "_ffn means" in card(by_role)
    assert "_mixer" not in card(by_role)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.update(version=3), "version '3'"),
        (lambda d: d.update(version=True), "version 'True'"),
        (lambda d: d.update(format="other"), "no artifact"),
        (lambda d: d.update(statistics="9.9"), "9.9"),
        (lambda d: d.update(statistics="2.1"), "need 1.1"),
        (lambda d: d["members"][0].update(expression="sum(sum(product(abs(W_ffn), abs(G_ffn))))"), "need 2.1"),
        (lambda d: d["members"][0].update(expression="sum(sum(product(cube(W), G)))"), "column 17"),
        (
            lambda d: d["members"][0].update(expression="sum(sum(product(disconnect(W), disconnect(G))))"),
            "versions",
        ),
        (lambda d: d["operations"].update(cube="1"), "'cube'"),
        (lambda d: d["operations"].update(abs="7"), "version 7"),
        (lambda d: d["operations"].clear(), "versions"),
        (lambda d: d["members"].clear(), "members:"),
        (lambda d: d["members"].append(d["members"][0]), "scales"),
        (lambda d: d["members"].append(d["members"][0] | {"scale": [1.0, 2.0]}), "scales"),
        (lambda d: d["members"][0].update(scale=[2.0, 1.0]), "ascend"),
        (lambda d: d["members"][0].update(orientation=0), "members.0.orientation"),
        (lambda d: d.update(code="import os"), "'code'"),
        (lambda d: d["provenance"].update(date="yesterday"), "provenance.date"),
        (lambda d: d["provenance"].update(note="\x1b[2J"), "provenance.note"),
        (lambda d: d["provenance"]["held_out"].update(x={"n": 1}), "provenance.held_out.x"),
        (lambda d: d["provenance"].pop("seed"), "'seed'"),
    ],
)
def test_an_artifact_that_is_not_valid_is_refused_with_one_line(
    lpz: Lpz, tmp_path: Path, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    made = Artifact("mine", (Member(SNIP, 1),), {"abs": "1"}, TOLD)
    file = tmp_path / "bad.json"
    file.write_text(changed(made, change))
    code, out, err = lpz("score", "gpt2-variant", "--proxy", str(file))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert told in err
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1e999}', "1e999"),
        (b"1" * 5000, "JSON"),
        (b"[" * 200_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b" " * (LARGEST + 1), "larger"),
        (b"[]", "no artifact"),
    ],
)
def test_what_is_no_json_document_is_refused(text: bytes, told: str) -> None:
    with pytest.raises(LpzError, match=told):
        parse_artifact(text)


def test_a_file_that_was_tampered_with_is_refused(artifact: Artifact) -> None:
    document = json.loads(artifact.text)
    document["provenance"]["seed"] += 1
    with pytest.raises(LpzError, match="changed"):
        parse_artifact(json.dumps(document))
    with pytest.raises(LpzError, match=r"nowhere\.json"):
        read_artifact("nowhere.json")


def test_a_lone_surrogate_is_refused() -> None:
    text = Artifact("mine", (Member(SNIP, 1),), {"abs": "1"}, {**TOLD, "note": "NOTE"}).text
    with pytest.raises(LpzError, match="surrogates"):
        parse_artifact(text.replace("NOTE", "\\ud800"))


def test_an_unknown_source_of_a_proxy_is_told_apart() -> None:
    with pytest.raises(UsageError, match="'snip'"):
        load_proxy("sinp")
    with pytest.raises(LpzError, match=r"sinp\.json"):
        load_proxy("sinp.json")
    with pytest.raises(UsageError, match="column 9"):
        load_proxy("sum(sum(plus(W, G)))")


# What a stranger might do -----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6), min_size=2, max_size=8),
    st.lists(st.floats(-1e7, 1e7) | st.integers(-4, 4).map(float), min_size=2, max_size=8),
)
def test_quantiles_are_finite_and_rise_whatever_is_tied(scale: list[float], scores: list[float]) -> None:
    member = Member(SNIP, 1, tuple(sorted(scale)))
    found = [quantile(score, member) for score in sorted([*scores, *scale])]
    assert all(math.isfinite(value) for value in found)
    assert all(before <= after + 1e-12 for before, after in itertools.pairwise(found))


def test_an_ensembles_numbers_are_those_of_what_is_exported(result: SearchResult) -> None:
    made = artifact_of(result, "together", which="ensemble")
    split, keys = result.splits[0], result.architectures["tiny-gpt2"]
    held = [i for i, key in enumerate(keys) if key not in split.trained_on["tiny-gpt2"]]
    columns = zip(*split.ensemble.scores["tiny-gpt2"], strict=True)
    totals = [sum(quantile(score or 0.0, m) for score, m in zip(c, made.members, strict=True)) for c in columns]
    rho = stats.spearmanr([totals[i] for i in held], [result.truth["tiny-gpt2"][i] for i in held]).statistic
    assert made.provenance["held_out"]["tiny-gpt2"]["spearman"]["value"] == pytest.approx(rho)
    assert made.provenance["held_out"]["tiny-gpt2"]["n"] == 8
    assert made.provenance["train"]["tiny-gpt2"]["n"] == 12


@pytest.mark.parametrize("which", ["winner", "ensemble"])
def test_another_minibatch_than_that_of_the_search_is_warned_of(
    which: str, result: SearchResult, gpt2: PreTrainedModel, batch: Batch, lpz: Lpz, tmp_path: Path
) -> None:
    made = artifact_of(result, "together", which=which)
    with pytest.warns(MinibatchWarning, match="2 x 8 .* 4 x 12"):
        score(gpt2, batch, [searched_proxy(made)])
    write_artifact(tmp_path / "a.json", made)
    of = ("score", "gpt2-variant", "--proxy", str(tmp_path / "a.json"), "--seq-len", "8")
    assert "--batch-size 2 and --seq-len 8" in lpz(*of, "--batch-size", "3")[2]
    assert lpz(*of, "--batch-size", "2")[2] == ""


def test_a_file_is_a_file_whatever_its_name(lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Artifact("mine", (Member(SNIP, 1),), {"abs": "1"}, TOLD)
    (tmp_path / "sub").mkdir()
    for name in ("found (1).json", "weird.artifact", "sub/found"):
        write_artifact(name, made)
        assert load_proxy(name).name == load_proxy(Path(name)).name == "mine"
    with pytest.raises(LpzError, match="sub/other"):
        load_proxy(Path("sub/other"))
    with pytest.raises(LpzError, match="is no proxy"):
        load_proxy(tmp_path / "sub")


def test_a_folder_whose_name_has_brackets_is_exported(lpz: Lpz, run: Path, tmp_path: Path) -> None:
    copy_ = shutil.copytree(run, tmp_path / "run (1)")
    assert lpz("export", str(copy_), "--out", str(tmp_path / "a.json"))[0] == 0


def test_nothing_is_written_over_and_no_built_in_name_taken(lpz: Lpz, run: Path, tmp_path: Path) -> None:
    precious = shutil.copytree(run, tmp_path / "run") / "result.json"
    before = precious.read_text()
    code, _, err = lpz("export", str(run), "--out", str(precious))
    assert (code, precious.read_text()) == (2, before)
    assert str(precious) in err
    again = ("export", str(run), "--date", "2026-11-25", "--out", str(tmp_path / "a.json"), "--name")
    assert [lpz(*again, name)[0] for name in ("one", "one", "two")] == [0, 0, 2]  # the very same is no other
    assert read_artifact(tmp_path / "a.json").name == "one"
    for name in ("snip", "lpzero-any"):
        code, _, err = lpz("export", str(run), "--name", name, "--out", str(tmp_path / "b.json"))
        assert (code, err.count("\n"), (tmp_path / "b.json").exists()) == (2, 1, False)
        assert f"'{name}' is the name of a proxy" in err


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--name", "Bad Name"), "'Bad Name'"),
        (("--note", "\x1b[2J"), "note"),
        (("--date", "2026-13-77"), "YYYY-MM-DD"),
        (("--date", "20261125"), "YYYY-MM-DD"),
    ],
)
@pytest.mark.parametrize("to", ["artifact", "plugin"])
def test_what_an_exporter_gets_wrong_is_told_in_plain_words(
    lpz: Lpz, run: Path, tmp_path: Path, option: tuple[str, str], told: str, to: str
) -> None:
    for source in (str(run), SNIP):
        named = () if option[0] == "--name" else ("--name", "fine")
        code, out, err = lpz("export", source, *named, *option, "--to", to, "--out", str(tmp_path / "out"))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert told in err
    assert not list(tmp_path.iterdir())


CONSENSUS = Artifact(
    "my-consensus",
    (Member("geometric_mean(w_pca, snip)", 1),),
    {},
    {"benchmarks": [], "strategy": "consensus", "seed": 0, "train": {}, "held_out": {}, "versions": {}},
)


def test_an_artifact_of_installed_proxies_scores_as_their_geometric_mean(
    gpt2: PreTrainedModel, batch: Batch, tmp_path: Path
) -> None:
    write_artifact(tmp_path / "it.json", CONSENSUS)
    scores = score(gpt2, batch, [tmp_path / "it.json", "geometric_mean(w_pca, snip)"])
    assert scores["my-consensus"].require() == scores["geometric_mean(w_pca, snip)"].require()
    assert read_artifact(tmp_path / "it.json") == CONSENSUS


def test_an_artifact_of_installed_proxies_has_a_version_of_its_own() -> None:
    """So that version 0.1.0, which cannot read it, says that it needs another version."""
    document = json.loads(CONSENSUS.text)
    assert document["version"] == 2
    wrong = resealed(document | {"version": 1})
    with pytest.raises(LpzError, match="export it again"):
        parse_artifact(wrong)


def test_an_artifact_of_a_proxy_that_is_not_installed_says_which(tmp_path: Path) -> None:
    write_artifact(tmp_path / "it.json", replace(CONSENSUS, members=(Member("geometric_mean(w_pca, snipp)", 1),)))
    with pytest.raises(LpzError, match="did you mean 'snip'"):
        find_proxy(tmp_path / "it.json")
