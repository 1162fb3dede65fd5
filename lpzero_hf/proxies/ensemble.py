"""Rank ensembles of proxies, `ensemble(w_pca, snip)` in text: they score architectures by their ranks in a set."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lpzero_hf.errors import UsageError
from lpzero_hf.proxies.base import Proxy, SetProxy

START = re.compile(r"\s*(log_)?ensemble\s*\(")
DEEPEST = 32  # parentheses inside each other


@dataclass(frozen=True, kw_only=True)
class EnsembleProxy(SetProxy):
    """A rank ensemble; see `parse_ensemble`. Higher is always better.

    Args:
        logarithmic: whether the logarithms of the ranks are added, so that a bad rank by any member weighs more than a
            good one; else the mean of the ranks is taken.
    """

    logarithmic: bool = False

    def combine(self, shares: Sequence[Sequence[float]]) -> list[float]:
        """The mean of the shares of each architecture, or the sum of their natural logarithms."""
        if self.logarithmic:
            return [sum(map(math.log, ranks)) for ranks in zip(*shares, strict=True)]
        return [math.fsum(ranks) / len(ranks) for ranks in zip(*shares, strict=True)]


def is_ensemble(text: str) -> bool:
    """Whether `text` names a rank ensemble, well or badly formed."""
    return START.match(text) is not None


def parse_ensemble(text: str, find: Callable[[str], Proxy]) -> EnsembleProxy:
    """The ensemble that a text names.

    Args:
        text: `ensemble(A, B, ...)` for the mean of the ranks, `log_ensemble(A, B, ...)` for the sum of their
            logarithms, the non-linear rank aggregation of AZ-NAS (Lee and Ham, CVPR 2024, arXiv:2403.19232).
        find: looks up one member by its text, which may be an ensemble again.

    Raises:
        UsageError: a parenthesis is missing, a member is unknown or named twice, or there are fewer than two.
    """
    start = START.match(text)
    assert start is not None
    logarithmic, shown = start[1] is not None, text.strip()
    members = [find(member) for member in _members(shown, text[start.end() :].rstrip())]
    names = [member.name for member in members]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"'{shown}' names '{twice[0]}' twice; an ensemble takes each member once")
    if len(members) < 2:
        raise UsageError(f"'{shown}' has one member; use '{names[0]}' itself, or add another")
    kind = "log_ensemble" if logarithmic else "ensemble"
    what = "sum over members of ln(rank / n)" if logarithmic else "mean over members of rank / n"
    return EnsembleProxy(
        name=f"{kind}({', '.join(names)})",
        formula=f"{what}, ranks in a set of n: n for the best",
        members=tuple(members),
        logarithmic=logarithmic,
    )


def _members(shown: str, rest: str) -> Iterator[str]:
    """The texts between the commas outside of inner parentheses; `rest` is what follows the first parenthesis."""
    depth, begin = 1, 0
    for place, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth > DEEPEST:
            raise UsageError(f"'{shown[:80]}...' is nested too deeply")
        if (letter == "," and depth == 1) or not depth:
            member = rest[begin:place].strip()
            if not member:
                raise UsageError(f"'{shown}' has an empty member; write ensemble(A, B)")
            yield member
            begin = place + 1
        if not depth and place < len(rest) - 1:
            raise UsageError(f"'{shown}' goes on after its last parenthesis; write ensemble(A, B)")
    if depth:
        raise UsageError(f"'{shown}' lacks a closing parenthesis")
