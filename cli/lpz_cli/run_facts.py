"""What decides the numbers of a run beside its settings, for JSON: the content of the text, threads, versions."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import LpzError

if TYPE_CHECKING:
    from lpzero_hf.scoring.setting import Setting


def facts_of_run(setting: Setting, threads: int) -> dict[str, Any]:
    """As plain data; a text that cannot be read has no digest, and neither have random tokens.

    Args:
        setting: of the scores.
        threads: of torch on the CPU in each process; they decide the last digits.
    """
    from lpzero_hf.artifacts.versions import versions

    digest = None
    if not setting.random_tokens:
        with suppress(LpzError):  # no proxy may have needed it
            digest = setting.content()
    return {"text_sha256": digest, "threads": threads, "versions": versions()}
