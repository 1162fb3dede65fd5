"""Wheels of this project and of plugins, and fresh environments with them."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]


def build(source: Path, target: Path) -> Path:
    """Build the wheel of the project in a copy of `source` into the folder `target`, which holds no other wheel."""
    ignored = shutil.ignore_patterns(".git", "__pycache__", ".venv", "dist", "build", ".*_cache", ".hypothesis")
    copy = shutil.copytree(source, target / "source", ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


def own_wheel(factory: pytest.TempPathFactory) -> Path:
    """The wheel of this project, built once for all tests of a session, in whatever process they run."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "own-wheel"
    with FileLock(f"{folder}.lock"):
        built = list(folder.glob("*.whl"))
        return built[0] if built else build(ROOT, folder)


def fresh_python(home: Path, wheels: list[Path]) -> Path:
    """The interpreter of a fresh virtual environment in the folder `home` with the given wheels.

    torch and the other dependencies are found where they are installed for these tests; lpzero-hf itself
    comes from its wheel.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    interpreter = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--no-deps", "--no-index"]
    subprocess.run([*install, *map(str, wheels)], check=True, capture_output=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    return interpreter


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter outside the checkout."""
    return _run([str(python), *arguments], python.parent)


def lpz(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed `lpz` script outside the checkout."""
    return _run([str(python.parent / "lpz"), *arguments], python.parent)


def _run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV", "PYTEST"))}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
