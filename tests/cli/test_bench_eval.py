"""`lpz bench eval`: what it prints and writes, what it refuses, and what is left when it is interrupted."""

from __future__ import annotations

import csv
import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from lpzero_hf.benchmarks.agreement import spearman
from lpzero_hf.benchmarks.benchmark import FORMAT
from lpzero_hf.benchmarks.grade import BASELINES
from lpzero_hf.benchmarks.matched import matched_agreement
from lpzero_hf.models.build import build_model
from lpzero_hf.plugins import PluginRegistry
from tests.support.forks import forked, needs_fork
from tests.support.trained import write_benchmark

Lpz = Callable[..., tuple[int, str, str]]
Built = Callable[[Callable[[int], None]], list[int]]  # installs what happens at each model; their numbers

NAMES = [f"d64.e32.k{k}-h{heads}.i{inner}" for k in (1, 2, 4) for heads in (1, 2) for inner in (64, 128)]
OPTIONS = ("--batch-size", "2", "--seq-len", "8", "--device", "cpu", "--workers", "1")
SCORED = 1 + len(BASELINES) + 1  # `nwot`; and the hidden size, which is not graded
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
    assert "12 trained" in out
    assert "Random" in out
    assert max(map(len, out.splitlines()[1:9])) <= 80
    more = lpz("bench", "eval", made, *BRIEF, "--more")[1]
    assert "tau-b" in more
    assert "regret of 5" in more
    code, out, err = lpz("bench", "eval", made, *BRIEF, "--csv")
    rows = {row["proxy"]: row for row in csv.DictReader(out.splitlines())}
    assert (code, err) == (0, "")
    assert set(rows) == {"nwot", *BASELINES}
    assert rows["nwot"]["n"] == "12"
    assert float(rows["nwot"]["spearman_low"]) <= float(rows["nwot"]["spearman"])
    assert rows["num_layers"]["spearman"] == ""  # all have one layer
    assert (rows["nwot"]["match"], rows["nwot"]["within"]) == ("decoder_params", "1.15")
    assert float(rows["nwot"]["matched_low"]) <= float(rows["nwot"]["matched"]) <= float(rows["nwot"]["matched_high"])
    assert float(rows["num_layers"]["matched"]) == 0


def test_eval_compares_architectures_of_one_size_as_it_is_told(lpz: Lpz, made: str) -> None:
    wanted = (("params", 1.5), ("num_heads", 1.0))
    for match, within in wanted:
        code, out, err = lpz("bench", "eval", made, *BRIEF, "--match", match, "--within", str(within), "--json")
        document = json.loads(out)
        assert (code, err) == (0, "")
        nwot = next(g for g in document["grades"] if g["proxy"] == "nwot")
        truth = [-loss for loss in document["truth"]]
        expected = matched_agreement(
            document["scores"]["nwot"], truth, document["scores"][match], within=within, match=match
        )
        assert nwot["agreement"]["matched"] == asdict(expected)
        assert document["matched"] == {"match": match, "within": within, "pairs": expected.pairs}
        assert nwot["beyond"]["regret"]


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


@pytest.mark.integration
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
    assert len(kept(tmp_path / "cache")) == 12 * SCORED
    monkeypatch.setattr("lpzero_hf.scoring.setting.build_model", None)
    code, out, err = lpz("bench", "eval", made, *BRIEF, "--json")
    assert (code, out, err) == (0, first, "")
    code, out, err = lpz("bench", "eval", made, *BRIEF, "--json", "--no-cache")
    assert json.loads(out)["scores"]["nwot"] == [None] * 12
    assert "nwot" in err
    limited = json.loads(lpz("bench", "eval", made, *BRIEF, "--json", "--limit", "4")[1])
    assert limited["architectures"] == NAMES[::3]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("made", "--limit", "2"), 2, "--limit"),
        (("made", "--seq-len", "1"), 2, "--seq-len"),
        (("made", "--json", "--csv"), 2, "--csv"),
        (("made", "-p", "snipp"), 2, "'snipp'"),
        (("made", "--within", "0.9"), 2, "0.9"),
        (("made", "--match", "parms"), 2, "'params'"),
        (("maid",), 2, "'maid'"),
        (("gpt2-wt104",), 2, "'gpt2-wt103'"),
        (("made", "--text", "nowhere.txt"), 1, "'nowhere.txt'"),
        (("made", "--seq-len", "129"), 1, "128 positions"),
        (("made", "--scores", "made/benchmark.json/x"), 1, "'made/benchmark.json/x'"),
        (("empty",), 2, "'empty' is empty"),
        (("other",), 1, "'other/benchmark.json'"),
        (("newer",), 1, "version 2"),
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
        assert [line[:7] for line in err.splitlines() if not line.startswith("warning: in ")] == ["error: "]


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
    assert list(grades["half_nan"]["unscored"].values()) == [4]
    assert grades["half_nan"]["agreement"]["n"] == 8
    assert document["scores"]["half_nan"][:5] == [None, None, None, None, 2.0]
    assert grades["crash"]["agreement"] is None
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert sum("half_nan" in line and "4" in line for line in warnings) == 1
    assert sum("'gone'" in line and "12" in line for line in warnings) == 1


# Interruptions ------------------------------------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Built:
    """Count the models built to be scored, and do something at each."""

    def install(do: Callable[[int], None]) -> list[int]:
        numbers: list[int] = []

        @functools.wraps(build_model)
        def counted(*arguments: Any, **named: Any) -> PreTrainedModel:
            numbers.append(len(numbers))
            do(numbers[-1])
            return build_model(*arguments, **named)

        monkeypatch.setattr("lpzero_hf.scoring.setting.build_model", counted)
        return numbers

    return install


@needs_fork
def test_a_killed_evaluation_goes_on_where_it_stopped(
    lpz: Lpz,
    made: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: Built,
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
    assert len(halfway) == 5 * SCORED  # architectures by proxies

    numbers = built(lambda number: None)
    code, out, err = lpz(*command)
    assert (code, err) == (0, "")
    assert len(numbers) == 12 - 5 + 1  # the last to see what kind of model they are
    whole = kept(tmp_path / "cache")
    assert len(whole) == 12 * SCORED
    assert halfway.items() <= whole.items()
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "other"))
    assert facts(lpz(*command)[1]) == facts(out)
    assert len(numbers) == 12 - 5 + 1 + 12 + 1


@needs_fork
@pytest.mark.integration
def test_two_evaluations_at_once_share_one_cache(
    lpz: Lpz,
    made: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: Built,
) -> None:
    command = ("bench", "eval", made, *BRIEF, "--json")
    built(lambda number: time.sleep(0.05))  # so that they take turns
    others = [forked(command, tmp_path / f"{i}.json") for i in range(2)]
    code, out, _ = lpz(*command)
    for other in others:
        other.join(60)
    assert [code, *(other.exitcode for other in others)] == [0, 0, 0]
    assert facts((tmp_path / "0.json").read_text()) == facts((tmp_path / "1.json").read_text()) == facts(out)
    assert len(kept(tmp_path / "cache")) == 12 * SCORED
    monkeypatch.setenv("LPZ_CACHE", str(tmp_path / "other"))
    assert facts(lpz(*command)[1]) == facts(out)


# a shell lets what it runs in the background ignore Ctrl-C
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from lpz_cli.main import main
main()
"""


@pytest.mark.integration
def test_ctrl_c_ends_the_command_and_its_workers_and_keeps_what_was_scored(made: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTIBLE, "bench", "eval", made, "--workers", "2"]
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
        out, err = process.communicate()  # returns when the last process that holds the pipes has gone
    finally:
        process.kill()
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
