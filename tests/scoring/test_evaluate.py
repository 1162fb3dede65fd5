"""Many architectures scored: one by one's numbers, whatever the cache and the workers."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lpzero_hf import Reduction, expression_proxy, parse
from lpzero_hf.errors import MinibatchError, NotApplicable, UsageError
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.executors.process import ProcessExecutor
from lpzero_hf.proxies.base import ModelProxy, StatisticProxy, Subject
from lpzero_hf.scoring import evaluate as evaluation
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.score import score_proxies
from lpzero_hf.scoring.setting import Setting
from tests.support.architectures import CONFIGS, SMALL, TWO, gpt2_config, one_by_one, size
from tests.support.evaluated import evaluate

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
# cannot be built: 15 features are not divisible by 2 heads
BROKEN = gpt2_config(15)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ScoreCache]:
    with ScoreCache(tmp_path / "cache" / "scores.sqlite") as opened:
        yield opened


class Counting:
    """Makes proxies that count how often they run; `does` replaces what they return."""

    def __init__(self, file: Path) -> None:
        self.file = file  # and not a list, which a proxy would read, so that its scores would be made anew

    @property
    def calls(self) -> list[str]:
        return self.file.read_text().split() if self.file.exists() else []

    def proxy(self, name: str, does: Callable[[Subject], float] = lambda subject: 1.0, **facts: Any) -> ModelProxy:
        def run(subject: Subject) -> float:
            with self.file.open("a") as opened:
                opened.write(f"{name} ")
            return does(subject)

        return ModelProxy(name=name, formula="", evaluate=run, **facts)


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "calls")


def untimed(rows: Rows) -> dict[str, dict[str, dict[str, Any]]]:
    """Everything but the seconds, with every bit of the values."""
    return {
        name: {
            proxy: {k: v.hex() if isinstance(v, float) else v for k, v in row.items() if k != "seconds"}
            for proxy, row in by_proxy.items()
        }
        for name, by_proxy in rows.items()
    }


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
    slow = lambda *a, **k: replace(score_proxies(*a, **k), seconds={"loss": 1000.0})  # noqa: E731
    monkeypatch.setattr(evaluation, "score_proxies", slow)
    rows = evaluate(TWO, ["num_heads", "snip", "params"], SMALL)
    assert [list(by_proxy) for by_proxy in rows.values()] == [["num_heads", "snip", "params"]] * 2
    assert all(row["seconds"] > 1000 for row in (rows["narrow"]["snip"], rows["wide"]["snip"]))
    assert all(row["seconds"] < 1000 for row in (rows["narrow"]["params"], rows["wide"]["num_heads"]))


def named_function(model: PreTrainedModel, batch: dict[str, Any]) -> float:
    return float(model(**batch).logits.detach().double().sum())


@pytest.mark.integration
def test_two_workers_give_the_bits_of_one_and_fill_the_cache(
    cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies = ["all", named_function]
    alone = evaluate(CONFIGS | {"broken": BROKEN}, proxies, SMALL)
    threads, told = torch.get_num_threads(), []
    together = evaluate(
        CONFIGS | {"broken": BROKEN}, proxies, SMALL, cache=cache, executor=ProcessExecutor(2),
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert untimed(together) == untimed(alone)
    assert told == [(i, 4) for i in range(5)]
    assert torch.get_num_threads() == threads
    monkeypatch.setattr("lpzero_hf.scoring.setting.build_model", None)
    assert evaluate(CONFIGS, proxies, SMALL, cache=cache) == {name: together[name] for name in CONFIGS}


def test_one_architecture_that_cannot_be_built_does_not_stop_the_others(cache: ScoreCache) -> None:
    for _ in range(2):  # from the cache, too
        rows = evaluate({"broken": BROKEN} | TWO, ["snip", "params"], SMALL, cache=cache)
        assert [rows[name]["snip"]["status"] for name in rows] == ["failed", "ok", "ok"]
        assert rows["broken"]["params"]["value"] is None
        assert "15" in rows["broken"]["params"]["reason"]


def test_what_is_wrong_for_every_architecture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MinibatchError, match="text"):
        evaluate(TWO, "snip", replace(SMALL, text=tmp_path / "nowhere.txt"))
    with pytest.raises(MinibatchError, match="32 positions"):
        evaluate(TWO, "snip", replace(SMALL, seq_len=33))
    with pytest.raises(UsageError, match="'snipp'"):
        evaluate(TWO, "snipp", SMALL)


# The cache ----------------------------------------------------------------------------------------------------


def test_a_second_call_builds_nothing_and_returns_the_same_rows(
    cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(CONFIGS, "all", SMALL, cache=cache)
    monkeypatch.setattr("lpzero_hf.scoring.setting.build_model", None)
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
    monkeypatch.setattr("lpzero_hf.scoring.setting.build_model", None)
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


def test_scores_of_another_number_of_threads_are_made_anew(cache: ScoreCache, counting: Counting) -> None:
    proxy = counting.proxy("p")
    for threads, calls in ((1, 2), (2, 4), (2, 4), (1, 4)):
        evaluate(TWO, [proxy], SMALL, cache=cache, executor=LocalExecutor(threads))
        assert len(counting.calls) == calls


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


@pytest.mark.parametrize(
    "place",
    [
        "lpzero_hf.scoring.setting.STATISTICS",
        "lpzero_hf.scoring.setting.READING",
        "torch.__version__",
        "transformers.__version__",
    ],
)
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
    def at_first(subject: Subject) -> float:
        if len(counting.calls) <= len(TWO):
            raise OSError("no luck")
        return 1.0

    proxy = counting.proxy("p", at_first)
    rows = evaluate(TWO, [proxy, "params"], SMALL, cache=cache)
    assert rows["wide"]["p"]["status"] == "failed"
    assert rows["wide"]["p"]["reason"].endswith("no luck")
    for _ in range(2):
        rows = evaluate(TWO, [proxy, "params"], SMALL, cache=cache)
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
    assert first["wide"]["p"]["reason"].split()[-1] in ("luck", "nan")


def test_configurations_stay_as_they_were(counting: Counting) -> None:
    before = {name: config.to_dict() for name, config in CONFIGS.items()}
    evaluate(CONFIGS, [counting.proxy("p")], replace(SMALL, dtype="float64"))
    assert {name: config.to_dict() for name, config in CONFIGS.items()} == before


def test_an_interrupted_call_goes_on_where_it_stopped(cache: ScoreCache, counting: Counting) -> None:
    def interrupt(subject: Subject) -> float:
        if len(counting.calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return float(subject.model.config.n_embd)

    configs = {str(width): gpt2_config(width) for width in (8, 16, 24, 32)}
    proxy = counting.proxy("p", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate(configs, [proxy], SMALL, cache=cache)
    rows = evaluate(configs, [proxy], SMALL, cache=cache)
    assert len(counting.calls) == 3 + 2
    assert [row["p"]["value"] for row in rows.values()] == [8, 16, 24, 32]


def test_a_proxy_of_a_plugins_name_does_not_get_its_scores(cache: ScoreCache) -> None:
    one = {"one": gpt2_config()}
    honest = evaluate(one, "num_layers", SMALL, cache=cache)["one"]["num_layers"]["value"]
    false = evaluate(one, ModelProxy(name="num_layers", formula="", evaluate=size), SMALL, cache=cache)
    assert honest == 1
    assert false["one"]["num_layers"]["value"] > 1000
    edited = ModelProxy(name="num_layers", formula="", evaluate=lambda subject: 7.0)
    assert evaluate(one, edited, SMALL, cache=cache)["one"]["num_layers"]["value"] == 7.0
    assert evaluate(one, "num_layers", SMALL, cache=cache)["one"]["num_layers"]["value"] == 1


def test_a_proxy_that_reads_something_else_is_another_proxy(cache: ScoreCache) -> None:
    def norm(X: Tensor) -> Tensor:
        return X.norm()

    def mine(place: Any, statistic: Any) -> StatisticProxy:
        return StatisticProxy(name="mine", formula="|X|", reductions=(Reduction(place, (statistic,), norm),))

    changed = [mine("linear", "W"), mine("ffn_linear", "W"), mine("linear", "G")]
    kept = [evaluate(TWO, proxy, SMALL, cache=cache)["wide"]["mine"]["value"] for proxy in changed]
    assert kept == [evaluate(TWO, proxy, SMALL)["wide"]["mine"]["value"] for proxy in changed]
    assert len(set(kept)) == 3


def test_a_kept_score_has_the_orientation_that_its_proxy_has_now(cache: ScoreCache) -> None:
    expression = parse("sum(sum(product(abs(W), abs(G))))")
    for orientation in (1, -1):
        proxy = expression_proxy(expression, orientation=orientation)
        rows = evaluate(TWO, proxy, SMALL, cache=cache)
        assert {row[proxy.name]["orientation"] for row in rows.values()} == {orientation}
