"""Runs as one self-contained HTML page: numbers, plots and expressions, with no request to any network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpz_report.page import report as report

__all__ = ["report"]


def __getattr__(name: str) -> Any:
    if name != "report":
        raise AttributeError(f"module 'lpz_report' has no attribute '{name}'")
    from lpz_report.page import report

    return report
