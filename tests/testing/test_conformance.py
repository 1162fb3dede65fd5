"""Every built-in proxy passes the conformance kit, and each kind of bad proxy is caught by the right check."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, MambaConfig, PreTrainedModel

from lpzero_hf import ModelProxy, NotApplicable, Proxy, Reduction, StatisticProxy
from lpzero_hf.errors import InvalidScore, UsageError
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import CompositeProxy, Subject
from lpzero_hf.proxies.resolve import find_proxy, installed_proxies
from lpzero_hf.testing import FAMILIES, ConformanceError, check_proxy, checks, tiny_batch, tiny_model
from lpzero_hf.testing.model_state import changes, disturb, state

pytest_plugins = "pytester"

BASELINES = {"params", "num_layers", "num_heads", "hidden_size", "flops"}
ORDERED = {"activation_distance_lpzero", "zen", "zico"}  # the first sample, noise by position, halves of the minibatch
OWN = [
    name
    for name, claim in installed_proxies(load_plugins()).items()
    if claim.distribution == "lpzero-hf" and not isinstance(claim.item, CompositeProxy)  # whose members are here
]


@pytest.mark.parametrize("name", OWN)
def test_every_built_in_proxy_conforms(name: str) -> None:
    check_proxy(name, baseline=name in BASELINES)


def test_an_expression_conforms() -> None:
    check_proxy("sum(sum(product(abs(W), abs(G))))", baseline=True)


@pytest.mark.parametrize("name", sorted(ORDERED))
def test_proxies_that_depend_on_the_order_of_samples_claim_nothing_else(name: str) -> None:
    proxy = find_proxy(name)
    assert not proxy.batch_order_invariant
    assert failed(replace(proxy, batch_order_invariant=True), name) >= {"ignores_the_order_of_samples"}


def width(subject: Subject) -> float:
    """A sound proxy, that all the bad ones are made from."""
    return float(subject.model.config.hidden_size)


def norm(W: Tensor) -> Tensor:
    return W.norm()


def plain(model: PreTrainedModel, batch: dict[str, Any]) -> float:
    """blocks"""
    return float(model.config.num_hidden_layers)


def failed(proxy: Proxy | Callable[..., float], name: str = "", **options: Any) -> set[str]:
    """The checks that fail, by what the message says."""
    with pytest.raises(ConformanceError) as caught:
        check_proxy(proxy, **options)
    lines = str(caught.value).splitlines()
    assert re.fullmatch(r"proxy '.*' fails \d+ of \d+ checks", lines[0])
    assert not name or f"'{name}'" in lines[0]
    names = {line.strip(" :") for line in lines if re.fullmatch(r"  \w+:", line)}
    assert str(caught.value).count("    remedy: ") == len(names)
    return names


SOUND = ModelProxy(name="sound", formula="units", citation="these tests", evaluate=width)
ONE = {"bert": FAMILIES["bert"]}  # is enough for what is wrong in every family


def test_sound_proxies_conform() -> None:
    check_proxy(SOUND)
    check_proxy(replace(SOUND, batch_order_invariant=True))
    check_proxy(plain, baseline=True)
    reductions = [Reduction("linear", ("W",), norm)]
    check_proxy(StatisticProxy(name="norm", formula="sum ||W||", citation="these tests", reductions=reductions))


def draws(subject: Subject) -> float:
    return float(numpy.random.default_rng().random())


CALLS: Iterator[int] = iter(range(10**9))


def counts(subject: Subject) -> float:
    return float(next(CALLS))


def writes_unseen(subject: Subject) -> float:
    with torch.no_grad(), torch._C.DisableTorchFunction():
        next(subject.model.parameters()).mul_(1.5)
    return 1.0


def writes_weights(subject: Subject) -> float:
    with torch.no_grad():
        next(subject.model.parameters()).mul_(1.5)
    return 1.0


def writes_batch(subject: Subject) -> float:
    subject.batch["attention_mask"].fill_(1)
    return 1.0


def adds_to_configuration(subject: Subject) -> float:
    subject.model.config.hidden_dropout = 0.5
    return 1.0


def is_nan(subject: Subject) -> float:
    return float("nan")


def is_infinite_with_padding(subject: Subject) -> float:
    return 1.0 if subject.batch["attention_mask"].all() else float("inf")


def raises(subject: Subject) -> float:
    raise KeyError("lost")


def says_invalid(subject: Subject) -> float:
    raise InvalidScore("it has its reasons")


def not_here(subject: Subject) -> float:
    raise NotApplicable("never")


def only_single(subject: Subject) -> float:
    return float((next(subject.model.parameters()).detach() @ torch.ones(32)).sum())


def first_sample(subject: Subject) -> float:
    return float(subject.batch["input_ids"][0].sum())


@pytest.mark.parametrize(
    ("evaluate", "check"),
    [
        (draws, "is_deterministic"),
        (counts, "is_deterministic"),
        (counts, "scores_alone_as_in_company"),
        (writes_unseen, "leaves_no_trace"),
        (is_nan, "gives_numbers"),
        (is_infinite_with_padding, "gives_numbers"),
        (raises, "gives_numbers"),
        (says_invalid, "gives_numbers"),
        (not_here, "gives_numbers"),
        (only_single, "gives_numbers_in_other_precisions"),
        (lambda subject: 1.0, "reaches_other_processes"),
    ],
)
def test_a_bad_proxy_is_caught(evaluate: Callable[[Subject], float], check: str) -> None:
    caught = failed(replace(SOUND, evaluate=evaluate), models=ONE)
    assert check in caught
    several = (writes_unseen, draws, counts, is_nan, raises, is_infinite_with_padding)  # break several promises
    assert caught == {check} or evaluate in several


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"name": "Has Spaces"}, "has_a_name"),
        ({"name": "f(x)"}, "has_a_name"),
        ({"formula": " "}, "has_a_formula"),
        ({"formula": "a\nb"}, "has_a_formula"),
        ({"citation": ""}, "has_a_citation"),
        ({"evaluate": first_sample, "batch_order_invariant": True}, "ignores_the_order_of_samples"),
    ],
)
def test_a_proxy_that_is_described_badly_is_caught(change: dict[str, Any], check: str) -> None:
    assert failed(replace(SOUND, **change), models=ONE) == {check}


def test_an_orientation_that_a_subclass_smuggles_in_is_caught() -> None:
    proxy = replace(SOUND)
    object.__setattr__(proxy, "orientation", 0)
    assert failed(proxy) == {"has_an_orientation"}


def test_a_function_without_a_name_or_a_docstring_is_caught() -> None:
    assert failed(lambda model, batch: 1.0, "<lambda>") == {
        "has_a_name",
        "has_a_formula",
        "has_a_citation",
        "reaches_other_processes",
    }


@pytest.mark.parametrize("evaluate", [writes_weights, writes_batch, adds_to_configuration])
def test_bad_manners_leave_no_trace(evaluate: Callable[[Subject], float]) -> None:
    dict(checks(replace(SOUND, evaluate=evaluate), models=ONE))["leaves_no_trace"]()


def test_a_reduction_that_writes_is_caught() -> None:
    reductions = [Reduction("linear", ("W",), lambda W: W.mul_(2).sum())]
    greedy = StatisticProxy(name="greedy", formula="2 W", citation="these tests", reductions=reductions)
    assert "gives_numbers" in failed(greedy)


def test_a_proxy_of_other_families_is_tried_on_those() -> None:
    def states(subject: Subject) -> float:
        if subject.model.config.model_type != "mamba":
            raise NotApplicable("no state space")
        return float(subject.model.config.state_size)

    def mamba() -> MambaConfig:
        return MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, state_size=8)

    proxy = replace(SOUND, evaluate=states)
    assert failed(proxy) == {"gives_numbers", "reaches_other_processes"}
    assert failed(proxy, models={"mamba": mamba}) == {"reaches_other_processes"}


def test_a_model_that_cannot_be_read_is_a_failure_and_no_crash() -> None:
    def headless() -> GPT2Config:
        return GPT2Config(vocab_size=96, n_embd=32, n_layer=0, n_head=4, n_positions=32)

    assert "gives_numbers" in failed(SOUND, models={"no blocks": headless})


def test_checks_are_handed_out_one_by_one() -> None:
    tried = dict(checks(replace(SOUND, evaluate=draws)))
    assert "ignores_the_order_of_samples" not in tried  # not claimed
    assert ("gives_numbers_on_a_gpu" in tried) == torch.cuda.is_available()
    tried["leaves_no_trace"]()
    with pytest.raises(ConformanceError, match="is_deterministic"):
        tried["is_deterministic"]()


def test_what_is_no_proxy_is_refused() -> None:
    with pytest.raises(UsageError, match="'snipp'"):
        check_proxy("snipp")
    with pytest.raises(TypeError, match="function"):
        check_proxy(3)  # type: ignore[arg-type]


def test_a_state_sees_what_tests_of_the_library_see() -> None:
    model, batch = tiny_model("llama"), tiny_batch()
    disturb(model)
    before = state(model, batch)
    assert changes(before, state(model, batch)) == []
    torch.rand(1)
    numpy.random.rand(1)
    next(model.buffers()).add_(1)
    next(p for p in model.parameters() if p.grad is not None).grad.zero_()  # type: ignore[union-attr]
    model.model.layers[1].train(not model.model.layers[1].training)
    model.lm_head.register_forward_hook(lambda *_: None)
    batch["input_ids"][0, 0] += 1
    assert changes(before, state(model, batch)) == [
        "gradients",
        "buffers",
        "train and eval modes",
        "hooks",
        "attributes",
        "minibatch",
        "random state of torch",
        "random state of numpy",
    ]


@pytest.mark.lpz_proxies("snip", SOUND)
@pytest.mark.lpz_proxies("num_layers", baseline=True)
def test_the_mark_makes_a_test_of_each_check(lpz_check: Callable[[], None], request: pytest.FixtureRequest) -> None:
    proxy, check = request.node.callspec.id.split("-")
    assert proxy in {"snip", "sound", "num_layers"}
    assert (proxy, check) != ("num_layers", "has_a_citation")
    lpz_check()


def test_models_of_every_family_come_as_fixtures(
    lpz_family: str, lpz_model: PreTrainedModel, lpz_batch: dict[str, Tensor]
) -> None:
    assert lpz_model.config.model_type == lpz_family
    assert lpz_family in FAMILIES
    with torch.no_grad():
        assert lpz_model(**lpz_batch).logits.shape[:2] == (4, 12)


def test_a_mark_that_names_nothing_is_told_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        def test_unmarked(lpz_check): ...
        """
    )
    pytester.runpytest_inprocess().stdout.fnmatch_lines(["*@pytest.mark.lpz_proxies('my_proxy')*"])


def test_a_proxy_that_is_not_installed_is_told_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.lpz_proxies("my_proxy")
        def test_marked(lpz_check): ...
        """
    )
    pytester.runpytest_inprocess().stdout.fnmatch_lines(["*unknown proxy 'my_proxy'*pip install -e .*"])


def test_the_pytest_plugin_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "numpy", "typer", "lpzero_hf.plugins"}
    code = f"import sys, lpzero_hf.testing.pytest_plugin; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
