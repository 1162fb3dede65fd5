"""The conformance kit: checks of what lpzero-hf expects of a proxy, for authors to run on their own.

>>> from lpzero_hf.testing import check_proxy
>>> check_proxy("snip")

With pytest, the plugin that comes with lpzero-hf makes one test of each check (`lpzero_hf.testing.pytest_plugin`).
The names are loaded when first used: pytest imports this package in every project's run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpzero_hf.testing.conformance import ConformanceError as ConformanceError
    from lpzero_hf.testing.conformance import check_proxy as check_proxy
    from lpzero_hf.testing.conformance import checks as checks
    from lpzero_hf.testing.tiny_models import FAMILIES as FAMILIES
    from lpzero_hf.testing.tiny_models import tiny_batch as tiny_batch
    from lpzero_hf.testing.tiny_models import tiny_model as tiny_model

_HOMES = {
    "ConformanceError": "conformance",
    "check_proxy": "conformance",
    "checks": "conformance",
    "FAMILIES": "tiny_models",
    "tiny_batch": "tiny_models",
    "tiny_model": "tiny_models",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lpzero_hf.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(f"lpzero_hf.testing.{_HOMES[name]}"), name)
