"""The pytest plugin of lpzero-hf: tiny models to check a proxy on, and one test for each check.

A package that offers the proxy `my_proxy` tests it with

    @pytest.mark.lpz_proxies("my_proxy")
    def test_my_proxy_conforms(lpz_check):
        lpz_check()

which becomes a test for each check of `lpzero_hf.testing`. A test that takes `lpz_model` runs once for each family
of tiny models; `lpz_batch` is a minibatch for any of them. Every pytest run imports this module, so nothing heavy
is imported until a test needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet
    from torch import Tensor
    from transformers import PreTrainedModel

MARK = "lpz_proxies"
LINE = (
    f"{MARK}(*proxies, baseline=False, models=None): what `lpz_check` checks, names or proxies; "
    "the other arguments are those of lpzero_hf.testing.check_proxy"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", LINE)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per check of every marked proxy, and one per family of models."""
    if "lpz_check" in metafunc.fixturenames:
        metafunc.parametrize("lpz_check", _checks(metafunc.definition), indirect=True)
    if "lpz_family" in metafunc.fixturenames:
        from lpzero_hf.testing.tiny_models import FAMILIES

        metafunc.parametrize("lpz_family", list(FAMILIES), indirect=True)


def _checks(test: pytest.Item) -> list[ParameterSet]:
    from lpzero_hf.errors import LpzError
    from lpzero_hf.proxies.base import as_proxy
    from lpzero_hf.testing.conformance import checks

    marked = [(proxy, mark.kwargs) for mark in test.iter_markers(MARK) for proxy in mark.args]
    if not marked:
        pytest.fail(f"{test.name} takes lpz_check; name its proxy: @pytest.mark.{MARK}('my_proxy')", pytrace=False)
    try:
        return [
            pytest.param(check, id=f"{proxy if isinstance(proxy, str) else as_proxy(proxy).name}-{name}")
            for proxy, options in marked
            for name, check in checks(proxy, **options)
        ]
    except LpzError as error:
        pytest.fail(f"{error}; is the package that offers it installed (`pip install -e .`)?", pytrace=False)


@pytest.fixture
def lpz_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """One check of one proxy; call it. It raises `lpzero_hf.testing.ConformanceError`."""
    check: Callable[[], None] = request.param
    return check


@pytest.fixture
def lpz_family(request: pytest.FixtureRequest) -> str:
    """The name of a family of tiny models, each in turn."""
    return str(request.param)


@pytest.fixture
def lpz_model(lpz_family: str) -> PreTrainedModel:
    """A tiny model of each family in turn, with random weights, in eval mode."""
    from lpzero_hf.testing.tiny_models import tiny_model

    return tiny_model(lpz_family)


@pytest.fixture
def lpz_batch() -> dict[str, Tensor]:
    """A minibatch for any tiny model: `input_ids` and `attention_mask`, int64 [4, 12], with padding."""
    from lpzero_hf.testing.tiny_models import tiny_batch

    return tiny_batch()
