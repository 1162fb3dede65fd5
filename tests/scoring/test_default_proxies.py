"""Which proxies score a model if none are named."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model, PreTrainedModel

from lpzero_hf import load_model, minibatch, recommended, score
from lpzero_hf.errors import MinibatchWarning, ModelError, ModelWarning, UsageError
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.evidence import SIZES, chosen
from lpzero_hf.proxies.resolve import installed_proxies, resolve
from tests.support.families import tiny_model


def names(kind: str) -> list[str]:
    return [proxy.name for proxy in recommended(kind)]  # type: ignore[arg-type]  # of a parametrization


@pytest.mark.parametrize(
    ("family", "kind"), [("gpt2", "decoder"), ("mamba", "decoder"), ("bert", "encoder"), ("t5", "encoder-decoder")]
)
def test_score_takes_those_recommended_for_the_kind_of_the_model(family: str, kind: str) -> None:
    model = tiny_model(family)
    batch = minibatch(model, batch_size=2, seq_len=16)
    assert list(score(model, batch)) == list(score(model, batch, None)) == names(kind)


def test_a_model_of_which_no_kind_is_told_has_recommended_proxies_too(batch: dict[str, Tensor]) -> None:
    class OwnConfig(GPT2Config):
        model_type = "no-family-of-transformers"

    model = GPT2Model(OwnConfig(n_layer=1, n_embd=32, n_head=2, vocab_size=4200, n_positions=64)).eval()
    with pytest.warns(ModelWarning, match="no loss"):
        scores = score(model, batch)
    assert list(scores) == names("other")


def test_a_wrapped_model_and_one_without_weights_are_of_the_kind_of_the_model(gpt2: PreTrainedModel) -> None:
    batch = minibatch(gpt2, batch_size=2, seq_len=16)
    lazy = load_model("gpt2-variant", lazy=True).model
    for model in (nn.DataParallel(gpt2), torch.compile(gpt2), lazy):
        assert list(score(model, batch)) == names("decoder")  # type: ignore[arg-type]  # torch.compile has no type


def test_all_are_those_that_are_installed(gpt2: PreTrainedModel) -> None:
    batch = minibatch(gpt2, batch_size=2, seq_len=16)
    assert list(score(gpt2, batch, "all")) == [proxy.name for proxy in resolve("all")] != names("decoder")


def test_python_and_the_command_take_the_same(lpz: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    model = tiny_model("gpt2")
    model.config.save_pretrained(tmp_path)
    code, out, _ = lpz("score", str(tmp_path), "--batch-size", "2", "--seq-len", "16", "--json")
    assert code == 0
    rows = json.loads(out)["models"][0]["scores"]
    assert [row["proxy"] for row in rows] == list(score(model, minibatch(model, batch_size=2, seq_len=16)))


def test_a_minibatch_is_missed_in_one_line_that_says_what_to_do(gpt2: PreTrainedModel) -> None:
    with pytest.raises(UsageError, match="without a minibatch") as raised:
        score(gpt2, None)
    assert "minibatch(model)" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert score(gpt2, None, SIZES)["params"].value


def test_a_plain_module_is_refused_as_with_a_name(batch: dict[str, Tensor]) -> None:
    for proxies in (None, "snip"):
        with pytest.raises(ModelError, match="PreTrainedModel"):
            score(nn.Linear(2, 3), batch, proxies)


def test_without_the_plugin_that_offers_them_none_are_recommended(gpt2: PreTrainedModel) -> None:
    batch = minibatch(gpt2, batch_size=2, seq_len=16)
    with pytest.raises(UsageError, match="recommended"):
        score(gpt2, batch, plugins=PluginRegistry(found=list[EntryPoint]()))


def test_none_of_them_is_named_and_warned_of_as_one_that_is() -> None:
    plugins = PluginRegistry()
    searched = next(
        claim.item for claim in installed_proxies(plugins).values() if claim.item.minibatches and claim.item.trained_on
    )
    for selection in (chosen(None, ["decoder"], plugins), resolve("all", plugins), resolve(resolve("all", plugins))):
        assert selection.named == ()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            selection.warn_of_minibatch(3, 7)
    with pytest.warns(MinibatchWarning, match=searched.name):
        resolve(resolve(searched.name, plugins)).warn_of_minibatch(3, 7)


def test_several_kinds_have_the_proxies_of_each_once() -> None:
    both = [p.name for p in chosen(None, ["decoder", "encoder"], PluginRegistry(), without=SIZES)]
    assert both == [name for name in dict.fromkeys(names("decoder") + names("encoder")) if name not in SIZES]
