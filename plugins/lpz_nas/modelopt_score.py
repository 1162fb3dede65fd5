"""NVIDIA ModelOpt's searches with a proxy as `score_func`, so that no candidate is trained or validated.

Needs `pip install 'lpzero-hf[modelopt]'` and torchprofile, see `docs/how-to/nas-tools.md`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import modelopt.torch.nas as mtn
import torch
from torch import nn

from lpz_nas.evaluator import ProxyEvaluator
from lpzero_hf.errors import UsageError


def score_func(evaluator: ProxyEvaluator) -> Callable[[nn.Module], float]:
    """A function of a model, converted by `mtn.convert`, that scores the subnet now selected in it, to be maximised.

    The subnet is exported from a copy, so the searched model is left as it is. It is scored with the weights that
    the searched model has, since ModelOpt's subnets share them.

    Args:
        evaluator: scores; it needs no space.

    Returns:
        What goes into the `config` of `mtn.search` as `score_func`. It raises `ScoreError` where there is no score.

    Raises:
        UsageError: `evaluator` is no `ProxyEvaluator`.
    """
    if not isinstance(evaluator, ProxyEvaluator):
        raise UsageError(f"{evaluator!r} scores nothing; give a ProxyEvaluator(PROXY)")

    def score(model: nn.Module) -> float:
        subnet = mtn.export(copy.deepcopy(model))
        with torch.enable_grad():  # the searches run without
            return evaluator.evaluate(subnet)

    return score
