"""A change of anything that code reads changes its digest; what has none is never cached."""

from __future__ import annotations

import dataclasses
import importlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from lpzero_hf import Reduction, StatisticProxy, Unary, expression_proxy, parse
from lpzero_hf.expressions.expression import BUILT_IN
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import FunctionProxy, ModelProxy, Proxy, Subject, as_proxy, source_digest
from lpzero_hf.proxies.code_digest import code_digest
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.scoring.cache import ScoreCache
from lpzero_hf.scoring.setting import Setting
from tests.support.architectures import SMALL, gpt2_config
from tests.support.evaluated import evaluate

FACTOR = 1.0
TABLE = {"by": [1.0, 2.0]}


def scaled(by: Any) -> Callable[..., float]:
    return lambda *_: float(by)


def with_default(by: float) -> Callable[..., float]:
    def function(*_: Any, factor: float = by) -> float:
        return factor

    return function


class Scaler:
    scale = 1.0

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, *_: Any) -> float:
        return self.by * self.scale

    def method(self, *_: Any) -> float:
        return self(*_)


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, *_: Any) -> float:
        return self.by


def helper() -> float:
    return FACTOR * TABLE["by"][0]


def by_helper(*_: Any) -> float:
    return helper()


def times(by: float, *_: Any) -> float:
    return by


MAKERS: dict[str, Callable[[float], Callable[..., float]]] = {
    "closure": scaled,
    "closure of a closure": lambda by: scaled(by),
    "default": with_default,
    "callable object": Scaler,
    "slots": Slotted,
    "bound method": lambda by: Scaler(by).method,
    "partial": lambda by: partial(times, by),
    "partial of a closure": lambda by: partial(scaled(by)),
    "a tensor": lambda by: scaled(torch.full((2, 2), by)[0, 0]),
    "a dictionary": lambda by: lambda *_, held={"a": [by]}: held["a"][0],
}


@pytest.mark.parametrize("kind", MAKERS)
def test_the_values_that_code_holds_count(kind: str) -> None:
    make = MAKERS[kind]
    assert code_digest(make(1.0)) == code_digest(make(1.0)) != ""
    assert code_digest(make(1.0)) != code_digest(make(2.0))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_changed_proxy_never_gets_the_old_score(kind: str, tmp_path: Path) -> None:
    configs = {"a": gpt2_config()}
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        for by in (1.0, 2.0):
            function = MAKERS[kind](by)
            made = [ModelProxy(name="mine", formula="", evaluate=function)]
            made += [FunctionProxy(name="other", formula="", function=function)]
            rows = evaluate(configs, made, SMALL, cache=cache)["a"]
            assert [rows[name]["value"] for name in ("mine", "other")] == [by, by]


@pytest.mark.parametrize(
    ("place", "value"),
    [("FACTOR", 3.0), ("TABLE", {"by": [5.0]}), ("helper", lambda: 7.0)],
)
def test_what_a_function_reads_from_its_module_counts(place: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digest(by_helper)
    monkeypatch.setitem(globals(), place, value)
    assert code_digest(by_helper) != before


def test_the_attributes_of_a_class_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digest(Scaler(1.0))
    monkeypatch.setattr(Scaler, "scale", 2.0)
    assert code_digest(Scaler(1.0)) != before


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Write the helpers of a module, and load both anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "uses_a_helper.py").write_text(
        "import a_helper\nfrom a_helper import two\n\n"
        "def one(*_):\n    return a_helper.inner.value()\n\n"
        "def both(*_):\n    return two()\n\n"
        "def late(*_):\n    from a_helper import three\n    return three()\n"
    )

    def load(body: str) -> Any:
        (tmp_path / "a_helper.py").write_text("import a_helper_inside as inner\n" + body)
        (tmp_path / "a_helper_inside.py").write_text(body.replace("two", "value"))
        for name in ("uses_a_helper", "a_helper", "a_helper_inside"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("uses_a_helper")

    yield load
    for name in ("uses_a_helper", "a_helper", "a_helper_inside"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["one", "both", "late"])
def test_helpers_in_other_modules_count(name: str, module: Callable[[str], Any], tmp_path: Path) -> None:
    body = "def two():\n    return 1.0\n\ndef three():\n    return 1.0\n"
    before = code_digest(getattr(module(body), name))
    assert before == code_digest(getattr(module(body), name)) != ""
    assert code_digest(getattr(module(body.replace("1.0", "20.0")), name)) != before


WAYS = {  # to come by a value
    "enum": "import enum\nclass E(enum.Enum):\n    a = {}\nM = E.a\ndef one(*_): return M.value",
    "number of a subclass": "class N(int): pass\nK = N({})\ndef one(*_): return K + 0",
    "text of a subclass": "class N(str): pass\nK = N('{}')\ndef one(*_): return float(K)",
    "attribute of a list": "class N(list): pass\nK = N()\nK.by = {}\ndef one(*_): return K.by",
    "attribute of a dictionary": "class N(dict): pass\nK = N()\nK.by = {}\ndef one(*_): return K.by",
    "default of a dictionary": (
        "from collections import defaultdict\nK = defaultdict(lambda: {})\ndef one(*_): return K['x']"
    ),
    "object in a set": (
        "class N:\n    def __init__(self, by): self.by = by\n    def __repr__(self): return 'N'\n"
        "K = {{N({})}}\ndef one(*_): return [*K][0].by"
    ),
    "metaclass": "class T(type):\n    by = {}\nclass N(metaclass=T): pass\ndef one(*_): return N.by",
    "getattr": "class N: pass\nimport um_helper\ndef one(*_): return getattr(um_helper, 'by')",
    "module in a table": "import um_helper\nK = [um_helper]\ndef one(*_): return K[0].by",
    "module handed on": "import um_helper\ndef use(it): return it.by\ndef one(*_): return use(um_helper)",
    "getattr of a module": "import um_helper\ndef one(*_): return um_helper.made",
}
LOOKED_UP = {
    "globals": "K = {}\ndef one(*_): return globals()['K']",
    "eval": "K = {}\ndef one(*_): return eval('K')",
    "vars": "import um_helper\ndef one(*_): return vars(um_helper)['by']",
    "import_module": "import importlib\ndef one(*_): return importlib.import_module('um_helper').by",
    "environ": "import os\ndef one(*_): return float(os.environ.get('UM_BY', {}))",
}


@pytest.mark.parametrize("way", [*WAYS, *LOOKED_UP])
def test_a_value_counts_however_code_comes_by_it(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def made(by: int) -> str:
        (tmp_path / "um_helper.py").write_text(f"by = {by}\ndef __getattr__(name): return {by}\n")
        (tmp_path / "um_user.py").write_text((WAYS | LOOKED_UP)[way].format(by))
        for name in ("um_user", "um_helper"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return code_digest(importlib.import_module("um_user").one)

    try:
        if way in LOOKED_UP:
            assert made(1) == ""
        else:
            assert made(1) == made(1) != ""
            assert made(1) != made(2)
    finally:
        for name in ("um_user", "um_helper"):
            sys.modules.pop(name, None)


def test_a_digest_is_the_same_in_another_process() -> None:
    code = (
        "from tests.proxies.test_code_digest import *\n"
        "print([code_digest(make(1.0)) for make in MAKERS.values()], code_digest(by_helper), code_digest(Scaler))"
    )
    made = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("unknown", [iter([1]), (x for x in "ab"), torch.empty(2, device="meta")])
def test_what_has_no_digest_is_never_cached(unknown: Any, tmp_path: Path) -> None:
    function = lambda subject: 1.0 if unknown is None else 2.0  # noqa: E731
    assert code_digest(function) == ""
    assert as_proxy(function).version == ""
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        proxy = ModelProxy(name="mine", formula="", evaluate=function)
        evaluate({"a": gpt2_config()}, [proxy], SMALL, cache=cache)
    with sqlite3.connect(tmp_path / "scores.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM scores").fetchone() == (0,)


# Proxies and operations -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Powered(StatisticProxy):
    power: float = 1.0

    def finish(self, reduced: Any, layout: Any) -> float:
        return float(super().finish(reduced, layout)) ** self.power


def norm(X: Tensor) -> Tensor:
    return X.norm()


def test_every_part_of_a_proxy_counts() -> None:
    def mine(**changes: Any) -> Proxy:
        facts: dict[str, Any] = {"reductions": (Reduction("linear", ("W",), norm),)} | changes
        return Powered(name="mine", formula="", **facts)

    changed = [
        mine(), mine(power=2.0), mine(combine=lambda values, layout: 1.0),
        mine(reductions=(Reduction("ffn_linear", ("W",), norm),)),
        mine(reductions=(Reduction("linear", ("G",), norm),)),
        mine(reductions=(Reduction("linear", ("W",), torch.sum),)),
        StatisticProxy(name="mine", formula="", reductions=(Reduction("linear", ("W",), norm),)),
        dataclasses.replace(mine(), network=dataclasses.replace(Powered.network, substitute=torch.abs)),
    ]  # fmt: skip
    digests = [source_digest(proxy) for proxy in changed]
    assert "" not in digests
    assert len(set(digests)) == len(digests)
    assert source_digest(mine()) == digests[0]


def test_the_code_of_an_operation_counts_whatever_its_version() -> None:
    def proxy(function: Callable[[Tensor], Tensor], name: str = "cube") -> Proxy:
        operations = {**BUILT_IN, name: Unary(name, function, "x^3")}
        return expression_proxy(parse(f"sum(sum(product({name}(W), abs(G))))", operations), operations=operations)

    assert source_digest(proxy(lambda x: x**3)) != source_digest(proxy(lambda x: x**5))
    assert source_digest(proxy(torch.sqrt, "abs")) != source_digest(
        expression_proxy(parse("sum(sum(product(abs(W), abs(G))))"))
    )


def shared(factor: float) -> Any:
    """A plugin that offers a proxy, of one version whatever its code."""
    from lpzero_hf import hookimpl

    @hookimpl
    def lpz_proxies() -> list[Proxy]:
        return [ModelProxy(name="of_a_plugin", formula="", evaluate=scaled(factor))]

    return SimpleNamespace(lpz_proxies=lpz_proxies)


def test_the_code_of_a_plugins_proxy_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScoreCache(tmp_path / "scores.sqlite") as cache:
        for factor in (1.0, 2.0):
            monkeypatch.setattr(EntryPoint, "load", lambda self, factor=factor: shared(factor))
            plugins = PluginRegistry(found=[EntryPoint("mine", "mine", "lpzero_hf")])
            proxy = installed_proxies(plugins)["of_a_plugin"].item
            rows = evaluate({"a": gpt2_config()}, [proxy], SMALL, cache=cache, plugins=plugins)
            assert rows["a"]["of_a_plugin"]["value"] == factor


def test_the_distribution_that_offers_a_proxy_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code of another distribution may read other files."""
    plugin = shared(1.0)
    monkeypatch.setattr(EntryPoint, "load", lambda self: plugin)
    keys = set()
    for owner in ("one", "other"):
        point = EntryPoint("mine", "mine", "lpzero_hf")
        vars(point)["dist"] = SimpleNamespace(name=owner, version="1")
        plugins = PluginRegistry(found=[point])
        proxy = installed_proxies(plugins)["of_a_plugin"].item
        with ScoreCache(tmp_path / f"{owner}.sqlite") as cache:
            evaluate({"a": gpt2_config()}, [proxy], SMALL, cache=cache, plugins=plugins)
        with sqlite3.connect(tmp_path / f"{owner}.sqlite") as connection:
            keys |= {row[0] for row in connection.execute("SELECT proxy FROM scores")}
    assert len(keys) == 2


def plain_function(model: PreTrainedModel, batch: dict[str, Any]) -> float:
    return FACTOR


def test_the_version_of_a_plain_function_is_that_of_all_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = as_proxy(plain_function).version
    assert before == as_proxy(plain_function).version
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert as_proxy(plain_function).version != before


# Switches ------------------------------------------------------------------------------------------------------


@pytest.fixture
def restored() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cuda.math_sdp_enabled()
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cuda.enable_math_sdp(before[1])
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "switch",
    [
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: torch.backends.cuda.enable_math_sdp(False),
        lambda: torch.use_deterministic_algorithms(True),
    ],
)
def test_switches_of_torch_count(switch: Callable[[], None], restored: None) -> None:
    before = Setting().key(1)
    switch()
    assert Setting().key(1) != before


def test_the_subject_and_the_configuration_are_no_code() -> None:
    assert code_digest(Subject) == code_digest(Subject)
    assert code_digest(PreTrainedConfig) != code_digest(PreTrainedModel)
