"""Scores of the proxies that rank a set of architectures, from the scores of their members."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from scipy.stats import rankdata  # type: ignore[import-untyped]  # scipy ships no types

from lpzero_hf.proxies.base import Proxy, SetProxy
from lpzero_hf.scoring.score import RANKS_A_SET


def add_set_scores(rows: Mapping[str, dict[str, dict[str, Any]]], proxies: Iterable[Proxy]) -> None:
    """Add the rows of every proxy that ranks a set, of its members first if these do so too.

    Only architectures that all members score have a rank; the others get the reason of the first member that has no
    score of them.

    Args:
        rows: for each architecture of the set, the rows of all proxies that score one model; added to.
        proxies: any; those that score one model are skipped.
    """
    for proxy in proxies:
        if isinstance(proxy, SetProxy):
            add_set_scores(rows, proxy.members)
            values = _ranked(rows, proxy)
            for name, scores in rows.items():
                scores[proxy.name] = _row(proxy, scores, values.get(name))


def _ranked(rows: Mapping[str, dict[str, dict[str, Any]]], proxy: SetProxy) -> dict[str, float]:
    scored = [n for n, scores in rows.items() if all(scores[m.name]["value"] is not None for m in proxy.members)]
    if len(scored) < 2:
        return {}
    oriented = [[m.orientation * rows[name][m.name]["value"] for name in scored] for m in proxy.members]
    shares = [[float(rank) / len(scored) for rank in rankdata(values)] for values in oriented]
    return dict(zip(scored, proxy.combine(shares), strict=True))


def _row(proxy: SetProxy, scores: Mapping[str, dict[str, Any]], value: float | None) -> dict[str, Any]:
    members = [scores[member.name] for member in proxy.members]
    status, reason = ("ok", "") if value is not None else ("not applicable", RANKS_A_SET)
    lacking = next((row for row in members if row["value"] is None), None)
    if lacking is not None:
        status, reason = lacking["status"], f"{lacking['proxy']}: {lacking['reason']}"
    elif value is not None and not math.isfinite(value):
        value, status, reason = None, "invalid", f"the score is {value}"
    return {
        "proxy": proxy.name,
        "value": value,
        "status": status,
        "reason": reason,
        "orientation": proxy.orientation,
        "passes": proxy.passes,
        "seconds": math.fsum(row["seconds"] for row in members),
    }
