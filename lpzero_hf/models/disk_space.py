"""Checks whether the checkpoint of a Hub repository fits on the disk, before it is downloaded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lpzero_hf.errors import ModelError
from lpzero_hf.files import read_json
from lpzero_hf.models.memory import free_disk

GIB = 2**30
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # transformers takes the first, whole or from its index
INDEX = ".index.json"


def check_disk(repository: str) -> None:
    """Refuse a download that does not fit on the disk; does nothing if the Hub cannot be reached.

    Args:
        repository: a Hub id.

    Raises:
        ModelError: the weights that are not in the cache yet need more space than is free.
    """
    from huggingface_hub import constants

    needed, cache = missing_bytes(repository), Path(constants.HF_HUB_CACHE)
    free = free_disk(cache)
    if needed > free:
        raise ModelError(
            f"the checkpoint of '{repository}' needs {needed / GIB:.1f} GiB of disk; {free / GIB:.1f} GiB are free in "
            f"'{cache}'. Set HF_HOME to a folder on a larger disk, leave out `pretrained=True` for random weights, or "
            "use `force=True` to try anyway"
        )


def missing_bytes(repository: str) -> int:
    """Bytes of the weights of `repository` that are not in the cache; 0 if the Hub cannot be reached."""
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    if constants.HF_HUB_OFFLINE:
        return 0
    try:
        files = HfApi().model_info(repository, files_metadata=True, timeout=10).siblings or []
    except Exception:  # no network: the HTTP library has many errors for it; loading reports it
        return 0
    sizes = {file.rfilename: file.size or 0 for file in files}
    cached = {name for name in sizes if isinstance(try_to_load_from_cache(repository, name), str)}
    return sum(sizes.get(name, 0) for name in _weights(repository, sizes) - cached)


def _weights(repository: str, there: Collection[str]) -> set[str]:
    """The files of the checkpoint that transformers reads; none where their index cannot be read."""
    from huggingface_hub import hf_hub_download

    for name in WEIGHTS:
        if name in there:
            return {name}
        if name + INDEX in there:
            try:
                index = read_json(Path(hf_hub_download(repository, name + INDEX)), "download it again")
                return set(index["weight_map"].values())
            except Exception:  # as above
                return set()
    return set()
