"""Plugins come and go without breaking anything else; conflicts name both distributions."""

from __future__ import annotations

import signal
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
        ("raise GeneratorExit('x')", "GeneratorExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class Stop(BaseException):\n    pass\nraise Stop('no')", "Stop: no"),
        ("import os\nos._exit(0)", "os._exit(0)"),
        ("class Stop(Exception):\n    def __str__(self):\n        raise self\nraise Stop", "Stop"),
        ("raise RuntimeError('\\x1b[31mred\\x07\\n' + chr(0x202e))", r"\x1b[31mred\x07 \u202e"),
        (HEAD + "def lpz_proxies():\n    raise KeyboardInterrupt('in a hook')", "KeyboardInterrupt: in a hook"),
        (HEAD + "def lpz_proxies():\n    yield len\n    raise GeneratorExit", "GeneratorExit"),
        (HEAD + "def lpz_proxies():\n    import os\n    os._exit(3)", "os._exit(3)"),
        (
            HEAD + "def lpz_proxies():\n    class Odd:\n        def __getattribute__(self, name):\n"
            "            raise SystemExit(name)\n    return [Odd()]",
            "SystemExit",
        ),
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
    assert "`disabled=bad`" in messages[0]
    assert registry.statuses["bad"].status == "failed"
    assert reason in registry.statuses["bad"].reason


def test_plugins_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_models(load_plugins(["builtin-zoo"])) == installed_models(load_plugins("builtin-zoo")) == {}
    monkeypatch.setenv("LPZ_NO_PLUGINS", "builtin-proxies, not-installed")
    registry = load_plugins()
    with pytest.warns(PluginWarning, match="'lpzero-any' needs"):  # proxies of the other
        offered = installed_proxies(registry)
    assert {claim.plugin for claim in offered.values()} == {"builtin-zoo"}
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
    assert len(hooks) == 10
    assert all(f.__doc__ for f in hooks)
    assert hookimpl is hookspecs.hookimpl
    assert plugins_module.hookspecs is hookspecs


TALK = """
import os, subprocess, sys
def talk(where):
    print("HELLO print", where)
    sys.__stdout__.write("HELLO dunder\\n")
    os.write(1, b"HELLO descriptor\\n")
    subprocess.run(["echo", "HELLO child"])
talk("import")
from lpzero_hf import hookimpl
@hookimpl
def lpz_proxies():
    talk("hook")
    yield talk_more
def talk_more(model, batch):
    talk("proxy")
    return 1.0
"""


def test_what_a_plugin_prints_never_reaches_standard_output(
    offer: Callable[..., EntryPoint], capfd: pytest.CaptureFixture[str]
) -> None:
    claims = installed_proxies(PluginRegistry(found=[offer("talker", TALK)]))
    print("the result")
    out, err = capfd.readouterr()
    assert list(claims) == ["talk_more"]
    assert out == "the result\n"
    assert [err.count(f"HELLO {how}") for how in ("print", "dunder", "descriptor", "child")] == [2] * 4


def test_a_plugin_cannot_take_the_streams_and_the_handler_of_ctrl_c(offer: Callable[..., EntryPoint]) -> None:
    streams, handler = (sys.stdout, sys.stderr), signal.getsignal(signal.SIGINT)
    source = (
        "import io, signal, sys\nsys.stdout = sys.stderr = io.StringIO()\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    )
    assert PluginRegistry(found=[offer("taker", source)]).statuses["taker"].status == "active"
    assert (sys.stdout, sys.stderr) == streams
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("caught", ["", "try:\n    pause()\nexcept BaseException:\n    pass\n"])
def test_ctrl_c_during_an_import_interrupts_even_if_the_plugin_ignores_it(
    caught: str, offer: Callable[..., EntryPoint]
) -> None:
    source = (
        "import signal, time\ndef pause():\n    signal.raise_signal(signal.SIGINT)\n    time.sleep(0.2)\n"
        + (caught or "pause()\n")
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        PluginRegistry(found=[offer("slow", source)])


def test_a_plugin_that_hangs_is_named(
    offer: Callable[..., EntryPoint], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lpzero_hf.foreign.PATIENCE", 0.05)
    hook = "from lpzero_hf import hookimpl\n@hookimpl\ndef lpz_proxies():\n    time.sleep(0.6)\n    return []\n"
    installed_proxies(PluginRegistry(found=[offer("slow", f"import time\ntime.sleep(0.6)\n{hook}"), *installed()]))
    first, second = (line for line in capsys.readouterr().err.splitlines() if "'slow'" in line)
    assert "importing" in first
    assert "lpz_proxies" in second
    assert first.endswith("LPZ_NO_PLUGINS=slow")
    installed_proxies(PluginRegistry(found=[offer("builtin-slow", f"import time\ntime.sleep(0.6)\n{hook}")]))
    assert "leave it out" not in capsys.readouterr().err  # what belongs to the product is not to be missed


def test_a_proxy_that_exits_fails_alone(offer: Callable[..., EntryPoint], gpt2: PreTrainedModel, batch: Any) -> None:
    source = (
        "import os, sys\nfrom lpzero_hf import hookimpl\ndef leaves(model, batch):\n    sys.exit(0)\n"
        "def quits(model, batch):\n    os._exit(0)\ndef ends(model, batch):\n    raise GeneratorExit\n"
        "@hookimpl\ndef lpz_proxies():\n    return [leaves, quits, ends]\n"
    )
    registry = PluginRegistry(found=[offer("leaver", source), *installed()])
    scores = score(gpt2, batch, ["leaves", "quits", "ends", "params"], plugins=registry)
    assert [row.status for row in scores.rows] == ["failed"] * 3 + ["ok"]
    assert [row.reason for row in scores.rows] == ["SystemExit: 0", "ExitCall: os._exit(0)", "GeneratorExit", ""]
