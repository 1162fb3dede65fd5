"""A plugin package is written whole or not at all, and what is written can be built."""

from __future__ import annotations

import errno
import json
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.packaging.package import REQUIREMENT, RESERVED, Package, refuse_taken, write_package
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.resolve import installed_proxies
from tests.support.wheels import ROOT, build

PACKAGE = Package(
    distribution="lpz-found",
    module="lpz_found",
    entry_point="lpz-found",
    description='Found by a "search" \\ \u03c1 = 0.9',
    readme="# lpz-found\n",
    files={"__init__.py": "ANSWER = 42\n", "data/artifact.json": json.dumps({"rho": 0.9})},
    test="def test_nothing():\n    pass\n",
)


@pytest.mark.integration
def test_a_package_with_data_is_built_into_a_wheel_with_its_data_alone(tmp_path: Path) -> None:
    written = write_package(tmp_path / "found", PACKAGE)
    assert sorted(written) == sorted(
        p.relative_to(tmp_path / "found").as_posix() for p in (tmp_path / "found").rglob("*") if p.is_file()
    )
    wheel = zipfile.ZipFile(build(tmp_path / "found", tmp_path / "wheel"))
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == {"lpz_found/__init__.py", "lpz_found/data/artifact.json"}
    points, metadata = (
        wheel.read(f"lpz_found-0.1.0.dist-info/{name}").decode() for name in ("entry_points.txt", "METADATA")
    )
    assert points == "[lpzero_hf]\nlpz-found = lpz_found\n"
    assert 'Summary: Found by a "search" \\ \u03c1 = 0.9\n' in metadata
    assert f"Requires-Dist: {REQUIREMENT}\n" in metadata


def test_a_package_of_one_module_ships_that_module(tmp_path: Path) -> None:
    write_package(tmp_path / "deep" / "one", replace(PACKAGE, files="ANSWER = 42\n"))
    project = tomllib.loads((tmp_path / "deep" / "one" / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"] == ["lpz_found.py"]
    assert (tmp_path / "deep" / "one" / "lpz_found.py").read_text(encoding="utf-8") == "ANSWER = 42\n"
    assert (tmp_path / "deep" / "one").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("taken", ["folder", "file", "dangling link"])
def test_what_is_there_is_left_alone(tmp_path: Path, taken: str) -> None:
    place = tmp_path / "found"
    {
        "folder": place.mkdir,
        "file": place.touch,
        "dangling link": lambda: place.symlink_to(tmp_path / "nowhere"),
    }[taken]()
    with pytest.raises(UsageError, match="exists"):
        write_package(place, PACKAGE)
    assert [*tmp_path.iterdir()] == [place]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_text

    def full(self: Path, *arguments: str, **options: str) -> int:
        if self.name == "artifact.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(LpzError, match="No space"):
        write_package(tmp_path / "found", PACKAGE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"distribution": "a/b"}, "'a/b'"),
        ({"distribution": "trailing-"}, "'trailing-'"),
        ({"distribution": "a" * 101}, "101 letters"),
        ({"module": "a" * 101}, "101 letters"),
        ({"entry_point": "a" * 101}, "101 letters"),
        ({"module": "not-one"}, "'not-one'"),
        ({"module": "import"}, "'import'"),
        ({"entry_point": 'a"b'}, "name for a plugin"),
        ({"description": "two\nlines"}, "one line"),
        ({"version": "one"}, "version"),
        ({"files": {"__init__.py": "", "../evil.py": ""}}, "'../evil.py'"),
        ({"files": {"__init__.py": "", "/etc/evil": ""}}, "'/etc/evil'"),
        ({"files": {"a.json": ""}}, "__init__.py"),
    ],
)
def test_what_cannot_be_a_package_is_refused(change: Mapping[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        replace(PACKAGE, **change)  # type: ignore[arg-type]


# Names that are taken --------------------------------------------------------------------------------------

Install = Callable[..., PluginRegistry]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a plugin that offers one proxy beside the installed ones, as pip would, and load them all."""
    assert installed_proxies(load_plugins())  # kept for all tests of this process, so before there is another plugin
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def put(distribution: str, module: str, entry_point: str, proxy: str) -> PluginRegistry:
        made.append(module)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[lpzero_hf]\n{entry_point} = {module}\n", encoding="utf-8")
        (tmp_path / f"{module}.py").write_text(
            f"from lpzero_hf import hookimpl\ndef {proxy}(model, batch):\n    'one'\n    return 1.0\n"
            f"@hookimpl\ndef lpz_proxies():\n    return [{proxy}]\n",
            encoding="utf-8",
        )
        return PluginRegistry()

    yield put
    for module in made:
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("distribution", "module", "entry_point", "proxy", "reason"),
    [
        ("else", "lpz_else", "else", "found", "proxy 'found'"),
        ("else", "lpz_else", "lpz-found", "other", "plugin 'lpz-found'"),
        ("Lpz.Found", "lpz_else", "else", "other", "plugin 'else'"),
        ("else", "lpz_found", "else", "other", "module 'lpz_found'"),
    ],
)
@pytest.mark.parametrize("new_version", [False, True])
def test_what_an_installed_plugin_has_is_refused(
    install: Install, distribution: str, module: str, entry_point: str, proxy: str, reason: str, new_version: bool
) -> None:
    refuse_taken(PACKAGE, ["found"], PluginRegistry(), new_version=new_version)
    registry = install(distribution, module, entry_point, proxy)
    with pytest.raises(UsageError, match=reason):
        refuse_taken(PACKAGE, ["found"], registry, new_version=new_version)


@pytest.mark.parametrize("distribution", ["lpz-found", "Lpz_Found"])
def test_a_new_version_of_an_installed_plugin_keeps_its_names(install: Install, distribution: str) -> None:
    registry = install(distribution, "lpz_found", "lpz-found", "found")
    refuse_taken(PACKAGE, ["found"], registry, new_version=True)
    with pytest.raises(UsageError, match="'found'"):
        refuse_taken(PACKAGE, ["found"], registry)
    with pytest.raises(UsageError, match="'snip'"):
        refuse_taken(PACKAGE, ["snip"], registry, new_version=True)
    with pytest.raises(UsageError, match="'builtin-zoo'"):
        refuse_taken(replace(PACKAGE, entry_point="builtin-zoo"), ["found"], registry, new_version=True)


def test_no_package_hides_a_module_of_lpzero_hf() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {Path(path).name for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]} == RESERVED
    for module in RESERVED:
        with pytest.raises(UsageError, match=f"'{module}'"):
            refuse_taken(replace(PACKAGE, module=module), [], PluginRegistry(), new_version=True)


def test_a_distribution_that_is_no_plugin_is_not_replaced() -> None:
    with pytest.raises(UsageError, match="'pytest'"):
        refuse_taken(replace(PACKAGE, distribution="PyTest"), [], PluginRegistry(), new_version=True)
