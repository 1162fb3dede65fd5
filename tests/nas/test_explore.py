"""`lpz nas` by any objectives under any limits: what it finds, whatever stops it, and what it refuses."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lpz_nas import Appraised, explore, read_goals, read_limits
from lpz_nas.appraisal import Appraiser
from lpz_nas.explore import members
from lpz_nas.explored import none_inside, undominated
from lpz_nas.goals import Goal, Limit
from transformers import AutoConfig, AutoModelForCausalLM

from lpzero_hf import Cost, CostSubject, Deployment, Setting, load_plugins, load_space
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.models.layout import count_parameters

Lpz = Callable[..., tuple[int, str, str]]
SPACE = """\
name: small-llama
base: {model_type: llama, vocab_size: 4200, max_position_embeddings: 64, num_attention_heads: 2, intermediate_size: 32,
       bos_token_id: 1, eos_token_id: 2, pad_token_id: 0}
choices:
  hidden_size: [16, 32]
  num_hidden_layers: [1, 2, 3]
  num_key_value_heads: [1, 2]
"""
BRIEF = ("--batch-size", "2", "--seq-len", "8", "--prompt-len", "8")
PLUGINS = load_plugins()


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(SPACE, encoding="utf-8")
    return str(tmp_path / "small.yaml")


def cost(name: str, unit: str = "x", stage: Any = "shapes", value: float = 1.0) -> Cost:
    return Cost(name=name, unit=unit, summary="", measure=lambda subject: value, stage=stage)


def appraised(name: str, status: Any = "ok", **values: float) -> Appraised:
    return Appraised(name, status, values, values)


# Objectives and limits -------------------------------------------------------------------------------------


def test_the_front_is_what_nothing_beats_by_all_objectives() -> None:
    goals = [Goal("a", cost("a")), Goal("b", cost("b")), *read_goals(["proxy:num_heads"], PLUGINS, {})]
    score = "proxy:num_heads"
    tried = [
        appraised("beaten", a=2, b=2, **{score: 5}),
        appraised("small", a=1, b=2, **{score: 5}),
        appraised("equal", a=1, b=2, **{score: 5}),
        appraised("better", a=9, b=9, **{score: 6}),
        appraised("other", a=2, b=1, **{score: 1}),
    ]
    assert [one.architecture for one in undominated(tried, goals)] == ["small", "other", "better"]
    assert [one.architecture for one in undominated(tried, goals[2:])] == ["better"]


def test_limits_are_read_with_their_units() -> None:
    limits = read_limits(["params=50M", "latency=20ms"], ["kv_cache = 4KiB"], PLUGINS, {})
    assert [(limit.name, limit.bound) for limit in limits] == [
        ("max_params", 50e6), ("max_latency", 0.02), ("min_kv_cache", 4096),
    ]  # fmt: skip
    assert [limit.excess(50e6) <= 0 for limit in limits[:1]] == [True]  # the bound itself is within
    assert limits[0].excess(75e6) == pytest.approx(0.5)
    assert limits[2].excess(2048) == pytest.approx(0.5)
    table = {"phone": cost("phone", "seconds")}
    assert read_limits(["phone=5ms"], [], PLUGINS, table)[0].cost is table["phone"]


@pytest.mark.parametrize(
    ("most", "least", "word"),
    [
        (["parms=5M"], [], "'params'"), (["latency=20"], [], "20ms"), (["latency=20mz"], [], "mz"),
        (["params"], [], "COST="),
        (["=5"], [], "COST="), (["params=1M", "params=2M"], [], "twice"), (["params=1M"], ["params=2M"], "exchange"),
        (["params=0"], [], "above 0"),
    ],
)  # fmt: skip
def test_a_limit_that_is_none_is_refused(most: list[str], least: list[str], word: str) -> None:
    with pytest.raises(UsageError) as told:
        read_limits(most, least, PLUGINS, {})
    assert word in str(told.value)


@pytest.mark.parametrize(
    ("texts", "word"),
    [(["latncy"], "'latency'"), (["synflow"], "proxy:synflow"), (["proxy:synflw"], "'synflow'"), ([], "goals=proxy")],
)
def test_an_objective_that_is_none_is_refused(texts: list[str], word: str) -> None:
    with pytest.raises(UsageError) as told:
        read_goals(texts, PLUGINS, {})
    assert word in str(told.value)


def test_the_tightest_limit_is_the_one_that_fewest_satisfy() -> None:
    few, many = Limit(cost("few", "bytes"), 10.0, True), Limit(cost("many", "bytes"), 10.0, False)
    outside = [
        appraised("a", "outside", few=20.0, many=20.0), appraised("b", "outside", few=12.0, many=20.0),
        appraised("c", "outside", few=9.0, many=5.0), appraised("d", "outside", few=30.0),
    ]  # fmt: skip
    message = str(none_inside([few, many], outside))
    assert "tightest is few <= 10 B" in message
    assert "1 of 4" in message
    assert "9 B" in message
    assert "many >= 10 B" in message


# What is done for one architecture -------------------------------------------------------------------------


def test_cheap_limits_come_before_a_model_and_what_runs_comes_last(file: str) -> None:
    seen: list[str] = []

    def noting(name: str, stage: Any, value: float) -> Cost:
        def measure(subject: CostSubject) -> float:
            seen.append(name)
            return value

        return Cost(name=name, unit="x", summary="", measure=measure, stage=stage)

    def scored(model: Any, batch: Any) -> float:
        """the number of parameters"""
        seen.append("proxy")
        return float(count_parameters(model))

    space = load_space(file)
    run, passing, shape = noting("run", "run", 1), noting("pass", "pass", 1), noting("shape", "shapes", 1)
    from lpz_nas.evaluator import proxy_of

    goals = [Goal("run", run), Goal("proxy:scored", proxy_of(scored, PLUGINS))]

    def appraise(*limits: Limit) -> Appraised:
        seen.clear()
        appraiser = Appraiser(
            space, goals, limits, deployment=Deployment(), setting=Setting(2, 8), cache=None, plugins=PLUGINS
        )
        return appraiser(space.samples(1)[0])

    found = appraise(Limit(run, 2, True), Limit(passing, 2, True), Limit(shape, 2, True))
    assert (found.status, seen) == ("ok", ["shape", "pass", "proxy", "run"])
    assert set(found.values) == {"run", "proxy:scored"}
    found = appraise(Limit(run, 2, True), Limit(passing, 0.5, True), Limit(shape, 2, True))
    assert (found.status, seen) == ("outside", ["shape", "pass"])
    found = appraise(Limit(run, 0.5, True), Limit(passing, 0.5, True), Limit(shape, 0.5, True))
    assert (found.status, seen) == ("outside", ["shape"])
    found = appraise(Limit(run, 0.5, True))
    assert (found.status, seen) == ("outside", ["proxy", "run"])


# What is found ---------------------------------------------------------------------------------------------


def test_a_small_space_is_appraised_whole_and_its_front_can_be_built(lpz: Lpz, tmp_path: Path, file: str) -> None:
    out = tmp_path / "run"
    wanted = ("nas", file, "-o", "proxy:num_heads", "-o", "kv_cache", "--max", "kv_cache=500B", "--max", "params=146k")
    code, printed, err = lpz(*wanted, "--out", str(out), *BRIEF, "--plots")
    assert (code, err) == (0, "")
    document = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert document["request"]["strategy"] == "exact"
    space = load_space(file)
    assert len(document["within"]) + document["outside"] == len(members(space)) == 12
    # by hand: 16 wide, so 64 bytes for keys and values of one head of 8 features; deeper is better, fewer heads cheaper
    front = [(one["values"]["proxy:num_heads"], one["values"]["kv_cache"]) for one in document["front"]]
    assert front == [(6.0, 3 * 64.0), (4.0, 2 * 64.0), (2.0, 64.0)]
    assert all(one["costs"]["params"] <= 146_000 for one in document["within"])
    assert (out / "plots" / "front.png").read_bytes().startswith(b"\x89PNG")
    for place, one in enumerate(document["front"]):
        assert one["architecture"] in printed
        config = AutoConfig.from_pretrained(out / "front" / f"{place:03}")
        model = AutoModelForCausalLM.from_config(config)
        assert count_parameters(model) == one["costs"]["params"]


def test_one_objective_has_one_winner(lpz: Lpz, tmp_path: Path, file: str) -> None:
    wanted = ("nas", file, "-p", "num_heads", "--max", "params=1e6", "--min-params", "1k", "--json", *BRIEF)
    code, printed, _ = lpz(*wanted, "--out", str(tmp_path / "run"))
    document = json.loads(printed)
    assert code == 0
    assert [one["values"] for one in document["front"]] == [{"proxy:num_heads": 6.0}]
    assert document["request"]["limits"] == {"max_params": 1e6, "min_params": 1000}
    assert [path.name for path in (tmp_path / "run" / "front").iterdir()] == ["000"]


@pytest.mark.parametrize("strategy", ["nsga2", "tpe", "evolution", "random"])
def test_every_strategy_finds_the_same_for_one_seed_and_keeps_the_limits(
    lpz: Lpz, tmp_path: Path, file: str, strategy: str
) -> None:
    found = []
    for name, seed in (("a", "1"), ("b", "1")):
        wanted = ("nas", file, "-o", "proxy:num_heads", "-o", "params", "--max", "params=146k", "--strategy", strategy)
        code, printed, _ = lpz(
            *wanted, "--trials", "3", "--out", str(tmp_path / name), "--json", "--seed", seed, *BRIEF
        )
        assert code == 0
        document = json.loads(printed)
        assert document["request"]["strategy"] == strategy
        assert len(document["within"]) == 3
        assert all(one["costs"]["params"] <= 146_000 for one in document["within"])
        found.append((document["within"], document["front"]))
    assert found[0] == found[1]


def test_a_limit_of_a_table_and_a_measured_objective(lpz: Lpz, tmp_path: Path, file: str) -> None:
    space = load_space(file)
    rows = [f'"{space.text(one)}",{place}' for place, one in enumerate(members(space), 1)]
    (tmp_path / "phone.csv").write_text("\n".join(["architecture,latency_ms", *rows[:6]]), encoding="utf-8")
    code, printed, err = lpz(
        "nas", file, "-o", "decode_latency", "--max", "latency_ms=3ms", "--cost-table", str(tmp_path / "phone.csv"),
        "--repeats", "1", "--warmup", "0", "--json", "--out", str(tmp_path / "run"), *BRIEF[4:],
    )  # fmt: skip
    document = json.loads(printed)
    assert code == 0
    assert [one["architecture"] for one in document["within"]] == [space.text(one) for one in members(space)[:3]]
    assert (document["outside"], len(document["failed"])) == (3, 6)  # six are not in the table
    assert "phone.csv" in err


@pytest.mark.integration
def test_trained_architectures_are_compared_under_any_limit(lpz: Lpz, tmp_path: Path) -> None:
    wanted = ("nas", "--among", "tiny-gpt2", "-o", "proxy:num_heads", "-o", "params", "--max", "weights=1MB", "--json")
    code, printed, _ = lpz(*wanted, "--out", str(tmp_path / "run"), *BRIEF)
    document = json.loads(printed)
    assert code == 0
    assert document["request"]["strategy"] == "exact"
    assert document["outside"] > 0
    assert all(one["costs"]["weights"] <= 10**6 for one in document["within"])
    code, _, err = lpz(*wanted, "--strategy", "tpe", "--out", str(tmp_path / "b"), *BRIEF)
    assert (code, "--strategy" in err) == (2, True)


# What stops it ---------------------------------------------------------------------------------------------


def killed(arguments: list[str], study: Path, trials: int) -> None:
    """Run `lpz` and kill it once its study has so many finished trials."""
    code = "import sys; from lpz_cli.main import run; sys.exit(run(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        if study.exists():
            try:
                with sqlite3.connect(f"file:{study}?mode=ro", uri=True) as connection:
                    (done,) = connection.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
            except sqlite3.OperationalError:  # not yet there, or just being written
                done = 0
            if done >= trials:
                break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"


@pytest.mark.integration
@pytest.mark.parametrize("strategy", ["nsga2", "exact"])
def test_a_search_that_was_killed_finds_what_it_would_have(lpz: Lpz, tmp_path: Path, file: str, strategy: str) -> None:
    wanted = ["nas", file, "-o", "proxy:synflow", "-o", "kv_cache", "--max", "params=146k", "--max", "kv_cache=1KiB"]
    wanted += ["--strategy", strategy, *BRIEF, *(() if strategy == "exact" else ("--trials", "4"))]
    out = tmp_path / "killed"
    killed([*wanted, "--out", str(out)], out / "study.sqlite", 2)
    assert not (out / "result.json").exists()
    assert lpz(*wanted, "--out", str(out))[0] == 2  # it is there already
    assert lpz(*wanted, "--out", str(out), "--resume")[0] == 0
    assert lpz(*wanted, "--out", str(tmp_path / "whole"))[0] == 0
    found = [json.loads((tmp_path / name / "result.json").read_text("utf-8")) for name in ("killed", "whole")]
    assert found[0]["within"] == found[1]["within"]
    assert found[0]["front"] == found[1]["front"]
    code, _, err = lpz(*wanted, "--out", str(out), "--resume", "--max", "flops=1T")
    assert (code, "flops" in err) == (2, True)


def test_a_second_run_in_one_folder_is_refused_and_nothing_is_lost(lpz: Lpz, tmp_path: Path, file: str) -> None:
    out = tmp_path / "run"
    wanted = ("nas", file, "-o", "params", "--max", "params=1M", "--out", str(out), *BRIEF[4:])
    tried: list[tuple[int, str]] = []

    def second(done: int, total: int, best: float | None) -> None:
        if done == 2 and not tried:
            code, _, err = lpz(*wanted)
            tried.append((code, err))

    space = load_space(file)
    found = explore(
        space, read_goals(["params"], PLUGINS, {}), read_limits(["params=1M"], [], PLUGINS, {}), out=out,
        setting=Setting(2, 8), progress=second,
    )  # fmt: skip
    ((code, err),) = tried
    assert (code, "another process" in err) == (2, True)
    assert len(found.within) == 12
    assert len(json.loads((out / "result.json").read_text("utf-8"))["within"]) == 12


# What is refused -------------------------------------------------------------------------------------------


def test_limits_that_nothing_satisfies_are_told_with_the_tightest(lpz: Lpz, tmp_path: Path, file: str) -> None:
    out = tmp_path / "run"
    wanted = ("nas", file, "-o", "proxy:num_heads", "--max", "kv_cache=10B", "--max", "params=1M", "--out", str(out))
    code, printed, err = lpz(*wanted, *BRIEF)
    assert (code, printed, err.count("\n")) == (1, "", 1)
    assert "kv_cache <= 10 B" in err
    assert "64 B" in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("-o", "latncy"), "'latency'"),
        (("-o", "latency", "--max", "latency=20"), "20ms"),
        (("-o", "latency", "--max", "latency=20ms", "--device", "cuda:77"), "cuda:77"),
        (("-o", "params", "--max", "parms=1M"), "'params'"),
        (("-o", "params", "--min", "params=2M", "--max", "params=1M"), "exchange"),
        (("--max", "params=1M"), "--objective"),
        (("-p", "num_heads"), "--max"),
        (("-p", "num_heads", "-p", "num_layers", "--max-params", "1M"), "--objective proxy:num_heads --objective"),
        (("-p", "num_heads", "-p", "num_layers", "--max", "params=1M"), "--objective proxy:num_layers"),
        (("-o", "params", "--resume"), "to resume"),
        (("-o", "params", "--executor", "process"), "--executor"),
    ],
)
def test_what_cannot_be_asked_is_wrong_usage(
    lpz: Lpz, tmp_path: Path, file: str, arguments: tuple[str, ...], word: str
) -> None:
    brief = BRIEF if "-p" in arguments else BRIEF[4:]  # a minibatch is of proxies
    code, printed, err = lpz("nas", file, *arguments, "--out", str(tmp_path / "run"), *brief)
    assert (code, printed, word in err, err.count("\n")) == (2, "", True, 1), err
    assert not (tmp_path / "run").exists()


def test_a_large_space_is_not_enumerated() -> None:
    with pytest.raises(UsageError, match="strategy=exact"):
        members(load_space("llama"))


def test_an_objective_that_nothing_has_is_told(lpz: Lpz, tmp_path: Path) -> None:
    wanted = ("nas", "tiny-gpt2", "-o", "kv_cache", "--max", "params=2M", "--out", str(tmp_path / "run"), *BRIEF[4:])
    code, _, err = lpz(*wanted)
    assert (code, "kv_cache" in err, err.count("\n")) == (1, True, 1)
    assert not (tmp_path / "run").exists()


def test_a_search_in_python_needs_an_objective(tmp_path: Path) -> None:
    for wrong in (dict(goals=[]), dict(goals=read_goals(["params"], PLUGINS, {}), trials=0)):
        with pytest.raises(UsageError):
            explore("llama", out=tmp_path / "run", **wrong)  # type: ignore[arg-type]
    with pytest.raises(LpzError):
        explore(None, read_goals(["params"], PLUGINS, {}), out=tmp_path / "run")
