"""The proxy `v010-found` for lpzero-hf: the artifact beside this file, offered through a hook."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING

from lpzero_hf.hookspecs import hookimpl

if TYPE_CHECKING:
    from lpzero_hf.proxy import Proxy


@hookimpl
def lpz_proxies() -> Iterable[Proxy]:
    """The one proxy of this package."""
    from lpzero_hf.searched_proxy import shipped_proxy  # imports torch, which `lpz --help` can do without

    return [shipped_proxy(files(__name__) / "lpzero-proxy.json")]
