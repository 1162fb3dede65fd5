"""Large models among many: scored alone, with the proxies that the free memory allows."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lpz_zoo.benchmarks
import pytest
from lpz_cli.wording import as_options
from lpz_zoo.benchmarks import BENCHMARKS, gemstones_rows
from transformers import GemmaConfig

from lpzero_hf.benchmarks.benchmark import Trained
from lpzero_hf.executors.local import LocalExecutor
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.lazy import Source
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.resolve import resolve
from lpzero_hf.scoring import fitting as module
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.fitting import NARROWER, TOO_LARGE
from lpzero_hf.scoring.memory_estimate import MemoryEstimate, estimate_memory
from lpzero_hf.scoring.score import score_proxies
from tests.support.architectures import SMALL, TWO, gpt2_config
from tests.support.evaluated import evaluate
from tests.support.forks import forked, needs_fork

Lpz = Callable[..., tuple[int, str, str]]
FREE = "lpzero_hf.scoring.memory_estimate.available_bytes"
NAMES = ["params", "l2_norm", "nwot", "snip", "grasp", "zico"]


def expected(names: Any = "all", width: int = 64, layers: int = 1) -> MemoryEstimate:
    """What a small model is expected to need."""
    plugins = load_plugins()
    model = SMALL.model(gpt2_config(width, layers), lazy=True)
    return estimate_memory(model, SMALL.minibatch(model), resolve(names, plugins), layout_of(model, plugins))


def between(estimate: MemoryEstimate, less: str, more: str) -> int:
    """Bytes that are enough for one pass and not for another."""
    needs = {need.name: estimate.weights + need.total for need in estimate.passes}
    assert needs[less] < needs[more]
    return (needs[less] + needs[more]) // 2


def test_a_proxy_fits_if_it_would_without_the_others() -> None:
    estimate = expected()
    for free in (0, estimate.weights, between(estimate, "loss", "grasp"), estimate.bytes):
        tight = replace(estimate, available=free)
        alone = [proxy for proxy in estimate.proxies if replace(expected([proxy]), available=free).fits]
        at_once = tight.fitting()
        assert [proxy for proxy in at_once if proxy.requires == "model"] == [
            proxy for proxy in alone if proxy.requires == "model"
        ]
        assert {proxy.name for proxy in estimate.proxies if proxy.requires != "model"} <= {p.name for p in at_once}
    assert replace(estimate, available=None).fitting() == estimate.proxies


def test_proxies_that_do_not_fit_fail_and_the_others_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {"one": gpt2_config(64)}
    whole = evaluate(configs, NAMES, SMALL)["one"]
    free = between(expected(NAMES), "loss", "grasp")
    monkeypatch.setattr(FREE, lambda device: free)
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        rows = evaluate(configs, NAMES, SMALL, cache=cache)["one"]
        assert list(rows) == NAMES
        for name in ("grasp", "zico"):
            assert (rows[name]["status"], rows[name]["reason"]) == ("failed", NARROWER)
        for name in ("params", "l2_norm", "nwot", "snip"):
            assert rows[name]["value"] == whole[name]["value"]
        monkeypatch.setattr(FREE, lambda device: None)
        asked: list[int] = []
        monkeypatch.setattr(
            module, "estimate_memory", lambda *a, **k: asked.append(len(a[2])) or estimate_memory(*a, **k)
        )
        rows = evaluate(configs, NAMES, SMALL, cache=cache)["one"]
        assert asked == [2]  # only those that had failed
        assert rows["grasp"]["value"] == whole["grasp"]["value"]


def test_a_model_that_fits_with_checkpointing_alone_is_scored_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configs, ways, estimate = {"one": gpt2_config(64, layers=8)}, [], expected("snip", layers=8)

    def noted(*given: Any, **named: Any) -> Any:
        ways.append(given[3].checkpointing)
        return score_proxies(*given, **named)

    monkeypatch.setattr("lpzero_hf.scoring.evaluate.score_proxies", noted)
    whole = evaluate(configs, ["snip"], SMALL)["one"]["snip"]
    free = estimate.having(True, None).bytes
    assert free < estimate.bytes
    monkeypatch.setattr(FREE, lambda device: free)
    row = evaluate(configs, ["snip"], SMALL)["one"]["snip"]
    assert (row["status"], row["value"]) == ("ok", whole["value"])
    assert ways == [False, True]


def test_where_no_weights_fit_only_counts_are_scored_and_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*arguments: Any) -> None:
        raise AssertionError("it was built")

    monkeypatch.setattr("lpzero_hf.models.build.Source", lambda whole, reader, device: Source(build, reader, device))
    monkeypatch.setattr(FREE, lambda device: 1000)
    rows = evaluate({"one": gpt2_config(64)}, NAMES, replace(SMALL, dtype="bfloat16"))["one"]
    assert {name: row["status"] for name, row in rows.items()} == {
        "params": "ok", "l2_norm": "ok", "nwot": "failed", "snip": "failed", "grasp": "failed", "zico": "failed",
    }  # fmt: skip
    assert rows["snip"]["reason"] == TOO_LARGE


class Sharing(LocalExecutor):
    """Says that two tasks run at a time, and notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[int] = []

    @property
    def sharing(self) -> int:
        return 2

    def map(self, work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        self.given.append(len(tasks))
        return super().map(work, tasks)


def test_what_needs_more_than_its_share_is_scored_alone_after_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = {"large": gpt2_config(64), **TWO}
    free = expected("snip").bytes + 1
    assert 2 * expected("snip", 24).bytes < free < 2 * expected("snip").bytes
    monkeypatch.setattr(FREE, lambda device: free)
    executor, done = Sharing(), []
    rows = evaluate(configs, "snip", SMALL, executor=executor, progress=lambda *event: done.append(event))
    assert executor.given == [3, 1]
    assert done == [(0, 3), (1, 3), (2, 3), (3, 3)]
    monkeypatch.setattr(FREE, lambda device: None)
    assert [row["snip"]["value"] for row in rows.values()] == [
        row["snip"]["value"] for row in evaluate(configs, "snip", SMALL).values()
    ]


def test_a_model_far_from_the_limits_costs_no_further_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def counted(*arguments: Any, **named: Any) -> MemoryEstimate:
        asked.append(named.get("rough", False))
        return estimate_memory(*arguments, **named)

    monkeypatch.setattr(module, "estimate_memory", counted)
    monkeypatch.setattr(FREE, lambda device: 4 * 2**30)
    evaluate({"one": gpt2_config()}, ["snip", "grasp"], SMALL)
    assert asked == [True]
    monkeypatch.setattr(FREE, lambda device: 2**30)
    evaluate({"one": gpt2_config()}, ["snip", "grasp"], SMALL)
    assert asked == [True, True, False]


# Gemstones ----------------------------------------------------------------------------------------------------


def stand_in(shared: Any, layers: Any) -> GemmaConfig:
    """A Gemstone so small that many are scored in a test."""
    return GemmaConfig(
        vocab_size=4096, hidden_size=shared["width"] // 16, num_hidden_layers=len(layers) // 8 + 1, head_dim=8,
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=shared["width"] // 4,
        tie_word_embeddings=False,
    )  # fmt: skip


RUNS = [(256, 23), (256, 27), (384, 13), (512, 11), (512, 12), (768, 3)]


@pytest.fixture
def gemstones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark over stand-ins, with a file of six runs; the cache is a new one."""
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "cache"))
    rows = [
        {"run_name": f"PyGemma-{w}x{d}_pretrain", "params_active_precise": w * w * d, "width": w, "depth": d,
         "tokens": 100034150400, "final_loss": 4 - w * d / 1e4}
        for w, d in RUNS
    ]  # fmt: skip
    (tmp_path / "wandb_df_for_fitting_hot_100b+.jsonl").write_text("\n".join(map(json.dumps, rows)))
    real = next(benchmark for benchmark in BENCHMARKS if benchmark.name == "gemstones")
    space = replace(real.space, build=stand_in)
    rows_read = gemstones_rows(tmp_path)
    entries = [Trained(row["key"], row["architecture"], row["final_loss"]) for row in rows_read]
    small = replace(real, space=space, read=lambda: entries)
    monkeypatch.setattr(lpz_zoo.benchmarks, "BENCHMARKS", [small])
    monkeypatch.setenv("LPZ_NO_PLUGINS", str(tmp_path))  # names no plugin: a registry that was offered nothing yet


COMMAND = ("bench", "eval", "gemstones", "-p", "snip", "-p", "l2_norm", "--workers", "1", "--device", "cpu", "--json")


@needs_fork
@pytest.mark.usefixtures("gemstones")
def test_a_killed_evaluation_of_gemstones_goes_on_from_its_cache(
    lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []

    def counted(model: Any, *arguments: Any, **named: Any) -> Any:
        if len(scored) == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        scored.append(type(model).__name__)
        return module.fitting(model, *arguments, **named)

    monkeypatch.setattr("lpzero_hf.scoring.evaluate.fitting", counted)
    dies = 4
    process = forked(COMMAND, tmp_path / "killed.json")
    process.join(100)
    assert process.exitcode == -signal.SIGKILL
    dies = -1
    code, out, err = lpz(*COMMAND)
    assert (code, err) == (0, "")
    assert scored == ["GemmaForCausalLM"] * 2  # of six
    (snip,) = (graded for graded in json.loads(out)["grades"] if graded["proxy"] == "snip")
    assert snip["agreement"]["n"] == 6


@pytest.mark.usefixtures("gemstones")
def test_what_does_not_fit_is_said_once_and_the_rest_is_graded(lpz: Lpz, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = load_plugins()
    (benchmark,) = lpz_zoo.benchmarks.BENCHMARKS
    largest = benchmark.space.config(benchmark.space.parse("w768-l3"))
    model = replace(SMALL, batch_size=4, seq_len=64).model(largest, lazy=True)
    batch = replace(SMALL, batch_size=4, seq_len=64).minibatch(model)
    estimate = estimate_memory(model, batch, resolve(["snip", "grasp"], plugins), layout_of(model, plugins))
    monkeypatch.setattr(FREE, lambda device: between(estimate, "loss", "grasp"))
    code, out, err = lpz(*COMMAND, "-p", "grasp")
    assert code == 0
    (line,) = (line for line in err.splitlines() if "grasp" in line)
    assert line.startswith(f"warning: grasp has no score of {sum(_lacking(out, 'grasp'))} architectures")
    assert line.endswith(f"failed: {as_options(NARROWER)}")
    assert not any(_lacking(out, "snip"))


def _lacking(out: str, proxy: str) -> list[bool]:
    """Of each architecture, whether it has no score."""
    return [value is None for value in json.loads(out)["scores"][proxy]]
