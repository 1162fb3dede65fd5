"""What version 0.1.0 has written still loads: an artifact, two plugin packages, a run and one that was killed.

`tests/data/v0.1.0` was made by that version, with `lpz search`, `lpz export`, `lpz plugin new`, and a search that was
interrupted after 45 of its 80 iterations; `killed-and-resumed.json` is what that version then found.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import lpzero_hf
from lpzero_hf import SearchConfig, load_model, load_proxy, minibatch, moved, score, search
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.resolve import find_proxy, installed_proxies
from lpzero_hf.searching.export import artifact_of
from lpzero_hf.searching.result import read_result
from lpzero_hf.searching.run_folder import read_history

OLD = Path(__file__).parent / "data" / "v0.1.0"
BUILT_IN = [EntryPoint(name, name, "lpzero_hf") for name in ("lpz_proxies", "lpz_zoo")]
ENSEMBLE, WINNER, SCAFFOLD = 3.5342507075767324, 1.3577630316189187e-05, 0.6748397406190634  # by that version


def tiny_scores(*proxies: Any, plugins: PluginRegistry | None = None) -> list[float]:
    model = load_model("gpt2-variant").model
    scores = score(model, minibatch(model, batch_size=2, seq_len=16), proxies, plugins=plugins)
    return [row.require() for row in scores.rows]


@pytest.mark.filterwarnings("ignore::lpzero_hf.errors.MinibatchWarning")
def test_an_artifact_scores_as_it_did() -> None:
    proxy = load_proxy(OLD / "v010-found.json")
    assert proxy.name == "v010-found"
    assert tiny_scores(proxy.proxy) == pytest.approx([ENSEMBLE], rel=1e-4)


@pytest.mark.filterwarnings("ignore::lpzero_hf.errors.MinibatchWarning")
def test_plugin_packages_are_found_and_score_as_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(OLD / "lpz-v010-found"))
    monkeypatch.syspath_prepend(str(OLD / "v010-scaffold"))
    made = [EntryPoint(name, name, "lpzero_hf") for name in ("lpz_v010_found", "v010_scaffold")]
    registry = PluginRegistry(found=[*BUILT_IN, *made])
    with pytest.warns(DeprecationWarning, match="lpzero_hf.searched_proxy"):
        offered = installed_proxies(registry)
    assert {status.status for status in registry.statuses.values()} == {"active"}
    assert {"v010-found", "v010_scaffold"} <= set(offered)
    assert tiny_scores("v010-found", "v010_scaffold", plugins=registry) == pytest.approx([WINNER, SCAFFOLD], rel=1e-4)


def test_a_run_is_read_and_exported() -> None:
    result = read_result(OLD / "run")
    asked = SearchConfig(("tiny-gpt2",), "random", train=16, limit=24, iterations=60, population=10, preset="paper")
    assert result.config == asked
    kept = json.loads((OLD / "v010-found.json").read_text(encoding="utf-8"))
    made = json.loads(artifact_of(result, "v010-found", which="ensemble").text)
    assert {**made, "sha256": ""} == {**kept, "sha256": ""}


@pytest.mark.integration
def test_a_run_that_was_killed_goes_on_and_finds_what_it_would_have_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(OLD / "killed", tmp_path / "run")
    config = SearchConfig.from_json(json.loads((OLD / "killed" / "plan.json").read_text(encoding="utf-8"))["plan"])
    (split,) = search(config, out=tmp_path / "run", resume=True).to_json()["splits"]
    expected = json.loads((OLD / "killed-and-resumed.json").read_text(encoding="utf-8"))
    before, now = (
        {*one.pop("winner")["expressions"], *one.pop("ensemble")["expressions"]} for one in (expected, split)
    )
    assert _as_then(split, expected) == expected
    decided = {"sum(mean(product(pow(G), invert(A))))"}  # by rounding, which 0.1.0 did not see
    assert decided <= before
    assert now
    assert not decided & now


def _as_then(made: Any, expected: Any) -> Any:
    """What is made now, without what 0.1.0 did not have: agreement at equal size, further baselines."""
    if isinstance(made, dict) and isinstance(expected, dict):
        return {name: _as_then(made[name], part) for name, part in expected.items()}
    return made


def test_the_report_of_a_run_is_made(lpz: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="needs the extra report")
    code, _, err = lpz("report", str(OLD / "run"), "-o", str(tmp_path / "report.html"))
    assert code == 0, err


@pytest.mark.parametrize("old", sorted(moved.MODULES))
def test_an_old_module_has_the_names_of_the_new_ones_and_says_so(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"lpzero_hf.{old}", raising=False)
    with pytest.warns(DeprecationWarning, match=old):
        module = importlib.import_module(f"lpzero_hf.{old}")
    (first, *_) = (importlib.import_module(f"lpzero_hf.{home}") for home in moved.MODULES[old])
    names = [name for name, value in vars(first).items() if getattr(value, "__module__", "") == first.__name__]
    assert names or old in ("strategies",)
    assert all(getattr(module, name) is getattr(first, name) for name in names)
    with pytest.raises(AttributeError, match="nothing_such"):
        module.nothing_such  # noqa: B018


def test_public_names_of_that_version_are_there() -> None:
    names = json.loads((OLD / "public-names.json").read_text(encoding="utf-8"))
    with pytest.warns(DeprecationWarning, match="SearchConfig"):
        assert [name for name in names if not hasattr(lpzero_hf, name)] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_renamed_names_of_old_modules_are_there() -> None:
    for old, names in moved.RENAMED.items():
        module = importlib.import_module(f"lpzero_hf.{old}")
        for name, now in names.items():
            assert getattr(module, name).__name__ == now


def test_a_reason_of_that_version_is_read_by_its_present_name() -> None:
    assert "hopeless" in (OLD / "run" / "result.json").read_text(encoding="utf-8")
    assert "bounded out" in read_result(OLD / "run").splits[0].rejected
    reasons = {line.get("rejected") for line in read_history(OLD / "run")[0]}
    assert "bounded out" in reasons
    assert "hopeless" not in reasons


def test_no_public_name_is_that_of_a_package_or_module() -> None:
    """`from lpzero_hf import NAME` would give the one or the other, by what was imported before."""
    inside = {path.stem for path in Path(lpzero_hf.__file__).parent.iterdir()}
    assert inside & set(lpzero_hf.__all__) == set()


def test_packages_that_were_modules_have_their_names() -> None:
    from lpzero_hf.benchmarks import Benchmark
    from lpzero_hf.executors import ProcessExecutor
    from lpzero_hf.models import ZooModel
    from lpzero_hf.spaces import Space

    assert (Benchmark, ProcessExecutor) == (lpzero_hf.Benchmark, lpzero_hf.ProcessExecutor)
    assert (ZooModel, Space) == (lpzero_hf.ZooModel, lpzero_hf.Space)


def test_find_proxy_takes_the_file_of_an_artifact() -> None:
    assert find_proxy(str(OLD / "v010-found.json")).name == "v010-found"
