"""`lpz nas`: what it finds under a budget, whatever stops it, and what it refuses."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from lpz_nas import Budget, ProxyEvaluator, Tried, count, find_architecture
from lpz_nas.candidates import compare
from lpz_nas.folder import replacing_folder
from lpz_nas.optuna_study import create_study, suggest
from lpz_nas.outcome import best, pareto
from lpz_nas.space_search import search_space
from transformers import AutoModel, AutoModelForCausalLM

from lpzero_hf import Choice, Setting, Space, load_proxy
from lpzero_hf.benchmarks.benchmark import load_benchmark
from lpzero_hf.errors import LpzError
from lpzero_hf.models.layout import count_parameters
from lpzero_hf.spaces.named import load_space
from tests.support.commands import overriding
from tests.support.forks import needs_fork

Lpz = Callable[..., tuple[int, str, str]]
SMALL = Setting(batch_size=2, seq_len=8)
BRIEF = ("--batch-size", "2", "--seq-len", "8", "--workers", "1")


@pytest.fixture
def space() -> Space:
    return load_space("tiny-gpt2")


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


# What is found ---------------------------------------------------------------------------------------------


def test_the_front_is_what_nothing_smaller_beats() -> None:
    tried = [Tried("a", 3, 5.0), Tried("b", 1, 1.0), Tried("c", 2, 1.0), Tried("d", 3, 6.0), Tried("e", 4, 6.0)]
    tried.append(Tried("f", 1, None, "invalid"))
    assert [one.architecture for one in pareto(tried)] == ["b", "d"]
    assert best(tried).architecture == "d"  # of equals the smallest
    assert best([Tried("x", 1, -3.0), Tried("y", 1, -2.0)]).architecture == "y"


@pytest.mark.integration
def test_lpz_nas_leaves_a_winner_that_loads(lpz: Lpz, tmp_path: Path) -> None:
    out = tmp_path / "run"
    wanted = ("nas", "tiny-gpt2", "-p", "synflow", "--max-params", "600000", "--trials", "8", "--out", str(out))
    code, table, err = lpz(*wanted, *BRIEF, "--plots")
    assert (code, err) == (0, "")
    assert "600,000" in table
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    winner = result["winner"]
    assert winner["architecture"] in table
    assert len(result["trials"]) == 8
    assert winner["score"] == max(trial["score"] for trial in result["trials"])
    assert all(trial["params"] <= 600_000 for trial in result["trials"])
    assert result["front"][-1] == winner
    assert result["request"]["setting"]["seed"] == 42
    assert set(result["versions"]) == {"lpzero-hf", "torch", "transformers", "optuna"}
    assert (out / "plots" / "front.png").read_bytes().startswith(b"\x89PNG")

    model = AutoModelForCausalLM.from_pretrained(out / "winner").eval()
    assert count_parameters(model) == winner["params"]
    assert ProxyEvaluator("synflow", setting=SMALL).evaluate(model) == winner["score"]
    assert AutoModel.from_pretrained(out / "winner").config.d_model == model.config.d_model
    options = ("-p", "synflow", "--batch-size", "2", "--seq-len", "8", "--json")
    code, scored, _ = lpz("score", str(out / "winner"), *options)
    assert json.loads(scored)["models"][0]["scores"][0]["value"] == winner["score"]


def test_lpz_nas_prints_json_and_nothing_else(lpz: Lpz, tmp_path: Path) -> None:
    out = tmp_path / "run"
    wanted = ("nas", "tiny-gpt2", "-p", "num_heads", "--max-params", "900000", "--min-params", "300000", "--front")
    code, printed, err = lpz(*wanted, "--trials", "4", "--out", str(out), *BRIEF, "--json", "--seed", "7")
    assert (code, err) == (0, "")
    document = json.loads(printed)
    assert document.pop("warnings") == []
    assert document == json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert all(300_000 <= trial["params"] <= 900_000 for trial in document["trials"])


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
def test_a_search_that_was_killed_finds_what_it_would_have(lpz: Lpz, tmp_path: Path) -> None:
    wanted = ["nas", "tiny-gpt2", "-p", "synflow", "--max-params", "600000", "--trials", "10", *BRIEF]
    out = tmp_path / "killed"
    killed([*wanted, "--out", str(out)], out / "study.sqlite", 3)
    assert not (out / "result.json").exists()
    assert lpz(*wanted, "--out", str(out), "--resume")[0] == 0
    assert lpz(*wanted, "--out", str(tmp_path / "whole"))[0] == 0
    results = [json.loads((tmp_path / name / "result.json").read_text("utf-8")) for name in ("killed", "whole")]
    assert results[0]["trials"] == results[1]["trials"]
    assert results[0]["winner"] == results[1]["winner"]
    # fewer trials than were made are those of a shorter search
    assert lpz(*wanted[:-7], "4", *BRIEF, "--out", str(out), "--resume")[0] == 0
    shorter = json.loads((out / "result.json").read_text("utf-8"))
    assert shorter["trials"] == results[1]["trials"][:4]


def test_lpz_nas_says_what_is_wrong(lpz: Lpz, tmp_path: Path) -> None:
    def fails(*arguments: str, space: str = "tiny-gpt2", proxy: str = "num_heads", limit: str = "600000") -> Any:
        rest = overriding(("--trials", "3", "--out", str(tmp_path / "run"), *BRIEF), *arguments)
        code, out, err = lpz("nas", space, "-p", proxy, "--max-params", limit, *rest)
        assert out == ""
        return code, err

    code, err = fails(space="tiny-gpt")
    assert (code, "'tiny-gpt2'" in err) == (2, True)
    code, err = fails(proxy="snp")
    assert (code, "'snip'" in err) == (2, True)
    code, err = fails(limit="0")
    assert (code, "max-params" in err) == (2, True)
    code, err = fails("--among", "gpt2-wt104")
    assert (code, "gpt2-wt104" in err) == (2, True)
    code, err = fails("--among", "tiny-gpt2", space="flexibert")
    assert (code, "'flexibert'" in err) == (2, True)
    code, err = fails("--resume")
    assert (code, "to resume" in err) == (2, True)
    assert not (tmp_path / "run").exists()
    code, err = fails("--seq-len", "500", proxy="snip")
    assert (code, "--seq-len 128" in err) == (1, True)


def test_a_folder_holds_one_search(lpz: Lpz, tmp_path: Path) -> None:
    out = tmp_path / "run"
    wanted = ("nas", "tiny-gpt2", "-p", "num_heads", "--trials", "2", "--out", str(out), *BRIEF)
    assert lpz(*wanted, "--max-params", "600000")[0] == 0
    code, _, err = lpz(*wanted, "--max-params", "600000")
    assert (code, "already" in err) == (2, True)
    code, _, err = lpz(*wanted, "--max-params", "700000", "--seed", "1", "--resume")
    assert code == 2
    assert "600000" in err
    assert "seed" in err
    assert lpz(*overriding(wanted, "--max-params", "600000", "--resume", "--trials", "4"))[0] == 0
    assert len(json.loads((out / "result.json").read_text("utf-8"))["trials"]) == 4
    (out / "nas.json").unlink()
    code, _, err = lpz(*wanted, "--max-params", "600000")
    assert (code, str(out) in err) == (2, True)


@pytest.mark.parametrize("name", ["what?now", "100%41x", "with space", "pröxy 搜索", "{x}#y", "file:z"])
def test_a_study_is_in_its_folder_whatever_it_is_called(name: str, tmp_path: Path, space: Space) -> None:
    (tmp_path / name).mkdir()
    file = tmp_path / name / "study.sqlite"
    for storage in (file, str(file)):
        suggest(create_study(storage).ask(), space)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        name, f"{name}/study.sqlite",
    ]  # fmt: skip
    assert len(create_study(file).trials) == 2


@pytest.mark.integration
def test_a_search_that_scored_nothing_can_be_started_again_in_its_folder(
    lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lpz_nas.space_search.MAX_OUTSIDE", 5)  # a tenth of the proposals
    out = tmp_path / "what?100%41"
    wanted = ("nas", "tiny-gpt2", "-p", "num_heads", "--trials", "2", "--out", str(out), *BRIEF)
    for arguments in (["--max-params", "10"], ["--max-params", "10", "--among", "tiny-gpt2"]):
        code, _, err = lpz(*wanted, *arguments)
        assert (code, "maximum" in err) == (1, True)
        assert not list(tmp_path.iterdir())
    code, _, err = lpz(*overriding(wanted, "-p", "snip", "--max-params", "600000", "--seq-len", "500"))
    assert (code, "--seq-len 128" in err) == (1, True)
    assert not list(tmp_path.iterdir())
    out.mkdir()
    (out / ".nas.json.abc.json").touch()  # of one that was killed at once
    (out / ".winner.abc").mkdir()
    assert lpz(*wanted, "--max-params", "600000")[0] == 0
    assert (out / "study.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert not (out / ".winner.abc").exists()


@pytest.mark.integration
def test_what_a_search_has_scored_is_kept_and_so_is_a_folder_that_was_there(tmp_path: Path) -> None:
    def failing(model: Any, batch: Any) -> float:
        """the number of calls, of which the third fails"""
        calls.write_text(calls.read_text() + "x")  # in a file: a proxy that remembers is another one when it resumes
        if len(calls.read_text()) == 3:
            raise KeyError("spoilt")
        return float("nan") if never else float(len(calls.read_text()))

    calls = tmp_path / "calls"
    calls.write_text("")
    never = False
    out = tmp_path / "run"

    def stop(done: int, total: int, best: float | None) -> None:
        if done == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        find_architecture("tiny-gpt2", failing, Budget(10**6), trials=5, out=out, setting=SMALL, progress=stop)
    assert sorted(path.name for path in out.iterdir()) == [".lock", "nas.json", "study.sqlite"]
    assert len(find_architecture(
        "tiny-gpt2", failing, Budget(10**6), trials=3, out=out, setting=SMALL, resume=True
    ).trials) >= 3  # fmt: skip

    never = True
    calls.write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LpzError, match="no score"):
        find_architecture("tiny-gpt2", failing, Budget(10**6), out=tmp_path / "empty", setting=SMALL)
    assert not list((tmp_path / "empty").iterdir())  # it was there before


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit for the size of a file")
@pytest.mark.integration
def test_a_full_disk_while_the_winner_is_written_is_told_and_made_good(lpz: Lpz, tmp_path: Path) -> None:
    import resource

    out = tmp_path / "run"
    wanted = ("nas", "tiny-gpt2", "-p", "params", "--max-params", "600000", "--trials", "4", "--out", str(out), *BRIEF)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        code, _, err = lpz(*wanted)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (code, err.count("\n")) == (1, 1)
    assert "disk space" in err
    assert sorted(path.name for path in out.iterdir()) == [".lock", "nas.json", "study.sqlite"]
    assert lpz(*wanted, "--resume")[0] == 0
    assert (out / "winner" / "model.safetensors").stat().st_size > 500_000


def replaced_and_killed(winner: Path, step: int) -> None:
    """Replace a winner in a process that kills itself at a step of it."""
    steps, ready = 0, False

    def counted(event: str, arguments: object) -> None:
        nonlocal steps
        steps += ready and event in ("os.rename", "shutil.rmtree")
        if steps == step:
            steps += 1  # killing is an event as well
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(counted)
    with replacing_folder(winner) as folder:
        (folder / "model").write_text("new")
        ready = True


@needs_fork
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_winner_is_there_wherever_its_replacement_is_killed(step: int, tmp_path: Path) -> None:
    """Killed at the first or second renaming, or at the removal of the old one."""
    winner = tmp_path / "winner"
    winner.mkdir()
    (winner / "model").write_text("old", encoding="utf-8")
    process = multiprocessing.get_context("fork").Process(target=replaced_and_killed, args=(winner, step))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = [path.read_text("utf-8") for path in tmp_path.rglob("model")]
    assert sorted(left) == ["new", "old"]
    with pytest.raises(RuntimeError, match="not this time"), replacing_folder(winner):
        raise RuntimeError("not this time")
    assert [path.name for path in tmp_path.iterdir()] == ["winner"]  # what was left is put back or removed
    assert (winner / "model").read_text("utf-8") == ("new" if step == 3 else "old")


def test_a_budget_that_nothing_meets_is_told_with_the_nearest_size() -> None:
    one = Space(
        name="one",
        summary="",
        shared=(Choice("d", "d_model", (64, 96)), Choice("e", "d_embed", (32, 64)), Choice("k", "k", (1, 2))),
        depths=(1,),
        layer=(Choice("h", "heads", (1, 2)), Choice("i", "inner", (64, 128))),
        build=load_space("tiny-gpt2").build,
    )
    sizes = [count(one.config(one.nth(i))) for i in range(one.size())]
    evaluator = ProxyEvaluator("params", space=one, setting=SMALL)
    with pytest.raises(LpzError, match=f"{min(sizes):,}"):
        search_space(evaluator, Budget(1000), trials=5)
    with pytest.raises(LpzError, match=f"{max(sizes):,}"):
        search_space(evaluator, Budget(None, 10**9), trials=5)


def test_every_trial_is_another_architecture() -> None:
    two = Space(
        name="two",
        summary="",
        shared=(Choice("d", "d_model", (64, 96)), Choice("e", "d_embed", (32,)), Choice("k", "k", (1,))),
        depths=(1,),
        layer=(Choice("h", "heads", (1,)), Choice("i", "inner", (64,))),
        build=load_space("tiny-gpt2").build,
    )
    tried, proposed = search_space(ProxyEvaluator("params", space=two, setting=SMALL), Budget(10**9), trials=2)
    assert len({one.architecture for one in tried}) == 2 <= proposed
    tried, proposed = search_space(ProxyEvaluator("params", space=two, setting=SMALL), Budget(10**9), trials=3)
    assert (len(tried), proposed) == (2, 3 * 10 + 50)  # there are no more, and it ends


@pytest.mark.integration
def test_a_proxy_without_a_score_is_told_with_its_reason(tmp_path: Path) -> None:
    def never(model: Any, batch: Any) -> float:
        """not a number"""
        return float("nan")

    with pytest.raises(LpzError, match=r"'never' .* nan"):
        find_architecture("tiny-gpt2", never, Budget(10**6), out=tmp_path / "a", setting=SMALL)
    with pytest.raises(LpzError, match="'never'"):
        find_architecture(
            "tiny-gpt2", never, Budget(10**6), trials=5, out=tmp_path / "b", setting=SMALL, among="tiny-gpt2"
        )


def test_a_search_without_optuna_names_the_extra(lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    wanted = ("nas", "tiny-gpt2", "-p", "num_heads", "--max-params", "600000", "--trials", "2", *BRIEF)
    code, _, err = lpz(*wanted, "--out", str(tmp_path / "a"))
    assert (code, "lpzero-hf[optuna]" in err) == (1, True)
    assert not (tmp_path / "a").exists()
    assert lpz(*wanted, "--out", str(tmp_path / "b"), "--among", "tiny-gpt2")[0] == 0


# Among trained architectures -------------------------------------------------------------------------------


@pytest.mark.integration
def test_among_trained_architectures_their_training_is_not_looked_at(lpz: Lpz, tmp_path: Path) -> None:
    benchmark = load_benchmark("tiny-gpt2")
    assert benchmark.document is not None
    document = json.loads(json.dumps(benchmark.document()))
    losses = [row["loss"] for row in document["trained"]]
    random.Random(0).shuffle(losses)
    for row, loss in zip(document["trained"], losses, strict=True):
        row["loss"] = loss
    (tmp_path / "benchmark.json").write_text(json.dumps(document), encoding="utf-8")

    results = []
    for number, among in enumerate(("tiny-gpt2", str(tmp_path / "benchmark.json"))):
        wanted = ("nas", "tiny-gpt2", "-p", "num_heads", "--max-params", "900000", "--trials", "10", *BRIEF, "--json")
        code, out, err = lpz(*wanted, "--among", among, "--out", str(tmp_path / str(number)))
        assert (code, err) == (0, "")
        results.append(json.loads(out))
    assert results[0]["trials"] == results[1]["trials"]
    assert len(results[0]["trials"]) == 10
    trained = {benchmark.space.text(entry.architecture) for entry in benchmark.trained()}
    assert all(trial["architecture"] in trained and trial["params"] <= 900_000 for trial in results[0]["trials"])
    code, _, err = lpz(
        *("nas", "tiny-gpt2", "-p", "num_heads", "--max-params", "900", *BRIEF), "--among", "tiny-gpt2",
        "--out", str(tmp_path / "none"),
    )  # fmt: skip
    assert code == 1
    assert "900" in err


@pytest.mark.integration
def test_all_candidates_within_the_budget_are_scored_once(space: Space) -> None:
    architectures = space.samples(12, by="choice")
    sizes = {space.text(architecture): count(space.config(architecture)) for architecture in architectures}
    limit = sorted(sizes.values())[6]
    tried, proposed = compare(
        space, architectures * 2, load_proxy("params").proxy, Budget(limit), trials=100, setting=SMALL
    )
    assert {one.architecture: one.score for one in tried} == {n: s for n, s in sizes.items() if s <= limit}
    assert (len(tried), proposed) == (7, 12)
    drawn = [
        [one.architecture for one in compare(
            space, architectures, load_proxy("params").proxy, Budget(limit), trials=3, setting=Setting(2, 8, seed=seed)
        )[0]]
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert drawn[0] == drawn[1] != drawn[2]
