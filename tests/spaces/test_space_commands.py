"""A file of a space from end to end: shown, scored, ranked, searched, trained, graded; also changed, or gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from lpz_nas import Budget, ProxyEvaluator
from lpz_nas.optuna_study import Objective, create_study
from lpz_nas.outcome import NothingScored
from lpz_nas.space_search import search_space

from lpzero_hf import ConfigSpace, Setting, load_benchmark, load_space
from lpzero_hf.benchmarks.held_out import marks_of
from lpzero_hf.errors import UsageError
from lpzero_hf.models.member_check import refused

Lpz = Callable[..., tuple[int, str, str]]
SMALL = Setting(batch_size=2, seq_len=8)
BRIEF = ("--batch-size", "2", "--seq-len", "8", "--workers", "1")
TEXT = """\
base: {model_type: llama, vocab_size: 4096, max_position_embeddings: 64, num_attention_heads: 2}
choices:
  hidden_size: [16, 32, 48, 64]
  num_hidden_layers: [1, 2]
derived:
  intermediate_size: 2 * hidden_size
constraints:
  - num_hidden_layers * hidden_size <= 96
"""
REFUSING = """\
choices:
  hidden_size: [17, 16, 18, 20]  # the class refuses the first
derived: {intermediate_size: 16, num_hidden_layers: 1}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = Path("mine.yaml")
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.integration
def test_a_space_is_shown_with_what_cannot_be_built(lpz: Lpz, file: Path) -> None:
    code, table, err = lpz("zoo", "show", "mine.yaml")
    assert (code, err) == (0, "")
    assert "7 architectures" in table
    document = json.loads(lpz("zoo", "show", "mine.yaml", "--json")[1])
    assert (document["size"], document["refused"]) == (7, {})
    code, _, err = lpz("score", document["example"], "-p", "params", "--json")
    assert code == 0, err
    file.write_text(
        TEXT.replace("num_attention_heads: 2", "num_attention_heads: 16, head_dim: 4, num_key_value_heads: 5")
    )
    document = json.loads(lpz("zoo", "show", "mine.yaml", "--json")[1])
    assert len(document["refused"]) == 5 or document["refused"] == {}
    file.write_text(TEXT.split("choices", 1)[0] + REFUSING)
    warning = lpz("zoo", "show", "mine.yaml")[2]
    assert warning.count("add a constraint") == warning.count("\n") > 0
    assert lpz("zoo", "show", "missing.yaml")[0] == 1
    code, _, err = lpz("rank", "mine.yaml:hidden_size=3", "-p", "params")
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.integration
def test_a_layered_example_is_quoted_for_the_shell(lpz: Lpz, file: Path) -> None:
    file.write_text(
        "base: {model_type: qwen3, vocab_size: 64, hidden_size: 16, num_attention_heads: 2, head_dim: 8}\n"
        "choices:\n  num_hidden_layers: [2]\n  layer_types: {per_layer: [full_attention]}\n"
    )
    shown = " ".join(lpz("zoo", "show", "mine.yaml")[1].split())
    assert "'mine.yaml:num_hidden_layers=2,layer_types=full_attention|full_attention'" in shown


@pytest.mark.integration
def test_rank_and_nas_search_a_file(lpz: Lpz, file: Path) -> None:
    code, out, err = lpz("rank", "mine.yaml", "-p", "params", "--n", "7", "--json", *BRIEF)
    assert code == 0, err
    assert out.count("hidden_size=") >= 7
    search = ("nas", "mine.yaml", "-p", "num_heads", "--max-params", "160000", "--trials", "4", "--out", "run", *BRIEF)
    code, _, err = lpz(*search)
    assert code == 0, err
    result = json.loads(Path("run/result.json").read_text())
    assert all(trial["params"] <= 160_000 for trial in result["trials"])
    assert result["request"]["definition"] == load_space("mine.yaml").definition()
    assert lpz(*search, "--resume")[0] == 0
    file.write_text(TEXT.replace("<= 96", "<= 80"))
    code, _, err = lpz(*search, "--resume")
    assert (code, "definition.constraints" in err) == (2, True)
    assert lpz("nas", "mine.yaml", "-p", "num_heads", "--max-params", "10", "--out", "none", *BRIEF)[0] == 1


@pytest.mark.integration
def test_what_was_trained_is_read_without_the_file(lpz: Lpz, file: Path) -> None:
    Path("words.txt").write_text("the quick brown fox jumps over the lazy dog " * 200)
    train = ("bench", "train", "mine.yaml", "--out", "made", "--validation", "words.txt", "--n", "4", "--repeats", "0",
             "--steps", "2", "--batch-size", "1", "--seq-len", "8", "--windows", "2", "--workers", "1")  # fmt: skip
    code, _, err = lpz(*train)
    assert code == 0, err
    document = json.loads(Path("made/benchmark.json").read_text())
    assert (document["space"], document["plan"]["space"]) == ("mine", "mine")
    file.write_text(TEXT.replace("2 * hidden_size", "3 * hidden_size"))
    code, _, err = lpz(*train)
    assert (code, "intermediate_size" in err) == (2, True)
    among = ("nas", "mine.yaml", "-p", "params", "--among", "made", "--max-params", "10000000", "--out", "run", *BRIEF)
    code, _, err = lpz(*among)
    assert (code, "another space of that name" in err) == (2, True), err
    file.write_text(TEXT)
    assert lpz(*among)[0] == 0
    file.unlink()
    benchmark = load_benchmark("made")
    assert len(benchmark.trained()) == 4
    assert benchmark.space.config(benchmark.trained()[0].architecture).model_type == "llama"
    code, _, err = lpz("bench", "eval", "made", "-p", "params", *BRIEF)
    assert code == 0, err


def test_architectures_of_two_spaces_of_one_name_are_told_apart(file: Path) -> None:
    one = load_space("mine.yaml")
    file.write_text(TEXT.replace("2 * hidden_size", "3 * hidden_size"))
    other = load_space("mine.yaml")
    first = one.samples(1)[0]
    assert one.text(first) == other.text(first)
    assert not marks_of(one, first) & marks_of(other, first)
    file.write_text("name: renamed\n" + TEXT)
    assert marks_of(load_space("mine.yaml"), first) == marks_of(one, first)


def test_members_that_cannot_be_built_are_pruned_with_the_reason(file: Path) -> None:
    file.write_text(TEXT[: TEXT.index("choices:")] + REFUSING)
    evaluator = ProxyEvaluator("params", space="mine.yaml", setting=SMALL)
    study = create_study()
    study.optimize(Objective(evaluator, Budget(max_params=10**6)), n_trials=20)
    states = {trial.user_attrs["architecture"]: trial for trial in study.trials}
    assert states["hidden_size=16"].state.name == "COMPLETE"
    assert states["hidden_size=17"].state.name == "PRUNED"
    assert "multiple of the number" in states["hidden_size=17"].user_attrs["reason"]
    tried, proposed = search_space(evaluator, Budget(max_params=10**6), trials=2)
    assert "hidden_size=17" not in {one.architecture for one in tried}
    assert proposed >= len(tried) == 2


def test_a_search_in_which_nothing_can_be_built_says_why(file: Path) -> None:
    space = ConfigSpace("s", {"model_type": "llama", "vocab_size": 64}, {"hidden_act": ["silu", "nothing"]})
    evaluator = ProxyEvaluator("params", space=_Refusing(space), setting=SMALL)
    with pytest.raises(NothingScored, match="none of 50 proposals"):
        search_space(evaluator, Budget(), trials=2)
    assert list(refused(space, [space.parse("hidden_act=nothing")])) == ["hidden_act=nothing"]


class _Refusing(ConfigSpace):
    """Another space, all of whose members are refused."""

    def __init__(self, space: ConfigSpace) -> None:
        self.__dict__ |= space.__dict__

    def config(self, architecture: object) -> object:  # type: ignore[override]  # for this test alone
        raise UsageError("refused")


def test_lists_are_proposed_to_optuna_as_texts(file: Path) -> None:
    base = {"model_type": "qwen3", "vocab_size": 4096, "hidden_size": 16, "num_attention_heads": 2, "head_dim": 8}
    types = [["full_attention"], ["sliding_attention"]]
    space = ConfigSpace("s", base | {"num_hidden_layers": 1}, {"layer_types": types, "use_sliding_window": [True]})
    storage = Path("study.sqlite")
    study = create_study(storage)
    study.optimize(Objective(ProxyEvaluator("num_heads", space=space, setting=SMALL)), n_trials=4)
    trials = create_study(storage).trials
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert {trial.params["layer_types"] for trial in trials} <= {'["full_attention"]', '["sliding_attention"]'}


def test_ray_reports_members_that_cannot_be_built(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_tune = pytest.importorskip("lpz_nas.ray_tune")
    file.write_text(TEXT[: TEXT.index("choices:")] + REFUSING)
    reported: list[dict[str, object]] = []
    monkeypatch.setattr(ray_tune.tune, "report", reported.append)
    run = ray_tune.trainable(ProxyEvaluator("params", space="mine.yaml", setting=SMALL))
    assert list(ray_tune.param_space(load_space("mine.yaml"))) == ["hidden_size"]
    for width in (16, 17):  # of which the class refuses one
        run({"hidden_size": width})
    assert [report["params"] is None for report in reported] == [False, True]
    assert "multiple of the number" in str(reported[1]["reason"])
