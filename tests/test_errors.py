"""A warning that every trial of a run would repeat is said once, as of the line that called."""

import contextlib
import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lpz_nas
import pytest
from lpz_nas import ProxyEvaluator

import lpzero_hf
from lpzero_hf import Setting, load_space, rank
from lpzero_hf.errors import LpzError, MinibatchWarning, ModelWarning, RoundingWarning, once, said_once
from lpzero_hf.proxies.base import as_proxy
from lpzero_hf.searching.find_consensus import find_consensus
from lpzero_hf.searching.transfer import transfer

SMALL = Setting(2, 8)
PARTS = ("evaluate", "make_tables", "lpz_nas.candidates.compare")  # steps of these runs


def runs() -> dict[str, Callable[..., object]]:
    """Every public function that has work done for many models: by a setting, or by an executor."""
    found: dict[str, Callable[..., object]] = {}
    for package in (lpzero_hf, lpz_nas):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            with contextlib.suppress(ImportError):  # of an extra
                for name, one in vars(importlib.import_module(module.name)).items():
                    if inspect.isfunction(one) and one.__module__ == module.name and not name.startswith("_"):
                        taken = inspect.signature(one).parameters
                        if "executor" in taken or {"setting", "progress"} <= taken.keys():
                            found[name if name not in found else f"{module.name}.{name}"] = one
    return {name: one for name, one in found.items() if name not in PARTS}


def noisy(run: str) -> Callable[[Any, Any], float]:
    """A proxy that warns whenever it is asked, of another name for each run, so that no cache knows its scores."""

    def proxy(model: Any, batch: Any) -> float:
        """noisy"""
        warnings.warn("this proxy is noisy", ModelWarning, stacklevel=1)
        return float(sum(p.numel() for p in model.parameters()))

    proxy.__name__ = f"noisy_in_{run}"
    return proxy


Run = Callable[[Any, Path], object]
SCORED: dict[str, Run] = {
    "rank": lambda proxy, _: rank("tiny-gpt2", [proxy], n=4, setting=SMALL),
    "compare": lambda proxy, _: lpzero_hf.compare(["gpt2-variant", "llama-mini"], [proxy], seeds=2, setting=SMALL),
    "grade": lambda proxy, _: lpzero_hf.grade("tiny-gpt2", [proxy], SMALL, limit=5),
    "transfer": lambda proxy, _: transfer(["tiny-gpt2", "tiny-lm"], [proxy], setting=SMALL, limit=5),
    "find_consensus": lambda proxy, _: find_consensus(["tiny-gpt2"], [proxy, "num_layers"], setting=SMALL, limit=5),
    "explore": lambda proxy, folder: lpz_nas.explore(
        "tiny-gpt2", [as_proxy(proxy), "params"], out=folder / "out", strategy="random", trials=4, setting=SMALL
    ),
    "find_architecture": lambda proxy, folder: lpz_nas.find_architecture(
        "tiny-gpt2", proxy, lpz_nas.Budget(), out=folder / "out", trials=4, setting=SMALL
    ),
}


@said_once
def trials(n: int) -> int:
    for trial in range(n):
        with warnings.catch_warnings():  # as scoring does: it makes Python forget what it has shown
            warnings.simplefilter("always")
            warnings.warn("of every trial", ModelWarning, stacklevel=1)
            warnings.warn("of every trial", RoundingWarning, stacklevel=1)
            warnings.warn(f"of trial {trial}", MinibatchWarning, stacklevel=1)
            warnings.warn("of another library", UserWarning, stacklevel=1)
    return n


def test_a_warning_of_every_trial_is_said_once_a_run() -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match="of") as told:
            assert trials(3) == 3
        texts = [str(one.message) for one in told]
        assert texts.count("of every trial") == 2  # of two kinds
        assert texts.count("of another library") == 3
        assert [text for text in texts if "of trial" in text] == ["of trial 0", "of trial 1", "of trial 2"]
        assert {one.filename for one in told if one.category is ModelWarning} == {__file__}


def test_runs_in_two_threads_leave_warnings_as_they_were() -> None:
    """Python shares what shows warnings between threads; the run that begins first may end first."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        first, second = once(set(), "first.py", 1), once(set(), "second.py", 2)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        for _ in range(2):
            warnings.warn("after both", ModelWarning, stacklevel=1)
    assert [(str(one.message), one.filename) for one in told] == [("after both", __file__)] * 2


def test_every_run_of_many_scores_says_a_warning_once() -> None:
    found = runs()
    assert {"rank", "grade", "compare", "search", "transfer", "find_consensus", "make_benchmark"} < found.keys()
    assert {"explore", "find_architecture"} < found.keys()
    assert [name for name, run in found.items() if run.__code__ is not trials.__code__] == []  # the wrapper's
    assert all(inspect.signature(run).parameters for run in found.values())  # still those of the function


@pytest.mark.parametrize("run", SCORED)
def test_a_warning_of_every_score_is_said_once(run: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with contextlib.suppress(LpzError):  # what is scored is not the point
            SCORED[run](noisy(run), tmp_path)
    assert [str(one.message) for one in told].count("this proxy is noisy") == 1
    assert {one.filename for one in told if "noisy" in str(one.message)} == {__file__}


def test_an_evaluator_says_a_warning_once() -> None:
    space = load_space("tiny-gpt2")
    evaluator = ProxyEvaluator("sum(sum(product(logsoftmax(J), invert(H))))", space=space, setting=Setting(2, 8))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for architecture in space.samples(6):
            evaluator.try_evaluate(architecture)
    texts = [(one.category, str(one.message)) for one in told]
    assert len(texts) == len(set(texts))


def test_a_ranking_says_what_it_did_before() -> None:
    with pytest.warns(UserWarning, match="vocabularies differ") as told:
        rank(["gpt2-variant", "bert-mini"], "params", setting=Setting(2, 8))
    assert len([one for one in told if "vocabularies differ" in str(one.message)]) == 1
