"""Plugins come and go without breaking anything else; conflicts name both distributions."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from lpzero_hf import hookimpl, score
from lpzero_hf import plugins as plugins_module
from lpzero_hf.errors import PluginError, PluginWarning, UsageError
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.spaces.named import installed_models


class Distribution:
    """The part of an installed distribution that entry points show."""

    def __init__(self, name: str) -> None:
        self.name, self.version = name, "1.0"


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., EntryPoint]]:
    """Make an entry point whose module holds the given source."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def make(name: str, source: str, distribution: str = "") -> EntryPoint:
        module = f"plugin_{name.replace('-', '_')}_{len(made)}"
        made.append(module)
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        point = EntryPoint(name, module, "lpzero_hf")
        vars(point)["dist"] = Distribution(distribution or f"dist-{name}")
        return point

    yield make
    for module in made:
        sys.modules.pop(module, None)


def proxy_source(*names: str) -> str:
    """A plugin that offers plain functions as proxies."""
    functions = "\n".join(f"def {name}(model, batch):\n    '''counts'''\n    return 7.0" for name in names)
    head = "from lpzero_hf import hookimpl"
    return f"{head}\n{functions}\n@hookimpl\ndef lpz_proxies():\n    return [{', '.join(names)}]\n"


HEAD = "from lpzero_hf import hookimpl\n@hookimpl\n"


def installed() -> list[EntryPoint]:
    return list(entry_points(group="lpzero_hf"))


def test_built_in_proxies_arrive_through_the_same_entry_points() -> None:
    registry = load_plugins()
    assert installed_proxies(registry)["snip"].plugin == "builtin-proxies"
    assert installed_proxies(PluginRegistry(found=[])) == {}


def test_a_plain_function_becomes_a_proxy(offer: Callable[..., EntryPoint], gpt2: PreTrainedModel, batch: Any) -> None:
    registry = PluginRegistry(found=[offer("mine", proxy_source("seven"))])
    assert installed_proxies(registry)["seven"].distribution == "dist-mine"
    assert score(gpt2, batch, "seven", plugins=registry)["seven"].require() == 7.0


def test_two_plugins_with_one_proxy_name_are_an_error_that_names_both(offer: Callable[..., EntryPoint]) -> None:
    points = [offer("a", proxy_source("twin"), "first-dist"), offer("b", proxy_source("twin"), "second-dist")]
    with pytest.raises(PluginError, match=r"'twin'.*first.*second"):
        installed_proxies(PluginRegistry(found=points))
    assert list(installed_proxies(PluginRegistry(["b"], points))) == ["twin"]
    assert list(installed_proxies(PluginRegistry(["second-dist"], points))) == ["twin"]


def test_two_plugins_with_one_plugin_name_are_an_error_that_names_both(offer: Callable[..., EntryPoint]) -> None:
    points = [offer("same", proxy_source("x"), "first-dist"), offer("same", proxy_source("y"), "second-dist")]
    with pytest.raises(PluginError, match=r"'same'.*first.*second"):
        installed_proxies(PluginRegistry(found=points))
    for off, proxy, on in (("second-dist", "x", "first-dist"), ("first-dist", "y", "second-dist")):
        claims = installed_proxies(PluginRegistry([off], points))
        assert {name: claim.distribution for name, claim in claims.items()} == {proxy: on}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        (
            HEAD + "def lpz_proxies(wrong):\n    return []",
            "Plugin",
        ),
        (
            HEAD + "def lpz_proxies():\n    return 1 / 0",
            "Zero",
        ),
        (HEAD + "def lpz_proxies():\n    return [3]", "unusable"),
        (
            HEAD + "def lpz_proxies():\n    yield len\n    1 / 0",
            "lpz_prox",
        ),
    ],
)
def test_a_broken_plugin_is_warned_about_once_and_breaks_nothing_else(
    source: str, reason: str, offer: Callable[..., EntryPoint]
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registry = PluginRegistry(found=[offer("bad", source), offer("good", proxy_source("fine")), *installed()])
        assert "snip" in installed_proxies(registry)
        assert "fine" in installed_proxies(registry)
        assert "gpt2-variant" in installed_models(registry)
    messages = [str(w.message) for w in caught if issubclass(w.category, PluginWarning)]
    assert len(messages) == 1
    assert "'bad' of dist-bad" in messages[0]
    assert "--no-plugin bad" in messages[0]
    assert registry.statuses["bad"].status == "failed"
    assert reason in registry.statuses["bad"].reason


def test_plugins_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_models(load_plugins(["builtin-zoo"])) == {}
    monkeypatch.setenv("LPZ_NO_PLUGINS", "builtin-proxies, not-installed")
    registry = load_plugins()
    assert {claim.plugin for claim in installed_proxies(registry).values()} == {"builtin-zoo"}
    assert registry.statuses["builtin-proxies"].status == "disabled"
    with pytest.raises(UsageError, match="'builtin-zoo'"):
        load_plugins(["builtin-zo"])


def test_a_plugin_can_describe_the_layout_of_its_model(
    offer: Callable[..., EntryPoint], gpt2: PreTrainedModel, batch: Any
) -> None:
    source = (
        "from dataclasses import replace\nfrom lpzero_hf import find_layout, hookimpl\n"
        "@hookimpl\ndef lpz_model_layout(model):\n    return replace(find_layout(model), depth=99)\n"
    )
    registry = PluginRegistry(found=[offer("layout", source), *installed()])
    assert score(gpt2, batch, "num_layers", plugins=registry)["num_layers"].require() == 99


def test_a_plugin_adds_a_command(
    offer: Callable[..., EntryPoint], monkeypatch: pytest.MonkeyPatch, lpz: Callable[..., tuple[int, str, str]]
) -> None:
    source = (
        "from lpzero_hf import hookimpl\n@hookimpl\ndef lpz_commands(app):\n"
        "    @app.command('greet')\n    def greet(name: str):\n        print('hello', name)\n"
    )
    registry = PluginRegistry(found=[offer("greeter", source)])
    monkeypatch.setattr("lpz_cli.main.load_plugins", lambda disabled: registry)
    assert lpz("greet", "world") == (0, "hello world\n", "")


def test_importing_the_package_and_its_plugins_does_not_import_torch() -> None:
    import subprocess

    code = (
        "import sys, lpzero_hf, lpz_cli.main; from lpzero_hf.plugins import load_plugins; load_plugins();"
        "print([m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_hooks_are_all_in_one_file_with_a_sentence_each() -> None:
    from lpzero_hf import hookspecs

    hooks = [f for n, f in vars(hookspecs).items() if n.startswith("lpz_") and isinstance(f, types.FunctionType)]
    assert len(hooks) == 8
    assert all(f.__doc__ for f in hooks)
    assert hookimpl is hookspecs.hookimpl
    assert plugins_module.hookspecs is hookspecs
