"""Whether the checkpoint of a Hub repository fits on the disk, asked before it is downloaded."""

from __future__ import annotations

from pathlib import Path

from lpzero_hf.errors import ModelError
from lpzero_hf.memory import free_disk

GIB = 2**30
WEIGHTS = ((".safetensors",), (".bin",))  # transformers reads the first kind that there is


def check_disk(repository: str) -> None:
    """Refuse a download that the disk has no room for; does nothing where the Hub cannot be asked.

    Args:
        repository: a Hub id.

    Raises:
        ModelError: the weights that are not in the cache yet need more room than there is.
    """
    from huggingface_hub import constants

    needed, cache = missing_bytes(repository), Path(constants.HF_HUB_CACHE)
    free = free_disk(cache)
    if needed > free:
        raise ModelError(
            f"the checkpoint of '{repository}' needs {needed / GIB:.1f} GiB of disk; {free / GIB:.1f} GiB are free in "
            f"'{cache}'. Set HF_HOME to a folder on a larger disk, or leave out --pretrained for random weights"
        )


def missing_bytes(repository: str) -> int:
    """Bytes of the weights of `repository` that are not in the cache; 0 where the Hub cannot be asked."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE:
        return 0
    try:
        files = HfApi().model_info(repository, files_metadata=True, timeout=10).siblings or []
    except Exception:  # no network, in the HTTP library's own words; loading says what is wrong
        return 0
    for endings in WEIGHTS:
        weights = [f for f in files if f.rfilename.endswith(endings) and "/" not in f.rfilename]
        if weights:
            cached = {f.rfilename for f in weights if isinstance(try_to_load_from_cache(repository, f.rfilename), str)}
            return sum(f.size or 0 for f in weights if f.rfilename not in cached)
    return 0
