"""`v010-found` keeps to the contract of a proxy, and is what its artifact says."""

from __future__ import annotations

import pytest
from lpz_v010_found import lpz_proxies

from lpzero_hf import load_proxy


@pytest.mark.lpz_proxies("v010-found")
def test_it_conforms(lpz_check):
    lpz_check()


def test_the_plugin_offers_this_artifact():
    (shipped,) = lpz_proxies()
    assert shipped.artifact.digest == "381315a8cb40379ad003ce6ba6c7fdf07a06f6f759b8d64bc2bd9b15e59537a0"
    assert load_proxy("v010-found").proxy.version == shipped.version
