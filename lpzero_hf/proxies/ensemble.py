"""Proxies of several proxies: `ensemble(w_pca, snip)` in text scores architectures by their ranks in a set, and
`geometric_mean(w_pca, snip)` a model by the scores that its members give it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lpzero_hf.errors import InvalidScore, UsageError
from lpzero_hf.proxies.base import CompositeProxy, ModelwiseProxy, Proxy, SetProxy

START = re.compile(r"\s*(ensemble|log_ensemble|geometric_mean)\s*\(")
FORMULAS = {
    "ensemble": "mean over members of rank / n, ranks in a set of n: n for the best",
    "log_ensemble": "sum over members of ln(rank / n), ranks in a set of n: n for the best",
    "geometric_mean": "mean over members of ln(score), of -ln(score) where lower is better",
}
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


@dataclass(frozen=True, kw_only=True)
class GeometricMean(ModelwiseProxy):
    """The logarithm of the geometric mean of the scores, each counted so that higher is better.

    In it only ratios matter, so its members may have any units and any scale, and a model alone has a score.
    """

    def combine(self, scores: Sequence[float]) -> float:
        """The mean of the natural logarithms. Raises `InvalidScore` if a score is not above 0."""
        for member, score in zip(self.members, scores, strict=True):
            if score <= 0:
                raise InvalidScore(f"'{member.name}' is {score:g}, and a geometric mean is of scores above 0")
        logarithms = [member.orientation * math.log(s) for member, s in zip(self.members, scores, strict=True)]
        return math.fsum(logarithms) / len(logarithms)


def is_ensemble(text: str) -> bool:
    """Whether `text` names a proxy of several proxies, well or badly formed."""
    return START.match(text) is not None


def parse_ensemble(text: str, find: Callable[[str], Proxy]) -> CompositeProxy:
    """The proxy of several proxies that a text names. One that is a member of another member too counts in both.

    Args:
        text: `ensemble(A, B, ...)` for the mean of the ranks, `log_ensemble(A, B, ...)` for the sum of their
            logarithms, the non-linear rank aggregation of AZ-NAS (Lee and Ham, CVPR 2024, arXiv:2403.19232),
            `geometric_mean(A, B, ...)` for the mean of the logarithms of the scores.
        find: looks up one member by its text, which may be an ensemble again.

    Raises:
        UsageError: a parenthesis is missing, a member is unknown or named twice, or there are fewer than two.
    """
    start = START.match(text)
    assert start is not None
    kind, shown = start[1], text.strip()
    members = tuple(find(member) for member in _members(shown, text[start.end() :].rstrip()))
    names = [member.name for member in members]
    if len(members) < 2:
        raise UsageError(f"'{shown}' has one member; use '{names[0]}' itself, or add another")
    name = f"{kind}({', '.join(names)})"
    if kind == "geometric_mean":
        return GeometricMean(name=name, formula=FORMULAS[kind], members=members)
    return EnsembleProxy(name=name, formula=FORMULAS[kind], members=members, logarithmic=kind == "log_ensemble")


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
