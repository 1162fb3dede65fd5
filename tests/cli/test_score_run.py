"""`lpz score` while it works: rows pass by pass, Ctrl-C, what is left out for want of memory, and how it says so."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lpz_cli.score_live import LiveScores, duration
from lpz_proxies import own_passes

from lpzero_hf import load_model, minibatch
from lpzero_hf.models.layout import layout_of
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import Subject
from lpzero_hf.proxies.resolve import resolve
from lpzero_hf.scoring.expected_time import ExpectedTime
from lpzero_hf.scoring.memory_estimate import MemoryEstimate, estimate_memory
from lpzero_hf.scoring.run_plan import RunPlan
from lpzero_hf.scoring.scores import Score, Scores
from tests.support.families import tiny_model

Lpz = Callable[..., tuple[int, str, str]]
FREE = "lpzero_hf.scoring.memory_estimate.available_bytes"
SMALL = ("--batch-size", "4", "--seq-len", "16", "--device", "cpu")
NAMES = ("snip", "params", "grasp", "zen")


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """The folder of a small GPT-2."""
    tiny_model("gpt2").config.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


def patch_grasp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, evaluate: Callable[[Subject], float]) -> None:
    """Let grasp be another function."""
    patched = [replace(p, evaluate=evaluate) if p.name == "grasp" else p for p in own_passes.PROXIES]
    monkeypatch.setattr(own_passes, "PROXIES", patched)
    monkeypatch.setenv("LPZ_NO_PLUGINS", str(tmp_path))  # names no plugin: a registry that was offered nothing yet


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ctrl-C comes while grasp runs."""

    def interrupted(subject: Subject) -> float:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    patch_grasp(monkeypatch, tmp_path, interrupted)


def asked(*names: str) -> tuple[str, ...]:
    """Options that ask for proxies."""
    return tuple(word for name in names for word in ("-p", name))


def after_ctrl_c(lpz: Lpz, *arguments: str) -> str:
    """Standard output of a command that is interrupted."""
    code, out, _ = lpz(*arguments)
    assert code == 130
    return out


def values(out: str) -> dict[str, Any]:
    """The scores of the one model in a JSON document."""
    (model,) = json.loads(out)["models"]
    return {row["proxy"]: row["value"] for row in model["scores"]}


# Ctrl-C -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("interrupting")
def test_ctrl_c_keeps_the_rows_that_are_done(lpz: Lpz, tiny: str) -> None:
    whole = values(lpz("score", tiny, *asked("snip", "params", "zen"), *SMALL, "--json")[1])
    command = ("score", tiny, *asked(*NAMES), *SMALL)
    out = after_ctrl_c(lpz, *command, "--json")
    document = json.loads(out)
    assert document["interrupted"] is True
    assert document["models"][0]["missing"] == ["grasp"]
    assert values(out) == whole
    out = after_ctrl_c(lpz, *command)
    assert [name for name in NAMES if f"│ {name} " in out] == ["snip", "params", "zen"]
    out = after_ctrl_c(lpz, *command, "--csv")
    assert {row["proxy"]: float(row["score"]) for row in csv.DictReader(io.StringIO(out))} == whole


@pytest.mark.usefixtures("interrupting")
def test_ctrl_c_before_any_row_gives_an_empty_document_and_no_table(lpz: Lpz, tiny: str) -> None:
    command = ("score", tiny, tiny, *asked("grasp"), *SMALL)
    assert after_ctrl_c(lpz, *command) == ""
    document = json.loads(after_ctrl_c(lpz, *command, "--json"))
    assert [model["missing"] for model in document["models"]] == [["grasp"], ["grasp"]]
    assert not any("scores" in model for model in document["models"])


def test_ctrl_c_in_the_second_model_keeps_the_first_and_reaches_no_third(
    lpz: Lpz, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def interrupted(subject: Subject) -> float:
        called.append(type(subject.model).__name__)
        if len(called) == 2:
            signal.raise_signal(signal.SIGINT)
        return 7.0

    patch_grasp(monkeypatch, tmp_path, interrupted)
    for family in ("llama", "opt"):
        tiny_model(family).config.save_pretrained(tmp_path / family)
    models = (tiny, str(tmp_path / "llama"), str(tmp_path / "opt"))
    told: list[str] = []
    monkeypatch.setattr("lpz_cli.entry.go_on", told.append)
    out = after_ctrl_c(lpz, "score", *models, *asked("grasp", "params"), *SMALL, "--json")
    assert called == ["GPT2LMHeadModel", "LlamaForCausalLM"]
    first, second, third = json.loads(out)["models"]
    assert [model["missing"] for model in (first, second, third)] == [[], ["grasp"], ["grasp", "params"]]
    assert first["scores"][0]["value"] == 7.0
    assert [row["proxy"] for row in second["scores"]] == ["params"]
    assert "scores" not in third
    assert told == [f"; the same command for {models[1]} {models[2]} alone scores what is left"]


def test_only_whole_draws_are_kept_of_several_seeds(
    lpz: Lpz, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = values(lpz("score", tiny, *asked(*NAMES), *SMALL, "--json")[1])
    seeds: list[int] = []

    def interrupted(subject: Subject) -> float:
        seeds.append(subject.seed)
        if len(seeds) == 2:
            signal.raise_signal(signal.SIGINT)
        return own_passes.grasp(subject)

    patch_grasp(monkeypatch, tmp_path, interrupted)
    (model,) = json.loads(after_ctrl_c(lpz, "score", tiny, *asked(*NAMES), *SMALL, "--seeds", "3", "--json"))["models"]
    assert seeds == [42, 43]
    assert {row["proxy"]: row["value"] for row in model["scores"]} == first
    assert not any(row["seeds"] for row in model["scores"] if "seeds" in row)
    assert model["missing"] == list(NAMES)  # of the other draws


@pytest.mark.usefixtures("interrupting")
def test_an_interrupted_score_can_be_repeated_if_it_has_rows(
    lpz: Lpz, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = after_ctrl_c(lpz, "score", tiny, "-p", "all", *SMALL, "--json")
    (tmp_path / "part.json").write_text(out)
    none = after_ctrl_c(lpz, "score", tiny, *asked("grasp"), *SMALL, "--json")
    (tmp_path / "none.json").write_text(none)
    code, repeated, err = lpz("score", "--from", str(tmp_path / "part.json"), "--json")
    assert (code, values(repeated)) == (0, values(out))
    assert json.loads(repeated)["interrupted"] is False
    code, _, err = lpz("score", "--from", str(tmp_path / "none.json"))
    assert code == 1
    assert "interrupted before" in err


STOPPED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from dataclasses import replace
from lpz_proxies import own_passes
def slow(subject):
    print("ready", file=sys.stderr, flush=True)
    {waiting}
own_passes.PROXIES[:] = [replace(p, evaluate=slow) if p.name == "grasp" else p for p in own_passes.PROXIES]
from lpz_cli.entry import main
main()
"""
IMPORTING = "import importlib; sys.path.insert(0, {folder!r}); import waits_a_second; time.sleep(600)"


@pytest.mark.integration
@pytest.mark.parametrize("importing", [False, True])
def test_the_last_line_says_how_to_go_on(tiny: str, tmp_path: Path, importing: bool) -> None:
    (tmp_path / "waits_a_second.py").write_text("import sys, time\ntime.sleep(1)\nraise SystemExit\n")
    waiting = IMPORTING.format(folder=str(tmp_path)) if importing else "time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED.format(waiting=waiting), "score", tiny, *asked(*NAMES), *SMALL, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line == "ready\n":
            break
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert set(values(out)) == {"snip", "params", "zen"}
    assert err.splitlines()[-1] == "interrupted; the same command with -p grasp scores what is left"


# Memory -------------------------------------------------------------------------------------------------------


def expected(folder: str, *names: str, checkpointing: bool = False, micro_batch: int | None = None) -> MemoryEstimate:
    """What `lpz score` of that folder is expected to need."""
    plugins = load_plugins()
    model = load_model(folder, lazy=True).model
    batch = minibatch(model, batch_size=4, seq_len=16)
    return estimate_memory(
        model, batch, resolve(names, plugins), layout_of(model, plugins), checkpointing=checkpointing,
        micro_batch=micro_batch,
    )  # fmt: skip


@pytest.fixture
def too_small(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is memory for snip, and not for grasp."""
    free = (expected(tiny, "snip").bytes + expected(tiny, "grasp").bytes) // 2
    assert expected(tiny, "snip").bytes < free < expected(tiny, "grasp").bytes
    monkeypatch.setattr(FREE, lambda device: free)


@pytest.mark.usefixtures("too_small")
def test_a_proxy_that_does_not_fit_leaves_the_others_scored(lpz: Lpz, tiny: str) -> None:
    code, out, err = lpz("score", tiny, "-p", "all", *SMALL)
    assert code == 0
    assert "left out: it needs about" in out
    assert "warning: " in err
    assert "'grasp' is left out" in err
    code, out, _ = lpz("score", tiny, "-p", "all", *SMALL, "--json")
    rows = {row["proxy"]: row for row in json.loads(out)["models"][0]["scores"]}
    assert {name for name, row in rows.items() if row["status"] == "left out"} == {"grasp"}
    assert rows["grasp"]["value"] is None
    assert "are free" in rows["grasp"]["reason"]
    assert rows["snip"]["value"] is not None
    code, out, _ = lpz("score", tiny, "-p", "all", *SMALL, "--csv")
    (row,) = (row for row in csv.DictReader(io.StringIO(out)) if row["proxy"] == "grasp")
    assert (code, row["score"], row["status"], row["reason"]) == (0, "", "left out", rows["grasp"]["reason"])


@pytest.mark.usefixtures("too_small")
def test_a_proxy_asked_for_by_name_that_does_not_fit_is_an_error(lpz: Lpz, tiny: str) -> None:
    code, out, err = lpz("score", tiny, *asked("snip", "grasp"), *SMALL, "--json")
    assert code == 1
    assert values(out)["snip"] is not None
    assert "error: no score of 'grasp'" in err
    code, out, err = lpz("score", tiny, *asked("grasp"), *SMALL)  # alone
    assert (code, out) == (1, "")
    assert "--force" in err
    assert lpz("score", tiny, *asked("grasp"), *SMALL, "--force")[0] == 0


def test_recommended_proxies_that_do_not_fit_are_no_failure(
    lpz: Lpz, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lpzero_hf.scoring.memory_estimate.available_bytes", lambda device: 1)
    code, out, _ = lpz("score", tiny, *SMALL)
    assert "left out" in out
    assert code == 0


@pytest.mark.usefixtures("too_small")
def test_a_score_that_left_proxies_out_can_be_repeated_with_more_memory(
    lpz: Lpz, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = lpz("score", tiny, "-p", "all", *SMALL, "--json")[1]
    (tmp_path / "that.json").write_text(out)
    monkeypatch.setattr(FREE, lambda device: None)
    code, _, err = lpz("score", "--from", str(tmp_path / "that.json"))
    assert (code, f"all {len(values(out)) - 1} scores are those" in err) == (0, True)


@pytest.mark.usefixtures("too_small")
def test_a_plan_says_what_would_be_left_out(lpz: Lpz, tiny: str) -> None:
    code, out, _ = lpz("score", tiny, *asked("snip", "grasp"), *SMALL, "--plan")
    assert code == 0
    assert "'grasp' would be left out: it needs about" in out
    plan = json.loads(lpz("score", tiny, *asked("snip", "grasp"), *SMALL, "--plan", "--json")[1])["models"][0]["plan"]
    assert list(plan["left_out"]) == ["grasp"]
    assert [need["name"] for need in plan["passes"]] == ["loss"]


@pytest.mark.parametrize("micro", [False, True])
def test_what_memory_decided_is_recorded_and_repeated(
    lpz: Lpz, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro: bool
) -> None:
    plenty = values(lpz("score", tiny, *asked("snip", "nwot"), *SMALL, "--json")[1])
    free = expected(tiny, "snip", "nwot", checkpointing=True).bytes
    if micro:  # as on a GPU, where parts of a minibatch need less
        monkeypatch.setattr("lpzero_hf.scoring.run_plan.UNSURE", 10**9)
        free = 1
    monkeypatch.setattr(FREE, lambda device: free)
    settings = ("--micro-batch", "1", "--force") if micro else ()
    code, out, _ = lpz("score", tiny, *asked("snip", "nwot"), *SMALL, "--json", *settings)
    (model,) = json.loads(out)["models"]
    assert (code, model["checkpointing"], model["micro_batch"]) == (0, not micro, 1 if micro else None)
    assert (values(out) == plenty) is not micro  # checkpointing gives the same bits
    (tmp_path / "that.json").write_text(out)
    monkeypatch.setattr(FREE, lambda device: None)
    code, again, _ = lpz("score", "--from", str(tmp_path / "that.json"), "--json")
    assert (code, values(again)) == (0, values(out))
    (model,) = json.loads(again)["models"]
    assert (model["checkpointing"], model["micro_batch"]) == (not micro, 1 if micro else None)


def test_the_way_that_a_model_did_not_refuse_is_recorded(
    lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model("mixtral", output_router_logits=True).config.save_pretrained(tmp_path)
    plan = RunPlan(True, 1, instead=((True, None),))
    with monkeypatch.context() as patched:
        patched.setattr("lpzero_hf.scoring.run_plan.plan_run", lambda *given, **more: plan)
        code, out, _ = lpz("score", str(tmp_path), *asked("snip"), *SMALL, "--json")
    (model,) = json.loads(out)["models"]
    assert (code, model["checkpointing"], model["micro_batch"]) == (0, True, None)
    (tmp_path / "that.json").write_text(out)
    code, again, _ = lpz("score", "--from", str(tmp_path / "that.json"), "--json")
    assert (code, values(again)) == (0, values(out))


# While it works -----------------------------------------------------------------------------------------------


def test_what_takes_long_is_said_beforehand(lpz: Lpz, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpz_cli.score_run.LEAST", 0)
    monkeypatch.setattr("lpzero_hf.scoring.expected_time.measured_rate", lambda dtype, device: 1e5)
    code, _, err = lpz("score", tiny, *asked("snip", "grasp", "params"), *SMALL)
    (line,) = (line for line in err.splitlines() if " takes about " in line)
    assert code == 0
    assert line.index("grasp") < line.index("loss pass")  # the longest first
    assert "params" not in line
    assert "grasp" in lpz("score", tiny, *asked("snip", "grasp"), *SMALL, "--plan")[1]
    monkeypatch.undo()
    assert " takes about " not in lpz("score", tiny, *asked("snip"), *SMALL)[2]


def test_the_live_table_fills_and_tells_what_runs() -> None:
    live = LiveScores(2)
    live.begin(1, "mine")
    assert live.line() == "building: 0 s · mine (2 of 2)"
    live.expected = ExpectedTime({"loss pass": 4.0, "grasp": 12.0}, 60.0)
    live.step("loss pass", 0, 2)
    assert "loss pass: 0 s of about 4 min · pass 1 of 2 · 0 s of about 16 min in all" in live.line()
    live.scored(Scores((Score("params", 7.0, "ok", "", 1, "none", 0.0),)))
    live.scored(Scores((Score("params", 7.0, "ok", "", 1, "none", 0.0), Score("a", None, "failed", "", 1, "", 0.0))))
    assert live.rows == {"params": "7", "a": "—"}
    live.step("grasp", 1, 2)  # the first took no time at all, so neither will this one
    assert "grasp: 0 s of about 0 s · pass 2 of 2" in live.line()
    live.scored(Scores(()))  # all begins again
    assert live.rows == {}


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3905, "1 h 5 min")]
)
def test_durations_are_for_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


@pytest.mark.integration
def test_rows_appear_on_a_terminal_and_not_on_standard_output(tiny: str, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    waiting = "time.sleep(2); return 1.0"
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED.format(waiting=waiting), "score", tiny, *asked(*NAMES), *SMALL, "--json"],
        stdout=subprocess.PIPE, stderr=theirs, text=True, env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    drawn = b""
    try:
        while chunk := os.read(ours, 65536):
            drawn += chunk
    except OSError:  # the other end is closed
        pass
    assert process.stdout is not None
    out = process.stdout.read()
    assert process.wait() == 0
    assert set(values(out)) == set(NAMES)
    shown = drawn.decode()
    assert "snip" in shown
    assert "grasp: 1 s" in shown
    assert "pass 4 of 4" in shown
