"""The proxy `v010_scaffold` for lpzero-hf."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lpzero_hf.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from lpzero_hf.proxy import Proxy


def saliency_norm(W: Tensor, G: Tensor) -> Tensor:
    """||W * G||_F of a linear layer's weight W [out, in] and its gradient G [out, in].

    Make new tensors on the device and in the precision of these, and write into neither.
    """
    return (W * G).square().sum().sqrt()


@hookimpl
def lpz_proxies() -> Iterable[Proxy]:
    """The proxies of this package."""
    from lpzero_hf import Reduction, StatisticProxy  # imports torch, which `lpz --help` can do without

    yield StatisticProxy(
        name="v010_scaffold",
        formula="sum over linear layers of ||W * G||_F",
        citation="unpublished, the authors of v010-scaffold",  # yours: authors, title, venue, year, arXiv id
        reductions=(Reduction("linear", ("W", "G"), saliency_norm),),
        orientation=1,  # -1 where a smaller score is better
        version="1",  # raise it whenever the numbers change, so that kept scores are made again
        batch_order_invariant=True,  # the order of the samples does not matter; leave it out where it does
    )
