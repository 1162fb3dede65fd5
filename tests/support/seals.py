"""The hash that belongs to an artifact, computed as docs/reference/artifact.md says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def seal(content: Mapping[str, Any]) -> str:
    """The SHA-256 of an artifact whose other fields are `content`. Raises `ValueError` if it has no such text."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
