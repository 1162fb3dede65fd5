"""A pass without weights takes no memory for what has only shapes, however large it is."""

from __future__ import annotations

import pytest
import torch

from lpzero_hf.models.meta_device import LARGEST, ShapesOnly


@pytest.mark.parametrize("make", [torch.ones, torch.zeros, torch.rand, torch.empty])
def test_a_huge_tensor_that_a_pass_makes_has_only_a_shape(make: object) -> None:
    assert callable(make)
    side = 2**18
    assert side * side > 100 * LARGEST
    with ShapesOnly():
        mask = make(side, side).tril()
        small = make(4, 3)
        out = torch.nn.Linear(3, 2, device="meta")(small)
    assert (mask.is_meta, tuple(mask.shape)) == (True, (side, side))
    assert (small.is_meta, tuple(out.shape)) == (False, (4, 2))
