"""Many architectures scored and graded: one by one's numbers through caches, workers, kills and bad requests."""

from __future__ import annotations

import csv
import functools
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from lpz_zoo.gpt2_model import FlexibleGPT2Config
from transformers import BertConfig, GPT2Config, PreTrainedConfig, PreTrainedModel

from lpzero_hf import evaluation
from lpzero_hf.agreement import kendall, spearman
from lpzero_hf.batches import embedded_tokenizer, minibatch
from lpzero_hf.benchmarks import FORMAT, Benchmark, Trained
from lpzero_hf.cache import ScoreCache
from lpzero_hf.errors import LpzError, MinibatchError, NotApplicable, UsageError
from lpzero_hf.evaluation import Setting, evaluate
from lpzero_hf.grading import BASELINES, chance, grade
from lpzero_hf.models import build_model
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxy import ModelProxy, Proxy, Subject
from lpzero_hf.scoring import score
from lpzero_hf.spaces import Architecture, Choice, Space
from tests.forks import forked, needs_fork
from tests.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
SMALL = Setting(batch_size=2, seq_len=8)


def gpt2_config(width: int = 16, layers: int = 1) -> GPT2Config:
    return GPT2Config(n_layer=layers, n_embd=width, n_head=2, vocab_size=4096, n_positions=32)


def flexible_config(inner: int = 16, **changes: Any) -> FlexibleGPT2Config:
    layers = [{"heads": 2, "inner": inner}, {"heads": 1, "inner": 24}]
    sizes = dict(vocab_size=4096, cutoffs=(1024, 2560), d_model=16, d_embed=16, k=2)
    return FlexibleGPT2Config(layers=layers, **(sizes | changes))


def bert_config() -> BertConfig:
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.vocab_size, config.architectures = 4096, ["BertForMaskedLM"]
    return config


CONFIGS: dict[str, PreTrainedConfig] = {"plain": gpt2_config(), "flexible": flexible_config(), "masked": bert_config()}
TWO = {"narrow": gpt2_config(), "wide": gpt2_config(24)}
# cannot be built: 15 features are not divisible by 2 heads
BROKEN = gpt2_config(15)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ScoreCache]:
    with ScoreCache(tmp_path / "cache" / "scores.sqlite") as opened:
        yield opened


class Counting:
    """Makes proxies that count how often they run; `does` replaces what they return."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def proxy(self, name: str, does: Callable[[Subject], float] = lambda subject: 1.0, **facts: Any) -> ModelProxy:
        def run(subject: Subject) -> float:
            self.calls.append(name)
            return does(subject)

        return ModelProxy(name=name, formula="", evaluate=run, **facts)


@pytest.fixture
def counting() -> Counting:
    return Counting()


def untimed(rows: Rows) -> dict[str, dict[str, dict[str, Any]]]:
    """Everything but the seconds, with every bit of the values."""
    return {
        name: {
            proxy: {k: v.hex() if isinstance(v, float) else v for k, v in row.items() if k != "seconds"}
            for proxy, row in by_proxy.items()
        }
        for name, by_proxy in rows.items()
    }


def one_by_one(configs: Mapping[str, PreTrainedConfig], setting: Setting) -> dict[str, dict[str, dict[str, Any]]]:
    """What `score` says of each architecture."""
    found = {}
    for name, config in configs.items():
        model = build_model(config, seed=setting.seed, dtype=getattr(torch, setting.dtype))
        batch = minibatch(
            model, text=setting.text, tokenizer=embedded_tokenizer(), batch_size=setting.batch_size,
            seq_len=setting.seq_len, seed=setting.seed, random_tokens=setting.random_tokens,
        )  # fmt: skip
        found[name] = {row["proxy"]: row for row in score(model, batch, seed=setting.seed).to_dict()["scores"]}
    return found


# Evaluating ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting", [SMALL, Setting(3, 6, seed=7, dtype="float64"), replace(SMALL, random_tokens=True, dtype="bfloat16")]
)
def test_evaluating_equals_scoring_each_architecture_bit_for_bit(setting: Setting) -> None:
    rows = evaluate(CONFIGS, "all", setting)
    assert list(rows) == list(CONFIGS)
    assert untimed(rows) == untimed(one_by_one(CONFIGS, setting))
    assert sum(row["status"] == "ok" for by_proxy in rows.values() for row in by_proxy.values()) > 90


def test_the_minibatch_is_drawn_from_the_text(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("to be or not to be, that is the question " * 5)
    setting = replace(SMALL, text=file)
    found = untimed(evaluate(TWO, ["all"], setting))
    assert found == untimed(one_by_one(TWO, setting))
    assert found["wide"]["nwot"]["value"] != untimed(evaluate(TWO, "nwot", SMALL))["wide"]["nwot"]["value"]


def test_rows_stand_in_the_order_asked_for_and_hold_the_time_of_the_shared_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "score", lambda *a, **k: replace(score(*a, **k), seconds={"loss": 1000.0}))
    rows = evaluate(TWO, ["num_heads", "snip", "params"], SMALL)
    assert [list(by_proxy) for by_proxy in rows.values()] == [["num_heads", "snip", "params"]] * 2
    assert all(row["seconds"] > 1000 for row in (rows["narrow"]["snip"], rows["wide"]["snip"]))
    assert all(row["seconds"] < 1000 for row in (rows["narrow"]["params"], rows["wide"]["num_heads"]))


def named_function(model: PreTrainedModel, batch: dict[str, Any]) -> float:
    return float(model(**batch).logits.detach().double().sum())


def test_two_workers_give_the_bits_of_one_and_fill_the_cache(
    cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies = ["all", named_function]
    alone = evaluate(CONFIGS | {"broken": BROKEN}, proxies, SMALL)
    threads, told = torch.get_num_threads(), []
    together = evaluate(
        CONFIGS | {"broken": BROKEN}, proxies, SMALL, cache=cache, workers=2,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert untimed(together) == untimed(alone)
    assert told == [(i, 4) for i in range(5)]
    assert torch.get_num_threads() == threads
    monkeypatch.setattr(evaluation, "build_model", None)
    assert evaluate(CONFIGS, proxies, SMALL, cache=cache) == {name: together[name] for name in CONFIGS}


def test_one_architecture_that_cannot_be_built_does_not_stop_the_others(cache: ScoreCache) -> None:
    for _ in range(2):  # from the cache, too
        rows = evaluate({"broken": BROKEN} | TWO, ["snip", "params"], SMALL, cache=cache)
        assert [rows[name]["snip"]["status"] for name in rows] == ["failed", "ok", "ok"]
        assert rows["broken"]["params"]["value"] is None
        assert "15" in rows["broken"]["params"]["reason"]


def test_what_is_wrong_for_every_architecture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MinibatchError, match="cannot read the text"):
        evaluate(TWO, "snip", replace(SMALL, text=tmp_path / "nowhere.txt"))
    with pytest.raises(MinibatchError, match="longer than the model's 32 positions"):
        evaluate(TWO, "snip", replace(SMALL, seq_len=33))
    with pytest.raises(UsageError, match="unknown proxy 'snipp'; did you mean 'snip'"):
        evaluate(TWO, "snipp", SMALL)


# The cache ----------------------------------------------------------------------------------------------------


def test_a_second_call_builds_nothing_and_returns_the_same_rows(
    cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(CONFIGS, "all", SMALL, cache=cache)
    monkeypatch.setattr(evaluation, "build_model", None)
    told: list[tuple[int, int]] = []
    second = evaluate(
        dict(reversed(CONFIGS.items())),
        "all",
        SMALL,
        cache=cache,
        progress=lambda done, total: told.append((done, total)),
    )
    assert second == first
    assert list(second) == ["masked", "flexible", "plain"]
    assert told == [(3, 3)]


def test_another_name_for_the_same_configuration_is_known(cache: ScoreCache, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate({"a": gpt2_config()}, "snip", SMALL, cache=cache)
    monkeypatch.setattr(evaluation, "build_model", None)
    assert evaluate({"b": gpt2_config()}, "snip", SMALL, cache=cache)["b"] == first["a"]


def test_a_new_proxy_is_computed_alone(cache: ScoreCache, counting: Counting) -> None:
    old, new = counting.proxy("old"), counting.proxy("new")
    evaluate(TWO, [old], SMALL, cache=cache)
    rows = evaluate(TWO, [new, old], SMALL, cache=cache)
    assert counting.calls == ["old", "old", "new", "new"]
    assert [list(by_proxy) for by_proxy in rows.values()] == [["new", "old"]] * 2


def test_a_new_architecture_is_computed_alone(cache: ScoreCache, counting: Counting) -> None:
    proxy = counting.proxy("p")
    evaluate(TWO, [proxy], SMALL, cache=cache)
    evaluate(TWO | {"deep": gpt2_config(layers=2)}, [proxy], SMALL, cache=cache)
    assert len(counting.calls) == 3


@pytest.mark.parametrize(
    "change", [{"seed": 43}, {"batch_size": 3}, {"seq_len": 9}, {"dtype": "float64"}, {"random_tokens": True}]
)
def test_another_setting_is_computed_anew(cache: ScoreCache, counting: Counting, change: dict[str, Any]) -> None:
    proxy = counting.proxy("p")
    evaluate(TWO, [proxy], SMALL, cache=cache)
    evaluate(TWO, [proxy], replace(SMALL, **change), cache=cache)
    assert len(counting.calls) == 4
    evaluate(TWO, [proxy], SMALL, cache=cache)
    assert len(counting.calls) == 4


def test_the_content_of_the_text_counts_and_not_its_path(cache: ScoreCache, counting: Counting, tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("to be or not to be, that is the question " * 5)
    other.write_text(one.read_text())
    proxy = counting.proxy("p")
    for text, calls in ((one, 2), (other, 2), (None, 4)):
        evaluate(TWO, [proxy], replace(SMALL, text=text), cache=cache)
        assert len(counting.calls) == calls
    one.write_text("whether tis nobler in the mind to suffer " * 5)
    evaluate(TWO, [proxy], replace(SMALL, text=one), cache=cache)
    assert len(counting.calls) == 6


def test_a_proxy_of_another_version_is_computed_anew_and_one_without_version_always(
    cache: ScoreCache, counting: Counting
) -> None:
    for version, calls in (("1", 2), ("2", 4), ("2", 4), ("1", 4), ("", 6), ("", 8)):
        evaluate(TWO, [counting.proxy("p", version=version)], SMALL, cache=cache)
        assert len(counting.calls) == calls


@pytest.mark.parametrize("place", ["lpzero_hf.evaluation.STATISTICS", "torch.__version__", "transformers.__version__"])
def test_what_fixes_the_numbers_makes_all_scores_new(
    cache: ScoreCache, counting: Counting, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    proxy = counting.proxy("p")
    evaluate(TWO, [proxy], SMALL, cache=cache)
    monkeypatch.setattr(place, "0.0.1")
    evaluate(TWO, [proxy], SMALL, cache=cache)
    assert len(counting.calls) == 4


def fail(error: type[Exception]) -> Callable[[Subject], float]:
    def raising(subject: Subject) -> float:
        raise error("no luck")

    return raising


def test_a_failed_score_is_tried_again(cache: ScoreCache, counting: Counting) -> None:
    rows = evaluate(TWO, [counting.proxy("p", fail(OSError)), "params"], SMALL, cache=cache)
    assert rows["wide"]["p"]["status"] == "failed"
    assert rows["wide"]["p"]["reason"] == "OSError: no luck"
    rows = evaluate(TWO, [counting.proxy("p"), "params"], SMALL, cache=cache)
    assert len(counting.calls) == 4
    assert rows["wide"]["p"]["value"] == 1


@pytest.mark.parametrize(
    ("does", "status"), [(fail(NotApplicable), "not applicable"), (lambda subject: math.nan, "invalid")]
)
def test_a_score_that_cannot_be_is_remembered_with_its_reason(
    cache: ScoreCache, counting: Counting, does: Callable[[Subject], float], status: str
) -> None:
    proxy = counting.proxy("p", does)
    first = evaluate(TWO, [proxy], SMALL, cache=cache)
    assert evaluate(TWO, [proxy], SMALL, cache=cache) == first
    assert len(counting.calls) == 2
    assert first["wide"]["p"]["status"] == status
    assert first["wide"]["p"]["reason"] in ("no luck", "the score is nan")


def test_configurations_stay_as_they_were(counting: Counting) -> None:
    before = {name: config.to_dict() for name, config in CONFIGS.items()}
    evaluate(CONFIGS, [counting.proxy("p")], replace(SMALL, dtype="float64"))
    assert {name: config.to_dict() for name, config in CONFIGS.items()} == before


def test_an_interrupted_call_goes_on_where_it_stopped(cache: ScoreCache, counting: Counting) -> None:
    def interrupt(subject: Subject) -> float:
        if len(counting.calls) == 3:
            raise KeyboardInterrupt
        return float(subject.model.config.n_embd)

    configs = {str(width): gpt2_config(width) for width in (8, 16, 24, 32)}
    proxy = counting.proxy("p", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate(configs, [proxy], SMALL, cache=cache)
    rows = evaluate(configs, [proxy], SMALL, cache=cache)
    assert len(counting.calls) == 3 + 2
    assert [row["p"]["value"] for row in rows.values()] == [8, 16, 24, 32]


# Grading ------------------------------------------------------------------------------------------------------

TOY = Space(
    name="toy",
    summary="",
    shared=(Choice("d", "width", (8, 16, 24)),),
    depths=(1, 2),
    layer=(Choice("h", "heads", (1, 2)),),
    build=lambda shared, layers: GPT2Config(
        n_embd=int(shared["width"]), n_head=2, n_layer=len(layers), vocab_size=4096, n_positions=16
    ),
)
# six architectures, in an order unlike that of any proxy
MEMBERS = [Architecture((width,), layers) for width in (16, 8, 24) for layers in (((1,),), ((1,), (2,)))]


def toy_benchmark(quality: Sequence[float] = (4, 1, 5, 2, 3, 6), larger_is_better: bool = True) -> Benchmark:
    entries = [Trained(TOY.text(a), a, q) for a, q in zip(MEMBERS, quality, strict=True)]
    return Benchmark(
        name="toy", summary="", space=TOY, metric="points", larger_is_better=larger_is_better,
        read=lambda: entries, batch_size=2, seq_len=8,
    )  # fmt: skip


def size(subject: Subject) -> float:
    return float(sum(p.numel() for p in subject.model.parameters()))


def own_proxy(name: str, does: Callable[[Subject], float], orientation: Any = 1) -> Proxy:
    return ModelProxy(name=name, formula="", evaluate=does, orientation=orientation)


@pytest.mark.parametrize("asked", [["snip"], ["params", "snip"], ["all"]])
def test_the_baselines_are_graded_with_the_proxies_once(asked: list[str]) -> None:
    report = grade(toy_benchmark(), asked)
    names = [g.proxy for g in report.grades]
    assert len(set(names)) == len(names)
    assert {*BASELINES, "snip"} <= set(names)
    assert names == list(dict.fromkeys(names))
    assert len(names) == (5 if asked != ["all"] else len(evaluate(TWO, "all", SMALL)["wide"]))


def test_a_grade_is_the_agreement_of_the_scores_with_the_truth() -> None:
    quality = (4, 1, 5, 2, 3, 6)
    report = grade(toy_benchmark(quality), ["snip", "nwot"])
    assert report.setting == Setting(2, 8)  # the benchmark's own minibatch
    for graded in report.grades:
        scores, agreement = report.scores[graded.proxy], graded.agreement
        assert agreement is not None
        assert agreement.n == 6
        if graded.proxy != "num_heads":
            assert agreement.spearman is not None
            assert agreement.kendall is not None
            assert agreement.spearman.value == spearman(scores, quality)
            assert agreement.kendall.value == kendall(scores, quality)
    expected = one_by_one({TOY.text(a): TOY.config(a) for a in MEMBERS}, report.setting)
    assert report.scores["snip"] == [row["snip"]["value"] for row in expected.values()]
    rhos = [g.agreement.spearman.value for g in report.grades if g.agreement and g.agreement.spearman]
    assert rhos == sorted(rhos, reverse=True)
    assert report.grades[-1].proxy == "num_heads"  # the same for all: it ranks nothing


def test_orientations_of_proxy_and_metric_are_respected() -> None:
    sizes = [size(Subject(build_model(TOY.config(a)), {}, None, 0)) for a in MEMBERS]  # type: ignore[arg-type]
    proxies = [own_proxy("up", size), own_proxy("down", lambda s: -size(s), -1), own_proxy("wrong", size, -1)]
    for larger_is_better, sign in ((True, 1), (False, -1)):
        report = grade(toy_benchmark(sizes, larger_is_better), proxies)
        rho = {g.proxy: g.agreement.spearman.value for g in report.grades if g.agreement and g.agreement.spearman}
        assert [rho["up"], rho["down"], rho["wrong"]] == [sign, sign, -sign]
        assert report.scores["up"] == sizes  # as the proxy gives them
        assert report.scores["down"] == [-x for x in sizes]
        top = next(g.agreement.top for g in report.grades if g.proxy == "up" and g.agreement)
        assert top == (1 if larger_is_better else 0)


def test_architectures_without_a_score_are_left_out_and_counted() -> None:
    def sometimes(subject: Subject) -> float:
        if subject.model.config.n_embd == 16:
            raise NotApplicable("not today")
        return math.nan if subject.model.config.n_embd == 8 and subject.model.config.n_layer == 1 else size(subject)

    def seldom(subject: Subject) -> float:
        return math.inf if subject.model.config.n_embd > 8 else 1.0

    report = grade(toy_benchmark((9, 9, 1, 2, 3, 4)), [own_proxy("sometimes", sometimes), own_proxy("seldom", seldom)])
    grades = {g.proxy: g for g in report.grades}
    assert grades["sometimes"].unscored == {"not applicable: not today": 2, "invalid: the score is nan": 1}
    agreement = grades["sometimes"].agreement
    assert agreement is not None
    assert agreement.spearman is not None
    assert (agreement.n, agreement.spearman.value) == (3, 1)
    assert report.scores["sometimes"][:3] == [None, None, None]
    assert grades["seldom"].agreement is None
    assert grades["seldom"].unscored == {"invalid: the score is inf": 4}
    assert grades["params"].unscored == {}
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["scores"] == report.scores


def test_a_limit_takes_architectures_evenly_spaced() -> None:
    keys = [TOY.text(a) for a in MEMBERS]
    report = grade(toy_benchmark(), ["params"], limit=3)
    assert [entry.key for entry in report.trained] == [keys[0], keys[2], keys[4]]
    assert all(len(scores) == 3 for scores in report.scores.values())
    assert [entry.key for entry in grade(toy_benchmark(), ["params"], limit=100).trained] == keys
    with pytest.raises(LpzError, match="2 architectures of benchmark 'toy' cannot be ranked; it takes 3"):
        grade(toy_benchmark(), ["params"], limit=2)


@pytest.mark.parametrize("n", [30, 100, 200, 500])
def test_chance_is_near_the_normal_approximation(n: int) -> None:
    assert chance(n) == pytest.approx(1.645 / math.sqrt(n - 1), rel=0.04)
    assert chance(n) == chance(n)


def test_chance_of_three_is_one() -> None:
    assert chance(3) == pytest.approx(1)  # one ranking in six agrees in full


# The command --------------------------------------------------------------------------------------------------

NAMES = [f"d64.e32.k{k}-h{heads}.i{inner}" for k in (1, 2, 4) for heads in (1, 2) for inner in (64, 128)]
OPTIONS = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu", "--workers", "1")
BRIEF = (*OPTIONS, "-p", "nwot", "-p", "num_layers")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of a benchmark of twelve architectures, as `lpz bench train` leaves it; the cache is a new one."""
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    return write_benchmark(tmp_path / "made", {name: 5 + i % 5 / 7 + i / 100 for i, name in enumerate(NAMES)})


def facts(out: str) -> dict[str, Any]:
    """The document that `lpz bench eval --json` printed, without the seconds."""
    document: dict[str, Any] = json.loads(out)
    for graded in document["grades"]:
        assert graded.pop("seconds") >= 0
    return document


def kept(folder: Path) -> dict[tuple[str, str], str]:
    """The rows in a score cache that SQLite finds whole."""
    connection = sqlite3.connect(folder / "scores.sqlite", timeout=60)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {(subject, proxy): row for subject, proxy, row in connection.execute("SELECT * FROM scores")}
    finally:
        connection.close()


def test_eval_prints_one_json_document(lpz: Lpz, made: str) -> None:
    code, out, err = lpz("bench", "eval", made, *OPTIONS, "-p", "snip", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["benchmark"] == "made"
    assert document["architectures"] == NAMES
    assert document["truth"][1] == 5 + 1 / 7 + 0.01
    assert (document["setting"]["batch_size"], document["setting"]["seed"]) == (2, 42)
    assert {g["proxy"] for g in document["grades"]} == {"snip", *BASELINES} == set(document["scores"])
    snip = next(g for g in document["grades"] if g["proxy"] == "snip")
    assert snip["agreement"]["n"] == 12
    assert snip["agreement"]["spearman"]["value"] == spearman(
        document["scores"]["snip"], [-loss for loss in document["truth"]]
    )


def test_eval_prints_a_table_and_csv(lpz: Lpz, made: str) -> None:
    code, out, err = lpz("bench", "eval", made, *BRIEF)
    assert (code, err) == (0, "")
    assert "made · 12 trained architectures · minibatch 2 x 8 tokens" in out
    assert "Random scores exceed a rho of" in out
    code, out, err = lpz("bench", "eval", made, *BRIEF, "--csv")
    rows = {row["proxy"]: row for row in csv.DictReader(out.splitlines())}
    assert (code, err) == (0, "")
    assert set(rows) == {"nwot", *BASELINES}
    assert rows["nwot"]["n"] == "12"
    assert float(rows["nwot"]["spearman_low"]) <= float(rows["nwot"]["spearman"])
    assert rows["num_layers"]["spearman"] == ""  # all have one layer


def test_eval_writes_every_score_exactly(lpz: Lpz, made: str, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "scores.csv"
    code, out, _ = lpz("bench", "eval", made, *OPTIONS, "-p", "snip", "--scores", str(file), "--json")
    document = json.loads(out)
    assert code == 0
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["architecture"] for row in rows] == NAMES
    assert [float(row["truth"]) for row in rows] == document["truth"]
    assert [float(row["snip"]) for row in rows] == document["scores"]["snip"]


def test_eval_draws_a_plot_of_every_proxy(lpz: Lpz, made: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "plots"
    assert lpz("bench", "eval", made, *BRIEF, "--plots", str(folder))[0] == 0
    assert {file.stem for file in folder.iterdir()} == {"all", "nwot", *BASELINES}
    for file in folder.iterdir():
        assert file.suffix == ".png"
        assert file.read_bytes().startswith(b"\x89PNG")


def test_eval_uses_the_cache_unless_told_not_to(
    lpz: Lpz, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lpz("bench", "eval", made, *BRIEF, "--json")[1]
    assert len(kept(tmp_path / "cache")) == 12 * 5
    monkeypatch.setattr(evaluation, "build_model", None)
    code, out, err = lpz("bench", "eval", made, *BRIEF, "--json")
    assert (code, out, err) == (0, first, "")
    code, out, err = lpz("bench", "eval", made, *BRIEF, "--json", "--no-cache")
    assert json.loads(out)["scores"]["nwot"] == [None] * 12
    assert "warning: nwot has no score of 12 architectures, failed" in err
    limited = json.loads(lpz("bench", "eval", made, *BRIEF, "--json", "--limit", "4")[1])
    assert limited["architectures"] == NAMES[::3]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("made", "--limit", "2"), 2, "--limit"),
        (("made", "--seq-len", "1"), 2, "--seq-len"),
        (("made", "--json", "--csv"), 2, "choose one"),
        (("made", "-p", "snipp"), 2, "unknown proxy 'snipp'; did you mean 'snip'?"),
        (("maid",), 2, "unknown benchmark 'maid'"),
        (("gpt2-wt104",), 2, "did you mean 'gpt2-wt103'?"),
        (("made", "--text", "nowhere.txt"), 1, "cannot read the text 'nowhere.txt'"),
        (("made", "--seq-len", "129"), 1, "longer than the model's 128 positions"),
        (("made", "--scores", "made/benchmark.json/x"), 1, "cannot write 'made/benchmark.json/x'"),
        (("empty",), 1, "cannot read 'empty/benchmark.json'"),
        (("other",), 1, "'other/benchmark.json' is no benchmark made by `lpz bench train`"),
        (("newer",), 1, "'newer/benchmark.json' has version 2 of its format; this release reads 1"),
    ],
)
def test_bad_requests_get_one_line_and_an_exit_code(
    arguments: tuple[str, ...], code: int, message: str, lpz: Lpz, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(made).parent
    monkeypatch.chdir(folder)
    for name, document in (("empty", None), ("other", {"a": 1}), ("newer", {"format": FORMAT, "version": 2})):
        (folder / name).mkdir()
        if document is not None:
            (folder / name / "benchmark.json").write_text(json.dumps(document))
    options = [option for option in ("--seq-len", "8") if "--seq-len" not in arguments]
    got, out, err = lpz("bench", "eval", *arguments, "--batch-size", "2", "--workers", "1", "--device", "cpu", *options)
    assert (got, out) == (code, "")
    assert message in err
    if "--limit" not in arguments and message != "--seq-len":  # those are typer's, in a box
        assert err.startswith("error: ")
        assert err.count("\n") == 1


NAN = """
from lpzero_hf import hookimpl
print("a plugin talks")
def half_nan(model, batch):
    print("so does a proxy")
    return float("nan") if model.config.k == 1 else float(model.config.k)
def crash(model, batch):
    raise KeyError("gone")
@hookimpl
def lpz_proxies():
    return [half_nan, crash]
"""


def test_scores_that_are_missing_are_reported_and_the_output_stays_one_document(
    lpz: Lpz, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nan_plugin", raising=False)
    (tmp_path / "nan_plugin.py").write_text(NAN)
    points = [*entry_points(group="lpzero_hf"), EntryPoint("nan", "nan_plugin", "lpzero_hf")]
    monkeypatch.setattr("lpz_cli.bench.load_plugins", lambda off: PluginRegistry(off, points))
    code, out, err = lpz("bench", "eval", made, *OPTIONS, "-p", "half_nan", "-p", "crash", "--json")
    document = json.loads(out)
    grades = {g["proxy"]: g for g in document["grades"]}
    assert code == 0
    assert grades["half_nan"]["unscored"] == {"invalid: the score is nan": 4}
    assert grades["half_nan"]["agreement"]["n"] == 8
    assert document["scores"]["half_nan"][:5] == [None, None, None, None, 2.0]
    assert grades["crash"]["agreement"] is None
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert "warning: half_nan has no score of 4 architectures, invalid: the score is nan" in warnings
    assert "warning: crash has no score of 12 architectures, failed: KeyError: 'gone'" in warnings
    assert len(warnings) == 2


# Interruptions ------------------------------------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], list[int]]:
    """Count the models built to be scored, and do something at each."""

    def install(do: Callable[[int], None]) -> list[int]:
        numbers: list[int] = []

        @functools.wraps(build_model)
        def counted(*arguments: Any, **named: Any) -> PreTrainedModel:
            numbers.append(len(numbers))
            do(numbers[-1])
            return build_model(*arguments, **named)

        monkeypatch.setattr(evaluation, "build_model", counted)
        return numbers

    return install


@needs_fork
def test_a_killed_evaluation_goes_on_where_it_stopped(
    lpz: Lpz,
    made: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: Callable[[Callable[[int], None]], list[int]],
) -> None:
    def die_at_the_sixth(number: int) -> None:
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    command = ("bench", "eval", made, *BRIEF, "--json")
    built(die_at_the_sixth)
    process = forked(command, tmp_path / "killed.json")
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    halfway = kept(tmp_path / "cache")
    assert len(halfway) == 5 * 5  # architectures by proxies

    numbers = built(lambda number: None)
    code, out, err = lpz(*command)
    assert (code, err) == (0, "")
    assert len(numbers) == 12 - 5
    whole = kept(tmp_path / "cache")
    assert len(whole) == 12 * 5
    assert halfway.items() <= whole.items()
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "other"))
    assert facts(lpz(*command)[1]) == facts(out)
    assert len(numbers) == 12 - 5 + 12


@needs_fork
def test_two_evaluations_at_once_share_one_cache(
    lpz: Lpz,
    made: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: Callable[[Callable[[int], None]], list[int]],
) -> None:
    command = ("bench", "eval", made, *BRIEF, "--json")
    built(lambda number: time.sleep(0.05))  # so that they take turns
    others = [forked(command, tmp_path / f"{i}.json") for i in range(2)]
    code, out, _ = lpz(*command)
    for other in others:
        other.join(60)
    assert [code, *(other.exitcode for other in others)] == [0, 0, 0]
    assert facts((tmp_path / "0.json").read_text()) == facts((tmp_path / "1.json").read_text()) == facts(out)
    assert len(kept(tmp_path / "cache")) == 12 * 5
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "other"))
    assert facts(lpz(*command)[1]) == facts(out)


def test_ctrl_c_ends_the_command_and_its_workers_and_keeps_what_was_scored(made: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from lpz_cli.main import main; main()", "bench", "eval", made, "--workers", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        while not (tmp_path / "cache" / "scores.sqlite").exists() or not _scored(tmp_path / "cache"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        begin = time.monotonic()
        out, err = process.communicate(timeout=30)  # returns when the last process that holds the pipes has gone
    finally:
        process.kill()
    assert time.monotonic() - begin < 10
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    rows = kept(tmp_path / "cache")
    assert 0 < len({subject for subject, _ in rows}) < 12


def _scored(folder: Path) -> bool:
    try:
        return bool(kept(folder))
    except sqlite3.OperationalError:  # the table is being made
        return False


def test_a_proxy_of_a_plugins_name_does_not_get_its_scores(cache: ScoreCache) -> None:
    one = {"one": gpt2_config()}
    honest = evaluate(one, "num_layers", SMALL, cache=cache)["one"]["num_layers"]["value"]
    false = evaluate(one, ModelProxy(name="num_layers", formula="", evaluate=size), SMALL, cache=cache)
    assert honest == 1
    assert false["one"]["num_layers"]["value"] > 1000
    edited = ModelProxy(name="num_layers", formula="", evaluate=lambda subject: 7.0)
    assert evaluate(one, edited, SMALL, cache=cache)["one"]["num_layers"]["value"] == 7.0
    assert evaluate(one, "num_layers", SMALL, cache=cache)["one"]["num_layers"]["value"] == 1
