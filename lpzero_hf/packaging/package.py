"""Writes an installable plugin package into a folder, completely or not at all."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import keyword
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.hookspecs import PROJECT
from lpzero_hf.proxies.resolve import installed_proxies

if TYPE_CHECKING:
    from lpzero_hf.plugins import PluginRegistry

REQUIREMENT = "lpzero-hf>=0.2.0.dev0"  # the first with the public names that packages import
LONGEST = 100  # letters of a name, which becomes part of file names
RESERVED = frozenset(
    {"lpzero_hf", "lpz_cli", "lpz_zoo", "lpz_proxies", "lpz_nas", "lpz_costs", "lpz_report"}
)  # own modules
DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)  # as PyPI has it
VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True)
class Package:
    """A package that offers something through lpzero-hf's hooks.

    Args:
        distribution: its name for `pip install`.
        module: its name in Python.
        entry_point: its name in `lpz plugins`.
        description: one line.
        readme: README.md.
        files: the source of the module; or, for a folder of modules and data, texts by their paths in it, with
            "/" between and `__init__.py` among them.
        test: the source of its one test module, for pytest.
        version: of the package.

    Raises:
        UsageError: a name, the description, the version or a path cannot be used.

    Example:
        >>> from lpzero_hf.packaging.package import Package
        >>> two = Package("my-proxy", "my_proxy", "my-proxy", "One line.", "# my-proxy", {"__init__.py": ""}, "")
        >>> [*two.texts()]
        ['pyproject.toml', 'README.md', 'my_proxy/__init__.py', 'tests/test_my_proxy.py']
    """

    distribution: str
    module: str
    entry_point: str
    description: str
    readme: str
    files: str | Mapping[str, str]
    test: str
    version: str = "0.1.0"

    def __post_init__(self) -> None:
        for name in (self.distribution, self.module, self.entry_point):
            if len(name) > LONGEST:
                raise UsageError(f"the name '{name[:20]}...' has {len(name)} letters; use at most {LONGEST}")
        if not DISTRIBUTION.fullmatch(self.distribution):
            raise UsageError(
                f"'{self.distribution}' is no name for a package; use letters, digits, and - . _ between them"
            )
        if not self.module.isidentifier() or not self.module.isascii() or keyword.iskeyword(self.module):
            raise UsageError(
                f"'{self.module}' is no name for a Python module; begin with a letter and use no Python keyword"
            )
        if not DISTRIBUTION.fullmatch(self.entry_point):
            raise UsageError(
                f"'{self.entry_point}' is no name for a plugin; use letters, digits, and - . _ between them"
            )
        if not self.description.isprintable() or not self.description:
            raise UsageError(f"the description {self.description!r} must be one line of text")
        if not VERSION.fullmatch(self.version):
            raise UsageError(f"'{self.version}' is no version; write it as 0.1.0")
        if not isinstance(self.files, str):
            for path in self.files:
                pure = PurePosixPath(path)
                if str(pure) != path or pure.is_absolute() or ".." in pure.parts or path == ".":
                    raise UsageError(f"'{path}' is no path inside a package; write it as folder/file.json")
            if "__init__.py" not in self.files:
                raise UsageError(f"the package '{self.module}' has no __init__.py; add one")

    def texts(self) -> dict[str, str]:
        """Every file of the package: its text by its path, with "/" between."""
        if isinstance(self.files, str):
            inside = {f"{self.module}.py": self.files}
        else:
            inside = {f"{self.module}/{path}": text for path, text in self.files.items()}
        return {
            "pyproject.toml": self._pyproject(),
            "README.md": self.readme,
            **inside,
            f"tests/test_{self.module}.py": self.test,
        }

    def _pyproject(self) -> str:
        shipped = f"{self.module}.py" if isinstance(self.files, str) else self.module
        return f"""\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = {_quoted(self.distribution)}
version = {_quoted(self.version)}
description = {_quoted(self.description)}
readme = "README.md"
requires-python = ">=3.11"
dependencies = [{_quoted(REQUIREMENT)}]

[project.optional-dependencies]
test = ["pytest>=8.3"]

[project.entry-points.{PROJECT}]
{_quoted(self.entry_point)} = {_quoted(self.module)}

[tool.hatch.build.targets.wheel]
only-include = [{_quoted(shipped)}]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""


def refuse_taken(
    package: Package, proxies: Iterable[str], registry: PluginRegistry, *, new_version: bool = False
) -> None:
    """Refuse a package whose names are in conflict with something that is installed.

    Refused are: a proxy name that an installed plugin offers; the name of an installed distribution, a plugin or not;
    a plugin name that an installed plugin or its distribution has, since `--no-plugin` takes either; and a module that
    already exists or that belongs to lpzero-hf itself.

    Args:
        package: to be written; nothing is read from disk.
        proxies: the names of the proxies that it will offer.
        registry: the plugins whose proxies count; those turned off offer none, but keep their other names.
        new_version: allow a package with an installed plugin's distribution and module to have that plugin's own
            names, for an installed proxy that is exported again.

    Raises:
        UsageError: a name is taken; the message says by what.
        PluginError: the installed plugins are in conflict with each other.

    Example:
        >>> from lpzero_hf.plugins import load_plugins
        >>> mine = Package("my-own", "my_own", "my-own", "One line.", "# my-own", "", "")
        >>> refuse_taken(mine, ["my_own"], load_plugins())
        >>> refuse_taken(mine, ["snip"], load_plugins())
        Traceback (most recent call last):
        ...
        lpzero_hf.errors.UsageError: lpzero-hf offers a proxy 'snip' already; choose another name
    """
    distribution = canonical(package.distribution)
    points = [(point, point.dist.name) for point in importlib.metadata.entry_points(group=PROJECT) if point.dist]
    own = [point for point, owner in points if canonical(owner) == distribution]
    renewed = new_version and any(point.module.partition(".")[0] == package.module for point in own)
    if package.module.lower() in RESERVED:
        raise UsageError(f"'{package.module}' is a module of lpzero-hf itself; choose another name")
    for name in proxies:
        claim = installed_proxies(registry).get(name)
        if claim is not None and not (renewed and canonical(claim.distribution) == distribution):
            raise UsageError(f"{claim.distribution} offers a proxy '{name}' already; choose another name")
    for point, owner in points:
        taken = {canonical(point.name), canonical(owner)}
        if not (renewed and point in own) and taken & {canonical(package.entry_point), distribution}:
            raise UsageError(f"{owner} is installed and has a plugin '{point.name}'; choose another name")
    if renewed:
        return
    try:
        there = importlib.metadata.distribution(distribution).name
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        raise UsageError(f"a distribution '{there}' is installed already; choose another name")
    module = package.module
    if module in sys.stdlib_module_names or module in sys.modules or importlib.util.find_spec(module) is not None:
        raise UsageError(f"a Python module '{module}' exists already; choose another name, such as lpz-{module}")


def canonical(distribution: str) -> str:
    """The normalised name of a distribution, by which installers compare: `My_Proxy` is `my-proxy`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def write_package(folder: Path, package: Package) -> list[str]:
    """Write `package` into a new folder, completely or not at all.

    Args:
        folder: must not exist.
        package: to write.

    Returns:
        The paths of the files inside the folder, with "/" between.

    Raises:
        UsageError: the folder exists.
        LpzError: it cannot be written.
    """
    texts = package.texts()
    try:
        if folder.exists() or folder.is_symlink():
            raise UsageError(f"'{folder}' exists already; choose another folder, or remove it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}.", dir=folder.parent))
        try:
            for path, text in texts.items():
                file = temporary / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            temporary.chmod(0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise LpzError(f"cannot write '{folder}': {error.strerror or error}; choose another place") from error
    return list(texts)


def _quoted(text: str) -> str:
    """A TOML string: for printable text, JSON's."""
    return json.dumps(text, ensure_ascii=False)
