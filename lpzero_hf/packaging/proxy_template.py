"""The template of a new plugin package: a small working proxy with its README and its tests."""

from __future__ import annotations

import re

from lpzero_hf.packaging.package import Package

MODULE = '''\
"""The proxy `{module}` for lpzero-hf."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lpzero_hf import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from lpzero_hf import Proxy


def saliency_norm(W: Tensor, G: Tensor) -> Tensor:
    """||W * G||_F of a linear layer's weight W [out, in] and its gradient G [out, in].

    Make new tensors on the device and in the precision of these, and write into neither.
    """
    return (W * G).square().sum().sqrt()


@hookimpl
def lpz_proxies() -> Iterable[Proxy]:
    """The proxies of this package."""
    from lpzero_hf import Reduction, StatisticProxy  # imports torch, which `lpz --help` does not need

    yield StatisticProxy(
        name="{module}",
        formula="sum over linear layers of ||W * G||_F",
        citation="unpublished, the authors of {distribution}",  # yours: authors, title, venue, year, arXiv id
        reductions=(Reduction("linear", ("W", "G"), saliency_norm),),
        orientation=1,  # -1 if lower is better
        version="1",  # raise it whenever the numbers change, so that cached scores are made again
        batch_order_invariant=True,  # the order of the samples does not matter; leave it out if it does
    )
'''

TEST = '''\
"""`{module}` fulfils the contract of a proxy, and computes its formula."""

from __future__ import annotations

import pytest
import torch
from {module} import saliency_norm

from lpzero_hf import score


@pytest.mark.lpz_proxies("{module}")
def test_it_conforms(lpz_check):
    lpz_check()


def test_the_formula_by_hand():
    W, G = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.0]])
    assert saliency_norm(W, G) == 5.0  # the norm of [3, 4]


def test_it_scores_every_tiny_model(lpz_model, lpz_batch):
    assert score(lpz_model, lpz_batch, "{module}")["{module}"].require() > 0
'''

README = """\
# {distribution}

A plugin for lpzero-hf that offers the proxy `{module}`:

    score = sum over linear layers of ||W * G||_F

W is the weight of a linear layer, G the gradient of the model's loss on one minibatch; higher is better.

```
pip install {distribution}
lpz score gpt2-variant --proxy {module}
lpz bench eval flexibert --proxy {module}
```

To work on it: `pip install -e '.[test]' && pytest`. The tests are lpzero-hf's conformance kit, the formula by hand, and
a score on tiny models of several families.
"""


def scaffold(distribution: str) -> Package:
    """A package of that name, which offers one proxy.

    Args:
        distribution: what `pip install` will call it; in lower case and with underscores, it names module and proxy.

    Raises:
        UsageError: it is not a valid name for a package or a module.

    Example:
        >>> scaffold("my-proxy").module
        'my_proxy'
    """
    module = re.sub(r"[-_.]+", "_", distribution).lower()
    names = {"distribution": distribution, "module": module}
    return Package(
        distribution=distribution,
        module=module,
        entry_point=module.replace("_", "-"),
        description=f"The proxy {module} for lpzero-hf",
        readme=README.format(**names),
        files=MODULE.format(**names),
        test=TEST.format(**names),
    )
