"""Prepares docstrings for the reference: a griffe extension, named in `mkdocs.yml`.

The docstrings of this project have a section `Example:`, for which griffe's name is `Examples:`. Doctests outside of a
section, which Markdown would take for quotations, become blocks of code.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"^Example:$", re.MULTILINE)
DOCTEST = re.compile(r"^>>> .*(?:\n(?!$).*)*", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = rewritten(obj.docstring.value)


def rewritten(text: str) -> str:
    """A docstring as griffe and Markdown read it."""
    return SECTION.sub("Examples:", DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", text))
