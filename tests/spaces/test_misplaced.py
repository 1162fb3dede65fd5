"""A thing that is given where another kind of thing goes: the message says what it is and what takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lpzero_hf import LpzError, load_benchmark, load_model, load_plugins, load_space
from lpzero_hf.benchmarks.benchmark import installed_benchmarks
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.proxies.resolve import find_proxy, installed_proxies, resolve
from lpzero_hf.scoring.costs import find_costs, installed_costs
from lpzero_hf.spaces.misplaced import refuse_misplaced
from lpzero_hf.spaces.named import installed_models, installed_spaces
from lpzero_hf.spaces.read_config import looks_like_hub_id

LOADERS: dict[str, Callable[[str], object]] = {
    "model": load_model, "space": load_space, "benchmark": load_benchmark, "proxy": find_proxy,
    "cost": lambda name: find_costs(name, load_plugins()),
    "run": lambda name: refuse_misplaced(name, "run", load_plugins()),
}  # fmt: skip
FILES = {
    "runs.csv": ("", "a table"),
    "runs.tsv": ("", "a table"),
    "runs.parquet": ("", "a table"),
    "list.json": ('[{"params": 1}]', "a table"),
    "space.yaml": ("choices: {}", "a space"),
    "space.json": ('{"base": "gpt2-variant", "choices": {}}', "a space"),
    "model.safetensors": ("x", "weights"),
    "pytorch_model.bin": ("x", "weights"),
    "model.gguf": ("x", "weights"),
    "config.json": ('{"model_type": "gpt2"}', "a model"),
    "book.txt": ("word", "a text"),
    "mine.py": ("x = 1", "code"),
    "score.json": ('{"models": [], "settings": {}}', "--from"),
    "proxy.json": ('{"format": "lpzero-hf proxy"}', "an exported proxy"),
    "benchmark.json": ('{"format": "lpzero-hf benchmark"}', "a benchmark"),
    "run/plan.json": ("{}", "a search"),
    "bare/model.safetensors": ("x", "without a config.json"),
    "trained/checkpoint-10/config.json": ("{}", "trained/checkpoint-10"),
    "lora/adapter_config.json": ("{}", "merge it"),
    "runs.csv.gz": ("x", "a table"),
    "eval.json": ('{"benchmark": "b", "grades": []}', "`lpz report eval.json`"),
    "result.json": ('{"plan": {}, "splits": []}', "a search"),
    "ranking.json": ('{"space": "s", "ranking": []}', "has printed"),
    "costs.json": ('{"models": [], "deployment": {}}', "has printed"),
    "found.json": ('{"format": "lpzero-hf front"}', "`lpz nas`"),
    "model.safetensors.index.json": ('{"weight_map": {}}', "beside a config.json"),
    "tokenizer_config.json": ('{"tokenizer_class": "x"}', "beside a config.json"),
    "tokenizer.json": ('{"added_tokens": []}', "beside a config.json"),
    "generation_config.json": ("{}", "beside a config.json"),
    "nas/nas.json": ("{}", "`lpz nas`"),
    "saved/dataset_info.json": ("{}", "--dataset saved"),
}
RIGHT = {
    "model": {"a model"},
    "space": {"a space"},
    "benchmark": {"a benchmark", "a table"},
    "proxy": {"an exported proxy"},
    "cost": set(),
    "run": {"a search", "`lpz report eval.json`"},
}
HELD = {  # a folder of each role, by what the message asks for
    "model": "config.json", "space": "YAML", "benchmark": "benchmark.json", "proxy": "lpz export", "run": "plan.json",
}  # fmt: skip


@pytest.mark.parametrize("wanted", LOADERS)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_told(
    name: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, told = FILES[name]
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content)
    given = Path(name).parts[0]
    if told in RIGHT[wanted]:
        refuse_misplaced(given, wanted, load_plugins())  # type: ignore[arg-type]  # one of the roles
        return
    with pytest.raises(LpzError) as refused:
        LOADERS[wanted](given)
    assert told in str(refused.value)
    assert f"'{given}' is" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "wanted", "told"),
    [
        ("tiny-gpt2", "model", "`lpz rank tiny-gpt2"),
        ("tiny-gpt2", "proxy", "a space"),
        ("gpt2-variant", "space", "`lpz score gpt2-variant`"),
        ("gpt2-variant", "benchmark", "a model"),
        ("gpt2-wt103", "model", "`lpz bench eval gpt2-wt103`"),
        ("snip", "model", "--proxy snip"),
        ("snip", "benchmark", "a proxy"),
    ],
)
def test_a_name_of_another_kind_is_told(name: str, wanted: str, told: str) -> None:
    with pytest.raises(LpzError) as refused:
        LOADERS[wanted](name)
    assert told in str(refused.value)


def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the Hub is asked")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", asked)
    monkeypatch.setattr("lpzero_hf.artifacts.hub.pull", asked)


@pytest.mark.parametrize("wanted", LOADERS)
def test_every_installed_name_of_another_kind_is_told_without_the_hub(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_hub(monkeypatch)
    plugins = load_plugins()
    kinds = {
        "model": installed_models(plugins), "space": installed_spaces(plugins),
        "benchmark": installed_benchmarks(plugins), "proxy": installed_proxies(plugins),
        "cost": installed_costs(plugins), "operation": installed_operations(plugins),
    }  # fmt: skip
    others = {name for names in kinds.values() for name in names} - set(kinds.get(wanted, ()))
    assert len(others) > 40
    for name in sorted(others - ({"gpt2"} if wanted == "model" else set())):  # which the Hub has too
        with pytest.raises(LpzError) as refused:
            LOADERS[wanted](name)
        assert str(refused.value).startswith(f"'{name}' is a"), refused.value
        assert refused.value.exit_code == 2
        assert "`lpz " in str(refused.value)


@pytest.mark.parametrize("wanted", HELD)
@pytest.mark.parametrize("content", ["", "notes.md"])
@pytest.mark.parametrize("name", ["mine", "./mine", "mine.d"])
def test_a_folder_of_nothing_known_is_told_what_belongs_there(
    name: str, content: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    no_hub(monkeypatch)
    Path(name).mkdir()
    if content:
        Path(name, content).write_text("words")
    with pytest.raises(LpzError) as refused:
        LOADERS[wanted](name)
    assert f"the folder '{name}'" in str(refused.value)
    assert HELD[wanted] in str(refused.value) or (not content and "is empty; " in str(refused.value))
    assert refused.value.exit_code == 2


def test_a_report_on_the_folder_of_nas_says_what_to_use(
    lpz: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotly")
    monkeypatch.chdir(tmp_path)
    Path("found").mkdir()
    Path("found/nas.json").write_text("{}")
    code, out, err = lpz("report", "found")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "`lpz nas`" in err
    assert "winner" in err


def test_a_folder_here_is_meant_before_a_name_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load_model("gpt2-variant").model.config.save_pretrained("tiny-gpt2")
    assert load_model("tiny-gpt2").model.config.n_layer == 6


@pytest.mark.parametrize(
    ("wanted", "name", "near"),
    [("model", "gpt2-varient", "gpt2-variant"), ("space", "tiny-gtp2", "tiny-gpt2"), ("proxy", "snipp", "snip"),
     ("benchmark", "flexibart", "flexibert")],
)  # fmt: skip
def test_a_name_near_a_known_one_is_told_only_that(
    wanted: str, name: str, near: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(LpzError) as refused:
        LOADERS[wanted](name)
    assert str(refused.value) == f"unknown {wanted} '{name}'; did you mean '{near}'?"


def test_the_hub_is_spoken_of_only_for_names_that_look_like_its_ids() -> None:
    assert [looks_like_hub_id(name) for name in ("a/b", "gpt2", "t5-small", "zzqx", "a/b/c", "no such")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    paths = ("./a", "../a", "a/config.json", "runs/a.csv", "a/", "/a", "~/a", "a/b.safetensors", "bert-a.yaml", "a/-b")
    assert not any(map(looks_like_hub_id, paths))
    with pytest.raises(LpzError) as refused:
        load_model("zzqx yyy")
    assert "Hub" not in str(refused.value)


def test_names_with_commas_are_several() -> None:
    assert [proxy.name for proxy in resolve(["snip, params", "num_heads"])] == ["snip", "params", "num_heads"]
    assert len(resolve("sum(sum(product(W, G)))")) == 1
    with pytest.raises(LpzError, match="did you mean 'snip'"):
        resolve("params,snipp")


def test_what_cannot_be_looked_into_is_left_to_those_who_read_it(tmp_path: Path) -> None:
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 10_000)
    refuse_misplaced(deep, "proxy", load_plugins())
    deep.write_text(json.dumps({"a": 1}))
    refuse_misplaced(deep, "model", load_plugins())
    refuse_misplaced("\0", "model", load_plugins())
