"""Makes an installable package that offers the proxy of an artifact."""

from __future__ import annotations

import re

from lpzero_hf.artifacts.artifact import ARTIFACT_FILE, Artifact
from lpzero_hf.artifacts.card import card
from lpzero_hf.packaging.package import Package

MODULE = '''\
"""The proxy `{name}` for lpzero-hf: the artifact beside this file, offered through a hook."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING

from lpzero_hf import hookimpl

if TYPE_CHECKING:
    from lpzero_hf import Proxy


@hookimpl
def lpz_proxies() -> Iterable[Proxy]:
    """The one proxy of this package."""
    from lpzero_hf import shipped_proxy  # imports torch, which `lpz --help` does not need

    return [shipped_proxy(files(__name__) / "{file}")]
'''

TEST = '''\
"""`{name}` fulfils the contract of a proxy, and is the proxy of its artifact."""

from __future__ import annotations

import pytest
from {module} import lpz_proxies

from lpzero_hf import load_proxy


@pytest.mark.lpz_proxies("{name}")
def test_it_conforms(lpz_check):
    lpz_check()


def test_the_plugin_offers_this_artifact():
    (shipped,) = lpz_proxies()
    assert shipped.artifact.digest == "{digest}"
    assert load_proxy("{name}").proxy.version == shipped.version
'''


def package_of(artifact: Artifact) -> Package:
    """A package named after the proxy; once installed, `lpz proxies` lists the proxy and `lpz score` takes it.

    Args:
        artifact: a valid one.

    Example:
        >>> from lpzero_hf.artifacts.artifact import Artifact, Member
        >>> record = dict(benchmarks=["b"], strategy="random", seed=1, train={}, held_out={}, versions={})
        >>> package_of(Artifact("mine", (Member("sum(sum(sum(W, G)))", 1),), {"no_op": "1"}, record)).distribution
        'lpz-mine'
    """
    slug = re.sub(r"[._]", "-", artifact.name)
    module = f"lpz_{slug}".replace("-", "_")
    names = {"name": artifact.name, "module": module, "file": ARTIFACT_FILE, "digest": artifact.digest}
    return Package(
        distribution=f"lpz-{slug}",
        module=module,
        entry_point=slug,
        description=f"The searched zero-cost proxy {artifact.name} for lpzero-hf",
        readme=card(artifact),
        files={"__init__.py": MODULE.format(**names), ARTIFACT_FILE: artifact.text},
        test=TEST.format(**names),
    )
