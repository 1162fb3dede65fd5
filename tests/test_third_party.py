"""A stranger's distribution, built and installed beside the built wheel, shows up in `lpz score`."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.families import tiny_model

ROOT = Path(__file__).parent.parent
STRANGER = ROOT / "plugins" / "lpz-attention-entropy"


def build(source: Path, target: Path) -> Path:
    """Build the wheel of the project in a copy of `source`."""
    ignored = shutil.ignore_patterns(".git", "__pycache__", ".venv", "dist", "build", ".*_cache", ".hypothesis")
    copy = shutil.copytree(source, target / f"{source.name}-source", ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = target.glob(f"{'lpz_attention' if source == STRANGER else 'lpzero_hf'}*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheels of this project and of the third-party plugin."""
    folder = tmp_path_factory.mktemp("wheels")
    return [build(ROOT, folder), build(STRANGER, folder)]


@pytest.fixture(scope="module")
def python(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh virtual environment with both wheels.

    torch and the other dependencies are found where they are installed for these tests; lpzero-hf itself
    comes from its wheel.
    """
    home = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    interpreter = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--no-deps", "--no-index"]
    subprocess.run([*install, *map(str, wheels)], check=True, capture_output=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    return interpreter


def lpz(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed `lpz` script outside the checkout."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV"))}
    return subprocess.run(
        [str(python.parent / "lpz"), *arguments], capture_output=True, text=True, cwd=python.parent, env=environment
    )


def test_the_wheel_holds_four_packages_with_their_data_and_nothing_else(wheels: list[Path]) -> None:
    names = zipfile.ZipFile(wheels[0]).namelist()
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert tops == {"lpzero_hf", "lpz_proxies", "lpz_zoo", "lpz_cli"}
    assert {"lpzero_hf/data/text.txt", "lpzero_hf/data/tokenizer.json", "lpzero_hf/py.typed"} <= set(names)


def test_a_third_partys_proxy_stands_in_the_same_table(python: Path, tmp_path: Path) -> None:
    tiny_model("llama").config.save_pretrained(tmp_path)
    done = lpz(python, "score", str(tmp_path), "--json", "--batch-size", "2", "--seq-len", "16")
    assert done.returncode == 0, done.stderr
    rows = {row["proxy"]: row for row in json.loads(done.stdout)["models"][0]["scores"]}
    assert rows["attention_entropy"]["distribution"] == "lpz-attention-entropy"
    assert rows["snip"]["distribution"] == "lpzero-hf"
    assert 0 < rows["attention_entropy"]["value"] < 2.8  # nats; log 16 at most
    where = json.loads(lpz(python, "plugins", "--json").stdout)["plugins"]
    assert [(p["name"], p["status"]) for p in where] == [
        ("builtin-proxies", "active"),
        ("builtin-zoo", "active"),
        ("attention-entropy", "active"),
    ]


def test_a_third_party_can_be_turned_off(python: Path) -> None:
    everything = json.loads(lpz(python, "proxies", "--json").stdout)["proxies"]
    without = json.loads(lpz(python, "proxies", "--json", "--no-plugin", "lpz-attention-entropy").stdout)["proxies"]
    assert {p["proxy"] for p in everything} - {p["proxy"] for p in without} == {"attention_entropy"}


def test_the_installed_code_is_the_wheels(python: Path) -> None:
    code = "import lpzero_hf, lpz_cli; print(lpzero_hf.__file__); print(lpz_cli.__file__)"
    out = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True, cwd=python.parent)
    assert all(Path(line).is_relative_to(python.parent.parent) for line in out.stdout.split())
