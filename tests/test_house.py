"""The house keeps its order: few names at the root, one name for one thing, no circle of packages, short documents."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "lpzero_hf"
PRODUCT = [CORE, *(ROOT / name for name in ("cli/lpz_cli", "zoo/lpz_zoo", "plugins", "studies"))]
PACKAGES = sorted(path.name for path in CORE.iterdir() if (path / "__init__.py").exists())


def trees(*folders: Path) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            yield file, ast.parse(file.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """What is imported anywhere in a file, lazily or for types alone too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_few_names_stand_at_the_root_of_the_core() -> None:
    names = [path.name for path in CORE.iterdir() if path.name != "__pycache__"]
    assert len(names) <= 20
    assert len([name for name in names if name.endswith(".py")]) <= 8


def test_no_circle_among_the_packages_lazy_and_typing_imports_included() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for file, tree in trees(CORE):
        package = file.relative_to(CORE).parts[0]
        for name in imported(tree):
            root, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if root == "lpzero_hf" and package in PACKAGES and target in PACKAGES and target != package:
                graph[package].add(target)
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("spaces") < order.index("capture") < order.index("scoring") < order.index("searching")
    assert len(order) == len(PACKAGES)


def test_no_two_modules_of_the_core_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for file in CORE.rglob("*.py"):
        if file.stem not in ("__init__", "base"):
            found[file.stem].append(str(file))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_no_class_name_is_used_twice() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for file, tree in trees(*PRODUCT):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(file))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_plugins_only_finds_plugins() -> None:
    file = CORE / "plugins.py"
    assert len(file.read_text(encoding="utf-8").splitlines()) < 200
    assert not any(
        name.split(".")[1] in PACKAGES for name in imported(ast.parse(file.read_text())) if "lpzero_hf" in name
    )


@pytest.mark.parametrize("page", ["README.md", "RESULTS.md"])
def test_the_first_documents_are_short(page: str) -> None:
    assert len((ROOT / page).read_text(encoding="utf-8").splitlines()) <= 130


def test_examples_and_templates_import_public_names_alone() -> None:
    from lpzero_hf.artifacts.artifact import Artifact, Member
    from lpzero_hf.packaging.artifact_template import package_of
    from lpzero_hf.packaging.proxy_template import scaffold

    record = {"benchmarks": [], "strategy": "by hand", "seed": 0, "train": {}, "held_out": {}, "versions": {}}
    made = Artifact("mine", (Member("sum(sum(product(abs(W), abs(G))))", 1),), {"abs": "1"}, record)
    sources = [text for package in (scaffold("my-proxy"), package_of(made)) for text in package.texts().items()]
    sources += [(str(file), file.read_text(encoding="utf-8")) for file in (ROOT / "examples").glob("*.py")]
    sources += [(str(file), file.read_text(encoding="utf-8")) for file in ROOT.glob("plugins/lpz-*/*.py")]
    inside = [
        (path, name)
        for path, source in sources
        if path.endswith(".py")
        for name in imported(ast.parse(source))
        if name.startswith("lpzero_hf.") and name.count(".") > 1
    ]
    assert inside == []
