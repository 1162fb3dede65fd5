"""The conformance suite: runs all checks on a proxy, and reports every failed one with the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from lpzero_hf.errors import UsageError
from lpzero_hf.plugins import load_plugins
from lpzero_hf.proxies.base import CompositeProxy
from lpzero_hf.proxies.resolve import ProxyLike, find_proxy
from lpzero_hf.testing.proxy_checks import CHECKS, Case, Check
from lpzero_hf.testing.tiny_models import FAMILIES, MakeConfig


class ConformanceError(AssertionError):
    """A proxy breaks the contract; the message names every failed check, its observation, and the remedy."""


def check_proxy(proxy: ProxyLike, *, baseline: bool = False, models: Mapping[str, MakeConfig] | None = None) -> None:
    """Check everything that lpzero-hf expects of a proxy, on tiny models; takes about a second.

    Args:
        proxy: a `Proxy`, a function `f(model, batch) -> float`, or the name of an installed proxy.
        baseline: it is a trivial baseline, which needs no citation.
        models: functions that make tiny configurations, by any names, for a proxy that is not applicable to those of
            `lpzero_hf.testing.FAMILIES`.

    Raises:
        ConformanceError: it fails; the message lists every failed check, and its remedy.
        UsageError: no proxy of that name is installed.
        TypeError: it is no proxy at all.

    Example:
        >>> from lpzero_hf.testing import check_proxy
        >>> check_proxy("snip")
        >>> check_proxy("params", baseline=True)
    """
    case = _case(proxy, baseline, models)
    tried = _applicable(case)
    failed = {check: problems for check in tried if (problems := check.problems(case))}
    if failed:
        head = f"proxy '{case.proxy.name}' fails {len(failed)} of {len(tried)} checks"
        raise ConformanceError("\n".join([head, *(_described(check, problems) for check, problems in failed.items())]))


def checks(
    proxy: ProxyLike, *, baseline: bool = False, models: Mapping[str, MakeConfig] | None = None
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The checks that apply to a proxy, one by one: its name, and a function that raises `ConformanceError`.

    Args:
        proxy: as for `check_proxy`.
        baseline: as for `check_proxy`.
        models: as for `check_proxy`.

    Raises:
        UsageError: no proxy of that name is installed.
        TypeError: it is no proxy at all.

    Example:
        >>> from lpzero_hf.testing import checks
        >>> for name, check in checks("snip"):
        ...     check()
    """
    case = _case(proxy, baseline, models)
    for check in _applicable(case):
        yield check.name, partial(_require, check, case)


def _case(proxy: ProxyLike, baseline: bool, models: Mapping[str, MakeConfig] | None) -> Case:
    plugins = load_plugins()
    found = find_proxy(proxy, plugins)
    if isinstance(found, CompositeProxy):
        raise UsageError(f"'{found.name}' is made of others; check its members")
    return Case(found, baseline, FAMILIES if models is None else models, plugins)


def _applicable(case: Case) -> list[Check]:
    return [check for check in CHECKS if check.applies(case)]


def _require(check: Check, case: Case) -> None:
    problems = check.problems(case)
    if problems:
        raise ConformanceError(f"proxy '{case.proxy.name}' fails a check\n{_described(check, problems)}")


def _described(check: Check, problems: Iterable[str]) -> str:
    return "\n".join([f"  {check.name}:", *(f"    {problem}" for problem in problems), f"    remedy: {check.remedy}"])
