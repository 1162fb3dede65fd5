"""Tools that are installed elsewhere: by `.ci/run` in folders of their own, from the lists in `.ci/tools`."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import pytest


def needs(module: str) -> ModuleType:
    """A tool's module. Skips the test where it is not installed; the tool that `LPZ_TOOL` names must be installed."""
    if os.environ.get("LPZ_TOOL") == module:
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"needs {module}; .ci/run installs it for a run of its own")
