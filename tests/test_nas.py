"""Searches for an architecture under a budget: the evaluator, the study, the folder, `lpz nas`, and its measurement."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from lpz_nas import Budget, ProxyEvaluator, Tried, count, find_architecture
from lpz_nas.assembling import assemble, extreme, values_of
from lpz_nas.candidates import compare
from lpz_nas.folder import replacing_folder
from lpz_nas.optuna_study import Objective, corners, create_study, forget_interrupted, suggest
from lpz_nas.outcome import best, pareto
from lpz_nas.space_search import search_space
from transformers import AutoModel, AutoModelForCausalLM

from benchmarks import nas as measurement
from lpzero_hf import Choice, ModelProxy, Setting, Space, load_model, load_proxy, minibatch
from lpzero_hf.batches import embedded_tokenizer
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.layout import count_parameters
from lpzero_hf.models import build_model
from lpzero_hf.plugins import load_plugins
from lpzero_hf.scoring import ScoreError

Lpz = Callable[..., tuple[int, str, str]]

SMALL = Setting(batch_size=2, seq_len=8)
BRIEF = ("--batch-size", "2", "--seq-len", "8", "--workers", "1")
NAME = "d64.e32.k2-h2.i64-h4.i128"


@pytest.fixture
def space() -> Space:
    return load_plugins().space("tiny-gpt2")


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


# Budgets and values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny-gpt2", "flexibert"])
def test_parameters_are_counted_as_they_will_be(name: str) -> None:
    space = load_plugins().space(name)
    for architecture in space.samples(2, by="choice"):
        config = space.config(architecture)
        assert count(config) == count_parameters(build_model(config), trainable=True)


def test_a_model_that_no_memory_holds_is_counted() -> None:
    from transformers import GPT2Config

    assert count(GPT2Config(n_embd=65536, n_layer=96, n_head=64)) > 4 * 10**12


def test_a_budget_has_two_bounds() -> None:
    budget = Budget(max_params=200, min_params=100)
    assert [budget.allows(n) for n in (99, 100, 200, 201)] == [False, True, True, False]
    assert budget.excess(300) == {"max_params": 0.5, "min_params": -2.0}
    assert str(budget) == "at least 100 and at most 200 parameters"
    for bad in ({"max_params": 0}, {"min_params": -1}, {"max_params": 5, "min_params": 6}):
        with pytest.raises(UsageError):
            Budget(**bad)


def test_every_architecture_can_be_assembled_from_named_values(space: Space) -> None:
    rng = random.Random(1)
    for _ in range(20):
        wanted = space.sample(rng, "choice")
        values: dict[str, Any] = dict(zip(("d_model", "d_embed", "k"), wanted.shared, strict=True))
        values["number of layers"] = len(wanted.layers)
        for i, (heads, inner) in enumerate(wanted.layers):
            values |= {f"layers.{i}.heads": heads, f"layers.{i}.inner": inner}
        asked = []
        assert assemble(space, lambda name, _: asked.append(name) or values[name]) == wanted  # noqa: B023
        assert asked == list(values)
        assert all(values[name] in values_of(space)[name] for name in values)
    with pytest.raises(UsageError, match="d_model 65"):
        assemble(space, lambda name, values: 65 if name == "d_model" else values[0])


def test_the_ends_of_a_space() -> None:
    space = load_plugins().space("flexibert")
    least, most = (extreme(space, largest) for largest in (False, True))
    assert space.text(assemble(space, lambda name, _: least[name])) == "h128-sdp.a2.f512.n1-sdp.a2.f512.n1"
    assert space.text(assemble(space, lambda name, _: most[name])) == "h256" + "-sdp.a4.f1024.n3" * 4


# The evaluator ---------------------------------------------------------------------------------------------


def test_one_architecture_has_one_score_however_it_is_given(space: Space) -> None:
    evaluator = ProxyEvaluator("snip", space="tiny-gpt2", setting=SMALL)
    model = load_model(f"tiny-gpt2:{NAME}").model
    config = space.config(space.parse(NAME))
    given = [NAME, f"tiny-gpt2:{NAME}", space.parse(NAME), config, model, SimpleNamespace(arch=model, archid="x")]
    assert len({evaluator.evaluate(arch, budget=0.5) for arch in given}) == 1
    batch = minibatch(model, tokenizer=embedded_tokenizer(), batch_size=2, seq_len=8)
    assert evaluator.evaluate(NAME) == load_proxy("snip")(model, batch)


def test_higher_is_better_whatever_the_orientation() -> None:
    deep = ModelProxy(name="deep", formula="", orientation=-1, evaluate=lambda subject: subject.layout.depth)
    assert ProxyEvaluator(deep, space="tiny-gpt2", setting=SMALL).evaluate(NAME) == -2.0


def test_a_score_is_remembered_where_that_is_safe() -> None:
    calls = []

    def norm(model: Any, batch: Any) -> float:
        """norm of all weights"""
        calls.append(1)
        return float(sum(p.detach().norm() for p in model.parameters()))

    evaluator = ProxyEvaluator(norm, space="tiny-gpt2", setting=SMALL)
    assert evaluator.evaluate(NAME) == evaluator.evaluate(f"tiny-gpt2:{NAME}")
    assert len(calls) == 1
    model = load_model(f"tiny-gpt2:{NAME}").model
    before = evaluator.evaluate(model)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert evaluator.evaluate(model) != before  # weights may have changed
    first = evaluator.evaluate(SimpleNamespace(arch=model, archid="a"))
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert evaluator.evaluate(SimpleNamespace(arch=model, archid="a")) == first  # the same architecture, by its id
    assert evaluator.evaluate(SimpleNamespace(arch=model, archid="b")) != first


def test_the_evaluator_says_what_it_cannot_evaluate() -> None:
    evaluator = ProxyEvaluator("attention_confidence", setting=SMALL)
    with pytest.raises(ScoreError, match="no softmax attention"):
        evaluator.evaluate("flexibert:h128-dft.a2.f512.n1-dct.a2.f512.n1")
    with pytest.raises(UsageError, match="name the space"):
        evaluator.evaluate(NAME)
    with pytest.raises(UsageError, match="int is no architecture"):
        evaluator.evaluate(3)
    with pytest.raises(UsageError, match="did you mean 'snip'"):
        ProxyEvaluator("snp")


# Optuna ----------------------------------------------------------------------------------------------------


def proposals(study: optuna.Study) -> list[tuple[dict[str, Any], list[float] | None]]:
    """Parameters and values of the trials that were finished."""
    done = [t for t in study.trials if t.state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)]
    return [(trial.params, trial.values) for trial in done]


def test_a_study_builds_nothing_over_the_budget() -> None:
    built = []

    def size(model: Any, batch: Any) -> float:
        """parameters"""
        built.append(count_parameters(model, trainable=True))
        return float(built[-1])

    study = create_study(seed=1)
    study.optimize(
        Objective(ProxyEvaluator(size, space="tiny-gpt2", setting=SMALL), Budget(max_params=500_000)), n_trials=15
    )
    sizes = [trial.user_attrs["params"] for trial in study.trials]
    assert max(built) <= 500_000 < max(sizes)
    assert study.best_value == max(n for n in sizes if n <= 500_000)
    over = [trial for trial in study.trials if trial.user_attrs["params"] > 500_000]
    assert all(trial.state == optuna.trial.TrialState.PRUNED for trial in over)
    assert all(trial.constraints["max_params"] > 0 for trial in over)


def test_optuna_proposes_members_of_any_space() -> None:
    words = Space(
        name="words",
        summary="",
        shared=(Choice("", "kind", ("a", "b")),),
        depths=(1, 4),
        layer=(),
        build=lambda s, n: s,
    )
    for space in (words, load_plugins().space("flexibert"), load_plugins().space("gpt2")):
        study = create_study()
        for _ in range(12):
            trial = study.ask()
            space.check(suggest(trial, space))
            study.tell(trial, random.random())


def test_a_study_that_was_killed_proposes_what_it_would_have(tmp_path: Path, space: Space) -> None:
    objective = Objective(ProxyEvaluator("num_heads", space=space, setting=SMALL), Budget(max_params=600_000))
    first = corners(space, objective.budget)
    undisturbed = create_study(seed=3, first=first)
    undisturbed.optimize(objective, n_trials=16)
    file = tmp_path / "study.sqlite"
    create_study(file, seed=3, first=first).ask()  # killed in its first trial
    for n in (5, 7, 4):
        study = create_study(file, seed=3, first=first)
        forget_interrupted(study)
        study.optimize(objective, n_trials=n)
        suggest(create_study(file, seed=3, first=first).ask(), space)
    assert proposals(study) == proposals(undisturbed)
    assert proposals(study)[0][0]["d_model"] == 64
    other = create_study(seed=4, first=first)
    other.optimize(objective, n_trials=16)
    assert proposals(other) != proposals(undisturbed)


def test_a_study_has_two_directions_where_the_front_is_wanted() -> None:
    study = create_study(front=True)
    evaluator = ProxyEvaluator("num_heads", space="tiny-gpt2", setting=SMALL)
    study.optimize(Objective(evaluator, Budget(max_params=900_000), front=True), n_trials=15)
    tried = [
        Tried(t.user_attrs["architecture"], t.user_attrs["params"], t.values and t.values[0]) for t in study.trials
    ]
    front = {(one.params, one.score) for one in pareto(one for one in tried if one.params <= 900_000)}
    assert {(int(trial.values[1]), trial.values[0]) for trial in study.best_trials} == front


def test_a_study_needs_a_space_and_a_storage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name it with ProxyEvaluator"):
        Objective(ProxyEvaluator("snip"))
    (tmp_path / "study.sqlite").write_text("no database", encoding="utf-8")
    with pytest.raises(LpzError, match="cannot open the study"):
        create_study(tmp_path / "study.sqlite")


# What is found ---------------------------------------------------------------------------------------------


def test_the_front_is_what_nothing_smaller_beats() -> None:
    tried = [Tried("a", 3, 5.0), Tried("b", 1, 1.0), Tried("c", 2, 1.0), Tried("d", 3, 6.0), Tried("e", 4, 6.0)]
    tried.append(Tried("f", 1, None, "invalid"))
    assert [one.architecture for one in pareto(tried)] == ["b", "d"]
    assert best(tried).architecture == "d"  # of equals the smallest
    assert best([Tried("x", 1, -3.0), Tried("y", 1, -2.0)]).architecture == "y"


def test_lpz_nas_leaves_a_winner_that_loads(lpz: Lpz, tmp_path: Path) -> None:
    out = tmp_path / "run"
    wanted = ("nas", "tiny-gpt2", "-p", "synflow", "--max-params", "600000", "--trials", "8", "--out", str(out))
    code, table, err = lpz(*wanted, *BRIEF, "--plots")
    assert (code, err) == (0, "")
    assert "at most 600,000 parameters" in table
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
    assert count_parameters(model, trainable=True) == winner["params"]
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
    assert document == json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert all(300_000 <= trial["params"] <= 900_000 for trial in document["trials"])


def killed(arguments: list[str], study: Path, trials: int) -> None:
    """Run `lpz` and kill it once its study has so many finished trials."""
    code = "import sys; from lpz_cli.main import run; sys.exit(run(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
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
        rest = ("--trials", "3", "--out", str(tmp_path / "run"), *BRIEF, *arguments)
        code, out, err = lpz("nas", space, "-p", proxy, "--max-params", limit, *rest)
        assert out == ""
        return code, err

    code, err = fails(space="tiny-gpt")
    assert (code, "did you mean 'tiny-gpt2'" in err) == (2, True)
    code, err = fails(proxy="snp")
    assert (code, "did you mean 'snip'" in err) == (2, True)
    code, err = fails(limit="0")
    assert (code, "0 maximum parameters is less than 1" in err) == (2, True)
    code, err = fails("--among", "gpt2-wt104")
    assert (code, "unknown benchmark" in err) == (2, True)
    code, err = fails("--among", "tiny-gpt2", space="flexibert")
    assert (code, "search tiny-gpt2 --among tiny-gpt2" in err) == (2, True)
    code, err = fails("--resume")
    assert (code, "leave out --resume" in err) == (2, True)
    assert not (tmp_path / "run").exists()
    code, err = fails("--seq-len", "500")
    assert (code, "--seq-len 128" in err) == (1, True)


def test_a_folder_holds_one_search(lpz: Lpz, tmp_path: Path) -> None:
    out = tmp_path / "run"
    wanted = ("nas", "tiny-gpt2", "-p", "num_heads", "--trials", "2", "--out", str(out), *BRIEF)
    assert lpz(*wanted, "--max-params", "600000")[0] == 0
    code, _, err = lpz(*wanted, "--max-params", "600000")
    assert (code, "go on with --resume" in err) == (2, True)
    code, _, err = lpz(*wanted, "--max-params", "700000", "--seed", "1", "--resume")
    assert code == 2
    assert "budget.max_params was 600000, not 700000; setting.seed was 42, not 1" in err
    assert lpz(*wanted, "--max-params", "600000", "--resume", "--trials", "4")[0] == 0
    assert len(json.loads((out / "result.json").read_text("utf-8"))["trials"]) == 4
    (out / "nas.json").unlink()
    code, _, err = lpz(*wanted, "--max-params", "600000")
    assert (code, "holds something else" in err) == (2, True)


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


def test_a_search_that_scored_nothing_can_be_started_again_in_its_folder(lpz: Lpz, tmp_path: Path) -> None:
    out = tmp_path / "what?100%41"
    wanted = ("nas", "tiny-gpt2", "-p", "num_heads", "--trials", "2", "--out", str(out), *BRIEF)
    for arguments in (["--max-params", "10"], ["--max-params", "10", "--among", "tiny-gpt2"]):
        code, _, err = lpz(*wanted, *arguments)
        assert (code, "raise the maximum" in err) == (1, True)
        assert not list(tmp_path.iterdir())
    code, _, err = lpz(*wanted, "--max-params", "600000", "--seq-len", "500")
    assert (code, "--seq-len 128" in err) == (1, True)
    assert not list(tmp_path.iterdir())
    out.mkdir()
    (out / ".nas.json.abc.json").touch()  # of one that was killed at once
    (out / ".winner.abc").mkdir()
    assert lpz(*wanted, "--max-params", "600000")[0] == 0
    assert (out / "study.sqlite").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert not (out / ".winner.abc").exists()


def test_what_a_search_has_scored_is_kept_and_so_is_a_folder_that_was_there(tmp_path: Path) -> None:
    def failing(model: Any, batch: Any) -> float:
        """the number of calls, of which the third fails"""
        calls.append(1)
        if len(calls) == 3:
            raise KeyError("spoilt")
        return float("nan") if never else float(len(calls))

    calls: list[int] = []
    never = False
    out = tmp_path / "run"

    def stop(done: int, total: int, best: float | None) -> None:
        if done == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        find_architecture("tiny-gpt2", failing, Budget(10**6), trials=5, out=out, setting=SMALL, progress=stop)
    assert sorted(path.name for path in out.iterdir()) == ["nas.json", "study.sqlite"]
    assert len(find_architecture(
        "tiny-gpt2", failing, Budget(10**6), trials=3, out=out, setting=SMALL, resume=True
    ).trials) >= 3  # fmt: skip

    never = True
    calls.clear()
    (tmp_path / "empty").mkdir()
    with pytest.raises(LpzError, match="has no score of any"):
        find_architecture("tiny-gpt2", failing, Budget(10**6), out=tmp_path / "empty", setting=SMALL)
    assert not list((tmp_path / "empty").iterdir())  # it was there before


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit for the size of a file")
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
    assert "make room, or choose another place" in err
    assert sorted(path.name for path in out.iterdir()) == ["nas.json", "study.sqlite"]
    assert lpz(*wanted, "--resume")[0] == 0
    assert (out / "winner" / "model.safetensors").stat().st_size > 500_000


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_winner_is_there_wherever_its_replacement_is_killed(step: int, tmp_path: Path) -> None:
    """Killed at the first or second renaming, or at the removal of the old one."""
    code = f"""if True:
        import os, shutil, signal, sys
        from pathlib import Path
        from lpz_nas.folder import replacing_folder
        steps = 0
        def counted(event, arguments):
            global steps
            steps += ready and event in ("os.rename", "shutil.rmtree")
            if steps == {step}:
                steps += 1  # killing is an event as well
                os.kill(os.getpid(), signal.SIGKILL)
        ready = False
        sys.addaudithook(counted)
        with replacing_folder(Path(sys.argv[1])) as folder:
            (folder / "model").write_text("new")
            ready = True
    """
    winner = tmp_path / "winner"
    winner.mkdir()
    (winner / "model").write_text("old", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code, str(winner)], check=False)
    assert done.returncode == -signal.SIGKILL
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
        build=load_plugins().space("tiny-gpt2").build,
    )
    sizes = [count(one.config(one.nth(i))) for i in range(one.size())]
    evaluator = ProxyEvaluator("params", space=one, setting=SMALL)
    with pytest.raises(LpzError, match=f"the smallest has {min(sizes):,}; raise the maximum"):
        search_space(evaluator, Budget(1000), trials=5)
    with pytest.raises(LpzError, match=f"the largest has {max(sizes):,}; lower the minimum"):
        search_space(evaluator, Budget(None, 10**9), trials=5)


def test_every_trial_is_another_architecture() -> None:
    two = Space(
        name="two",
        summary="",
        shared=(Choice("d", "d_model", (64, 96)), Choice("e", "d_embed", (32,)), Choice("k", "k", (1,))),
        depths=(1,),
        layer=(Choice("h", "heads", (1,)), Choice("i", "inner", (64,))),
        build=load_plugins().space("tiny-gpt2").build,
    )
    tried, proposed = search_space(ProxyEvaluator("params", space=two, setting=SMALL), Budget(10**9), trials=2)
    assert len({one.architecture for one in tried}) == 2 <= proposed
    tried, proposed = search_space(ProxyEvaluator("params", space=two, setting=SMALL), Budget(10**9), trials=3)
    assert (len(tried), proposed) == (2, 3 * 10 + 50)  # there are no more, and it ends


def test_a_proxy_without_a_score_is_told_with_its_reason(tmp_path: Path) -> None:
    def never(model: Any, batch: Any) -> float:
        """not a number"""
        return float("nan")

    with pytest.raises(
        LpzError, match=r"'never' has no score of any of 10 architectures \(invalid: the score is nan\)"
    ):
        find_architecture("tiny-gpt2", never, Budget(10**6), out=tmp_path / "a", setting=SMALL)
    with pytest.raises(LpzError, match="'never' has no score of any of 5 architectures"):
        find_architecture(
            "tiny-gpt2", never, Budget(10**6), trials=5, out=tmp_path / "b", setting=SMALL, among="tiny-gpt2"
        )


def test_a_search_without_optuna_names_the_extra(lpz: Lpz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    wanted = ("nas", "tiny-gpt2", "-p", "num_heads", "--max-params", "600000", "--trials", "2", *BRIEF)
    code, _, err = lpz(*wanted, "--out", str(tmp_path / "a"))
    assert (code, "pip install 'lpzero-hf[optuna]'" in err) == (1, True)
    assert not (tmp_path / "a").exists()
    assert lpz(*wanted, "--out", str(tmp_path / "b"), "--among", "tiny-gpt2")[0] == 0


# Among trained architectures -------------------------------------------------------------------------------


def test_among_trained_architectures_their_training_is_not_looked_at(lpz: Lpz, tmp_path: Path) -> None:
    benchmark = load_plugins().benchmark("tiny-gpt2")
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
    assert "none of 128 architectures has at most 900 parameters: the smallest has" in err


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


# The measurement -------------------------------------------------------------------------------------------


def test_the_measurement_knows_the_best_choice_and_chance() -> None:
    rng = random.Random(0)
    sizes = [rng.randrange(100, 10_000) for _ in range(60)]
    goodness = [float(rng.random()) for _ in sizes]
    scores: dict[str, list[float | None]] = {
        "oracle": list(goodness), "inverse": [-g for g in goodness], "silent": [None, *goodness[1:]],
    }  # fmt: skip
    limits, found = measurement.play(goodness, sizes, measurement.choosers(sizes, scores), 5, 8, 20)
    rows = {name: measurement.summary(name, made, found["largest"]) for name, made in found.items()}
    assert limits == sorted(limits)
    assert limits[-1] == max(sizes)
    assert rows["oracle"]["percentile"] == rows["oracle"]["regret"] == {"value": 0, "low": 0, "high": 0}
    assert rows["inverse"]["percentile"]["value"] == 100
    assert rows["inverse"]["best_chosen"]["value"] == 0
    assert rows["chance"]["percentile"]["value"] == pytest.approx(50)
    assert rows["largest"]["saved_over_largest"]["value"] == 0
    assert rows["oracle"]["saved_over_largest"]["value"] == pytest.approx(rows["largest"]["regret"]["value"])


def test_a_choice_is_placed_among_its_candidates_alone() -> None:
    goodness = [5.0, 1.0, 2.0, 3.0, 3.0]
    assert measurement.truth(goodness, [1, 2, 3], 2) == (50.0, 1.0, 0.0)
    assert measurement.truth(goodness, [1, 2, 3], 3) == (0.0, 0.0, 1.0)
    assert measurement.truth(goodness, [2, 3, 4], 3) == (25.0, 0.0, 1.0)  # one is as good


def test_the_measurement_prints_a_row_for_every_way_to_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    options = ["tiny-gpt2", "--proxy", "num_layers", "--budgets", "3", "--seeds", "2", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", ["nas", *options, "--json", str(file)])
    assert measurement.main() == 0
    out, _ = capsys.readouterr()
    document = json.loads(file.read_text(encoding="utf-8"))
    assert {row["chooser"] for row in document["rows"]} == {"chance", "largest", "num_layers"}
    assert out.count("\n| ") == 3
    assert document["metric"] == "validation loss (nats per token)"
    monkeypatch.setattr(sys, "argv", ["nas", "tiny-gpt3"])
    assert measurement.main() == 2
