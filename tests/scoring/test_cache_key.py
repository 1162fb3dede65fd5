"""A changed thing never gets a cached number: what the key of an architecture is made of."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AttentionInterface, GPT2Config, LlavaConfig, MixtralConfig, PreTrainedConfig, PreTrainedModel

from lpzero_hf import ModelLayout, Setting, Unary, expression_proxy, find_layout, hookimpl, parse
from lpzero_hf.expressions.expression import BUILT_IN
from lpzero_hf.expressions.tables import Wanted
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.resolve import find_proxy, resolve
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.cache_key import architecture_key
from lpzero_hf.scoring.evaluate import evaluate
from lpzero_hf.searching.config import SearchConfig
from lpzero_hf.searching.expression_space import ExpressionSpace
from lpzero_hf.searching.table_cache import make_tables, table_key
from tests.support.architectures import SMALL, gpt2_config

MODEL = """
import torch
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

SCALE = 1.0


class Config(PreTrainedConfig):
    model_type = "mine"
    vocab_size = 4200


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.mlp = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

    def forward(self, x):
        return x + SCALE * self.mlp(self.attn(x)).relu()


class Model(PreTrainedModel):
    config_class = Config

    def __init__(self, config):
        super().__init__(config)
        self.embedding = torch.nn.Embedding(4200, 8)
        self.layers = torch.nn.ModuleList([Layer(), Layer()])
        self.post_init()

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask=None, return_dict=True):
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = layer(x)
        return BaseModelOutput(last_hidden_state=x)


AutoConfig.register("mine", Config, exist_ok=True)
AutoModel.register(Config, Model, exist_ok=True)
"""


def key(config: PreTrainedConfig, plugins: PluginRegistry | None = None) -> str:
    return architecture_key(config, Setting().key(1), plugins or load_plugins())


@hookimpl
def lpz_model_layout(model: PreTrainedModel) -> ModelLayout | None:
    """A layout of two linear layers; this module is a plugin."""
    layout = find_layout(model)
    return dataclasses.replace(layout, sites=layout.sites[:2])


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module with a model class of a third party."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "models_of_mine.py"
    file.write_text(MODEL)
    return file


def loaded(package: Path) -> PreTrainedConfig:
    sys.modules.pop(package.stem, None)
    importlib.invalidate_caches()
    config: PreTrainedConfig = importlib.import_module(package.stem).Config()
    return config


def test_the_code_of_a_third_partys_model_counts(package: Path, tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        snip = resolve("snip")
        first = evaluate({"a": loaded(package)}, snip, SMALL, cache=cache)["a"]["snip"]["value"]
        assert evaluate({"a": loaded(package)}, snip, SMALL, cache=cache)["a"]["snip"]["value"] == first
        package.write_text(MODEL.replace("SCALE = 1.0", "SCALE = 30.0"))
        changed = evaluate({"a": loaded(package)}, snip, SMALL, cache=cache)["a"]["snip"]["value"]
    assert changed != first


def test_a_model_of_a_script_is_never_cached(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(package)
    assert key(config)
    for owner in (type(config), sys.modules[package.stem].Model):
        monkeypatch.setattr(owner, "__module__", "__main__")
    assert key(config) == ""
    wanted = SearchConfig(("tiny-gpt2",)).space(BUILT_IN).wanted
    smaller = dataclasses.replace(wanted, chains={name: wanted.chains[name][:2] for name in ("W", "G")}, pairs=())
    assert len(make_tables({"a": config}, smaller, SMALL, tmp_path / "tables", plugins=load_plugins())) == 1
    assert not list(tmp_path.glob("tables/*"))


def test_the_implementation_of_attention_counts() -> None:
    keys = {key(gpt2_config()), *(key(GPT2Config(attn_implementation=name)) for name in ("eager", "sdpa"))}
    assert len(keys) == 3


def test_a_plugin_that_describes_layouts_counts() -> None:
    point = EntryPoint("mine", __name__, "lpzero_hf")
    vars(point)["dist"] = SimpleNamespace(name="my-layouts", version="3")
    plugins = PluginRegistry(found=[point])
    assert key(gpt2_config(), plugins) != key(gpt2_config(), PluginRegistry(found=[])) == key(gpt2_config())
    vars(point)["dist"] = SimpleNamespace(name="my-layouts", version="4")
    assert key(gpt2_config(), PluginRegistry(found=[point])) != key(gpt2_config(), plugins)


def test_the_version_of_an_operation_counts() -> None:
    def proxy(version: str) -> str:
        operations = {**BUILT_IN, "cube": Unary("cube", lambda x: x**3, "x^3", version=version)}
        text = "sum(sum(product(cube(W), abs(G))))"
        return expression_proxy(parse(text, operations), operations=operations).version

    assert proxy("2") != proxy("1")


def test_the_modules_that_a_third_partys_model_uses_count(package: Path, tmp_path: Path) -> None:
    helper = tmp_path / "helper_of_mine.py"
    package.write_text(MODEL.replace("SCALE = 1.0", "from helper_of_mine import SCALE"))
    keys = []
    for scale in (1.0, 2.0, 1.0):
        helper.write_text(f"SCALE = {scale}\n")
        importlib.invalidate_caches()
        sys.modules.pop("helper_of_mine", None)
        keys.append(key(loaded(package)))
    assert keys[0] == keys[2] != ""
    assert keys[0] != keys[1]


def test_what_a_class_is_changed_to_while_it_runs_counts(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(package)
    before = key(config)
    monkeypatch.setattr(sys.modules[package.stem], "SCALE", 10.0)
    assert key(config) != before


def test_all_of_the_file_of_a_third_partys_model_counts(package: Path) -> None:
    before = key(loaded(package))
    package.write_text(MODEL + "\n\nREGISTERED = AutoModel.register(Config, Model, exist_ok=True)\n")
    assert key(loaded(package)) != before


def test_the_file_of_a_base_class_counts(package: Path, tmp_path: Path) -> None:
    base = tmp_path / "base_of_mine.py"
    base.write_text("from transformers import PreTrainedModel\n\n\nclass Base(PreTrainedModel):\n    pass\n")
    sys.modules.pop("base_of_mine", None)
    changed = MODEL.replace("class Model(PreTrainedModel)", "class Model(Base)")
    package.write_text("from base_of_mine import Base\n" + changed)
    before = key(loaded(package))
    assert before == key(loaded(package)) != ""
    base.write_text(base.read_text() + "\n\nLATER = 1\n")
    assert key(loaded(package)) != before


def test_the_implementation_of_experts_counts() -> None:
    def config(name: str) -> PreTrainedConfig:
        return MixtralConfig(experts_implementation=name)

    assert len({key(config(name)) for name in ("eager", "batched_mm", "grouped_mm")}) == 3


def test_attention_inside_a_composite_configuration_counts() -> None:
    def composite(name: str) -> PreTrainedConfig:
        return LlavaConfig(attn_implementation={"text_config": name})

    assert len({key(composite(name)) for name in ("eager", "sdpa")}) == 2


def test_the_code_of_a_users_attention_counts() -> None:
    def attention(factor: float) -> Any:
        return lambda module, query, key, value, mask, **_: (value * factor, None)

    keys = []
    for factor in (1.0, 2.0, 1.0):
        AttentionInterface.register("mine_of_the_tests", attention(factor))
        keys.append(key(GPT2Config(attn_implementation="mine_of_the_tests")))
    assert keys[0] == keys[2] != keys[1]


def test_the_code_of_a_plugin_that_describes_layouts_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def plugins(sites: int) -> PluginRegistry:
        @hookimpl
        def lpz_model_layout(model: PreTrainedModel) -> ModelLayout | None:
            layout = find_layout(model)
            return dataclasses.replace(layout, sites=layout.sites[:sites])

        plugin = SimpleNamespace(lpz_model_layout=lpz_model_layout)
        monkeypatch.setattr(EntryPoint, "load", lambda self: plugin)
        return PluginRegistry(found=[EntryPoint("mine", "mine", "lpzero_hf")])

    assert key(gpt2_config(), plugins(2)) == key(gpt2_config(), plugins(2)) != key(gpt2_config(), plugins(3))


def test_all_that_a_table_holds_counts() -> None:
    wanted = Wanted({"W": (("abs", "exp"),), "G": (("abs",),)}, (("W", "G"),))
    keys = [
        table_key(wanted, SMALL, 1),
        table_key(wanted, SMALL, 2),
        table_key(wanted, dataclasses.replace(SMALL, seed=SMALL.seed + 1), 1),
        table_key(dataclasses.replace(wanted, pairs=()), SMALL, 1),
        table_key(dataclasses.replace(wanted, chains={"W": (("exp", "abs"),), "G": (("abs",),)}), SMALL, 1),
        table_key(dataclasses.replace(wanted, chains={"W": (("abs", "exp"),), "A": (("abs",),)}), SMALL, 1),
    ]
    assert len(set(keys)) == len(keys)
    assert "" not in keys


def test_tables_of_the_six_keep_the_key_they_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that changes makes every cached table of every user again; change this one only with their meaning."""
    monkeypatch.setattr(Setting, "key", lambda self, threads: "a setting")
    space = ExpressionSpace((1, 1))
    assert table_key(space.wanted, SMALL, 1) == "0028781663cd746f36fad52d3e322c36"
    assert expression_proxy(parse("sum(sum(product(sqrt(J), sigmoid(H))))")).version == "1-5bbd0e2b24c163c3"


def test_the_version_of_a_built_in_operation_counts_for_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Wanted({"W": (("abs",),), "G": (("exp",),)}, (("W", "G"),))
    before = table_key(wanted, SMALL, 1)
    monkeypatch.setitem(vars(BUILT_IN["exp"]), "version", "99")
    assert table_key(wanted, SMALL, 1) != before


def test_the_version_of_a_built_in_proxy_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an update of this library that changes what the proxy computes, and not the versions of all."""
    snip = find_proxy("snip")
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        configs = {"a": gpt2_config()}
        evaluate(configs, [snip], SMALL, cache=cache)
        kept = evaluate(configs, [snip], SMALL, cache=cache)["a"]["snip"]
        cache.put(architecture_key(configs["a"], SMALL.key(1), load_plugins()), {"snip@99": kept | {"value": 7.0}})
        assert evaluate(configs, [snip], SMALL, cache=cache)["a"]["snip"] == kept
        monkeypatch.setitem(vars(snip), "version", "99")
        assert evaluate(configs, [snip], SMALL, cache=cache)["a"]["snip"]["value"] == 7.0


def test_the_code_of_an_operation_counts_for_a_table() -> None:
    def made(function: Any) -> str:
        operations = {**BUILT_IN, "cube": Unary("cube", function, "x^3")}
        return table_key(Wanted({"W": (("cube",),)}, (), operations), SMALL, 1)

    state = iter([3])
    keys = [made(lambda x: x**3), made(lambda x: x**5), made(lambda x: x * len(str(state)))]
    assert keys[0] != keys[1]
    assert keys[2] == ""
