"""The tests hold behaviour: none reaches a private name of the product, expects an error by its sentence, or fails on a
slow machine."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PRODUCT = re.compile(r"(lpzero_hf|lpz_\w+)(\.|$)")
PRIVATE = re.compile(r"_(?!repr_html_$)[^_]\w*")  # IPython asks for that one
FOREIGN = {"os", "sys", "torch", "parameter", "model"}  # of other libraries; a model's configuration is of transformers
REPLACING = re.compile(r"(set|del|get)attr$|\bpatch(\.object)?$")
CLOCK = re.compile(r"(time|monotonic|perf_counter|process_time|thread_time|clock_gettime)(_ns)?")
LIMITED = re.compile(r"subprocess\.\w+$|\.(communicate|wait)$")
WORDS = 4  # of a `match`, at most


def start(node: ast.AST) -> str:
    """The name at the start of `name.attribute.attribute`; empty for other expressions."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def private_names(tree: ast.AST) -> Iterator[str]:
    """The private names that a test imports, reads or replaces, but for those of its own and of other libraries."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and start(node) in ("self", "cls")}
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.ImportFrom) and PRODUCT.match(node.module or ""):
            found = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            found = [part for alias in node.names if PRODUCT.match(alias.name) for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute) and start(node) not in FOREIGN:
            found = [node.attr]
        elif isinstance(node, ast.Call) and REPLACING.search(ast.unparse(node.func)):
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if node.args and start(node.args[0]) not in FOREIGN:
                found = [str(text).rpartition(".")[2] for text in texts]
        yield from (name for name in found if PRIVATE.fullmatch(name) and name not in own)


def sentences(tree: ast.AST) -> Iterator[str]:
    """The patterns of errors and warnings that have too many words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "match":
            text = " ".join(str(part.value) for part in ast.walk(node.value) if isinstance(part, ast.Constant))
            if len(re.findall(r"[^\W\d_]{2,}", text)) > WORDS:
                yield text


def clocks(tree: ast.AST) -> Iterator[str]:
    """What lets a test fail on a slow machine: a reading of the clock, or a time limit of its own for a process."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (alias.name for alias in node.names if CLOCK.fullmatch(alias.name))
        elif isinstance(node, ast.Attribute) and start(node) == "time" and CLOCK.fullmatch(node.attr):
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and LIMITED.search(ast.unparse(node.func)):
            yield from (ast.unparse(keyword) for keyword in node.keywords if keyword.arg == "timeout")


@pytest.mark.parametrize("rule", [private_names, sentences, clocks])
def test_tests_keep_the_rules(rule: Callable[[ast.AST], Iterator[str]]) -> None:
    found = {str(file): list(rule(ast.parse(file.read_text(encoding="utf-8")))) for file in TESTS.rglob("*.py")}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from lpzero_hf.searching.fitness import _Bound",
        "import lpzero_hf._home",
        "from lpzero_hf.searching import selection\nselection._nearest([], 0, 1)",
        "from lpzero_hf import ScoreCache\nScoreCache()._connection.close()",
        "def test(monkeypatch):\n    monkeypatch.setattr('lpz_cli.main._run', None)",
        "from lpz_cli import main\ndef test(monkeypatch):\n    monkeypatch.setattr(main, '_run', None)",
        "from unittest.mock import patch\npatch('lpzero_hf.executors.ray._probe')",
    ],
)
def test_a_private_name_is_found(source: str) -> None:
    assert len(list(private_names(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    "source", ["from lpzero_hf import score", "class A:\n    def f(self):\n        self._x = 1\nA()._x", "os._exit(0)"]
)
def test_a_public_name_and_one_of_its_own_are_not(source: str) -> None:
    assert list(private_names(ast.parse(source))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time\nstart = time.perf_counter()\nassert time.time() - start < 1",
        "from time import monotonic as now, process_time\nassert now() < 3",
        "import subprocess\nsubprocess.run(['true'], timeout=10)\nprocess.communicate(timeout=30)",
    ],
)
def test_a_clock_is_found(source: str) -> None:
    assert len(list(clocks(ast.parse(source)))) == 2
    assert list(clocks(ast.parse("import time\ntime.sleep(1)\nsqlite3.connect(file, timeout=60)"))) == []


def test_the_runner_ends_what_hangs() -> None:
    settings = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["pytest"]["ini_options"]["timeout"] >= 600


def test_a_sentence_is_found() -> None:
    assert list(sentences(ast.parse("raises(E, match=f'cannot write {x} because it is full')")))
    assert not list(sentences(ast.parse("raises(E, match=r'cannot write .*')")))
