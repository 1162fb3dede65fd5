"""A stranger's distribution, built and installed beside the built wheel, shows up in `lpz score`."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.support.families import tiny_model
from tests.support.wheels import ROOT, build, fresh_python, lpz, own_wheel, run

pytestmark = pytest.mark.integration
STRANGER = ROOT / "plugins" / "lpz-attention-entropy"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheels of this project and of the third-party plugin."""
    return [own_wheel(tmp_path_factory), build(STRANGER, tmp_path_factory.mktemp("stranger"))]


@pytest.fixture(scope="module")
def python(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh virtual environment with both wheels."""
    return fresh_python(tmp_path_factory.mktemp("fresh") / "venv", wheels)


def test_the_wheel_holds_its_packages_with_their_data_and_nothing_else(wheels: list[Path]) -> None:
    names = zipfile.ZipFile(wheels[0]).namelist()
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert tops == {"lpzero_hf", "lpz_proxies", "lpz_nas", "lpz_costs", "lpz_report", "lpz_zoo", "lpz_cli"}
    data = ("models/data/text.txt", "models/data/tokenizer.json", "proxies/data/evidence.json", "py.typed")
    assert {f"lpzero_hf/{name}" for name in data} <= set(names)


def test_a_third_partys_proxy_stands_in_the_same_table(python: Path, tmp_path: Path) -> None:
    tiny_model("llama").config.save_pretrained(tmp_path)
    done = lpz(python, "score", str(tmp_path), "--proxy", "all", "--json", "--batch-size", "2", "--seq-len", "16")
    assert done.returncode == 0, done.stderr
    rows = {row["proxy"]: row for row in json.loads(done.stdout)["models"][0]["scores"]}
    assert rows["attention_entropy"]["distribution"] == "lpz-attention-entropy"
    assert rows["snip"]["distribution"] == "lpzero-hf"
    assert rows["attention_entropy"]["evidence"] is None
    assert rows["snip"]["evidence"]["benchmarks"] > 1
    assert 0 < rows["attention_entropy"]["value"] < 2.8  # nats; log 16 at most
    where = json.loads(lpz(python, "plugins", "--json").stdout)["plugins"]
    assert [(p["name"], p["status"]) for p in where] == [
        ("builtin-costs", "active"),
        ("builtin-executors", "active"),
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
    out = run(python, "-c", code)
    assert out.returncode == 0, out.stderr
    assert all(Path(line).is_relative_to(python.parent.parent) for line in out.stdout.split())
