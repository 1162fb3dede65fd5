"""Tells names that may be of the Hugging Face Hub from paths that are nowhere."""

from __future__ import annotations

import re

from lpzero_hf.spaces.misplaced import TABLES, WEIGHTS

HUB_ID = re.compile(r"(?!.*(--|\.\.))\w([\w.-]*\w)?(/\w([\w.-]*\w)?)?(?<!\.git)", re.ASCII)
FILES = (".yaml", ".yml", ".json", ".txt", *TABLES, *WEIGHTS)


def possible_hub_id(name: str) -> bool:
    """Whether a repository of the Hub may have that name: `user/name`, or `name` alone as early ones have.

    What ends as a file does is meant for one.

    Example:
        >>> possible_hub_id("me/mine"), possible_hub_id("gpt2"), possible_hub_id("./mine"), possible_hub_id("a/b.json")
        (True, True, False, False)
    """
    return HUB_ID.fullmatch(name) is not None and not name.lower().endswith(FILES)
