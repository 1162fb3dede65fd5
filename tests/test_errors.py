"""A warning that every trial of a run would repeat is said once, as of the line that called."""

import inspect
import warnings

import lpz_nas
import pytest
from lpz_nas import ProxyEvaluator

import lpzero_hf
from lpzero_hf import Setting, load_space, rank
from lpzero_hf.errors import MinibatchWarning, ModelWarning, RoundingWarning, once, said_once
from lpzero_hf.searching.find_consensus import find_consensus
from lpzero_hf.searching.transfer import transfer

RUNS = [
    lpzero_hf.rank, lpzero_hf.grade, lpzero_hf.compare, lpzero_hf.search, transfer, find_consensus, lpz_nas.explore,
    lpz_nas.find_architecture,
]  # fmt: skip


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


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_every_run_of_many_scores_says_a_warning_once(run: object) -> None:
    assert run.__code__ is trials.__code__  # type: ignore[attr-defined]  # the wrapper's
    assert inspect.signature(run).parameters  # type: ignore[arg-type]  # still those of the function


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
