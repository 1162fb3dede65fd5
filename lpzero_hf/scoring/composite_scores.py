"""Scores of composite proxies, from the scores of their members."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lpzero_hf.errors import InvalidScore
from lpzero_hf.proxies.base import CompositeProxy, ModelwiseProxy, Proxy, SetProxy

RANKS_A_SET = "an ensemble ranks a set of architectures; use rank, or score its members"


def add_composite_scores(rows: Mapping[str, dict[str, dict[str, Any]]], proxies: Iterable[Proxy]) -> None:
    """Add the rows of every composite proxy, of its members first if these are composite too.

    Only architectures that all members score have a score; the others get the reason of the first member that has
    none of them.

    Args:
        rows: for each architecture of the set, the rows of all proxies that read models; added to. A proxy that ranks
            a set needs no members in the rows of one model alone.
        proxies: any; those that read models are skipped.
    """
    for proxy in proxies:
        if isinstance(proxy, CompositeProxy):
            add_composite_scores(rows, proxy.members)
            values = _ranked(rows, proxy) if isinstance(proxy, SetProxy) else {}
            for name, scores in rows.items():
                scores[proxy.name] = _row(proxy, scores, values.get(name))


def _ranked(rows: Mapping[str, dict[str, dict[str, Any]]], proxy: SetProxy) -> dict[str, float]:
    from scipy.stats import rankdata  # type: ignore[import-untyped]  # scipy ships no types; slow to import

    if len(rows) < 2:
        return {}
    scored = [n for n, scores in rows.items() if all(scores[m.name]["value"] is not None for m in proxy.members)]
    if len(scored) < 2:
        return {}
    oriented = [[m.orientation * rows[name][m.name]["value"] for name in scored] for m in proxy.members]
    shares = [[float(rank) / len(scored) for rank in rankdata(values)] for values in oriented]
    return dict(zip(scored, proxy.combine(shares), strict=True))


def _row(proxy: CompositeProxy, scores: Mapping[str, dict[str, Any]], value: float | None) -> dict[str, Any]:
    members = [scores[member.name] for member in proxy.members if member.name in scores]
    status, reason = ("ok", "") if value is not None else ("not applicable", RANKS_A_SET)
    lacking = next((row for row in members if row["value"] is None), None)
    if lacking is not None:
        value, status, reason = None, lacking["status"], f"{lacking['proxy']}: {lacking['reason']}"
    elif isinstance(proxy, ModelwiseProxy) and len(members) == len(proxy.members):
        value, status, reason = _combined(proxy, [row["value"] for row in members])
    if value is not None and not math.isfinite(value):
        value, status, reason = None, "invalid", f"the score is {value}"
    if value is not None:
        reason = "; ".join(dict.fromkeys(row["reason"] for row in members if row["reason"]))
    return {
        "proxy": proxy.name,
        "value": value,
        "status": status,
        "reason": reason,
        "orientation": proxy.orientation,
        "passes": proxy.passes,
        "seconds": math.fsum(row["seconds"] for row in members),
    }


def _combined(proxy: ModelwiseProxy, values: list[float]) -> tuple[float | None, str, str]:
    try:
        return proxy.combine(values), "ok", ""
    except InvalidScore as error:
        return None, "invalid", str(error)
