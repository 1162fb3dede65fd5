"""The four parts of AZ-NAS: expressivity, progressivity, trainability and complexity.

The features are the hidden states [B, T, d] that each block returns, with real tokens as rows. (The published code for
vision transformers reads them behind the attention as well, and leaves progressivity out.) AZ-NAS ranks a set of
architectures by the sum of the logarithms of their ranks by the four parts:
`log_ensemble(az_expressivity, az_progressivity, az_trainability, az_complexity)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lpz_proxies.activations import variances
from lpz_proxies.size import flops
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import InvalidScore, NotApplicable
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import ModelProxy, Proxy, StatisticProxy, Subject

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lpzero_hf.models.layout import ModelLayout

AZ_NAS = "Lee and Ham, AZ-NAS, CVPR 2024, arXiv:2403.19232"


def spectral_entropy(A: Tensor, mask: Tensor) -> Tensor:
    """The entropy of the principal components of features A [B, T, d]: - sum p ln p, p their shares of the variance."""
    spectrum = variances(A, mask)
    return torch.special.entr(spectrum / spectrum.sum()).sum()


def smallest_step(values: Sequence[list[Tensor]], layout: ModelLayout) -> float:
    """The smallest difference of two consecutive blocks.

    Raises:
        NotApplicable: there is only one block.
    """
    entropies = [float(value) for value in values[0]]
    if len(entropies) < 2:
        raise NotApplicable("it compares consecutive blocks, and there is only one")
    return min(after - before for before, after in pairwise(entropies))


class BlockwiseDerivatives:
    """Hooks that cut a model before each of its blocks, and differentiate each block alone as soon as it has run.

    Args:
        subject: whose blocks to watch.
    """

    def __init__(self, subject: Subject) -> None:
        from lpzero_hf.capture.tokens import TokenRows

        self.rows = TokenRows(subject.batch, subject.layout)
        self.draws = torch.Generator().manual_seed(subject.seed)  # on the CPU: the same on every device
        self.leaves: list[Tensor | None] = []  # what goes into the blocks that run
        self.scores: list[float] = []
        for block in subject.layout.blocks:
            block.module.register_forward_pre_hook(partial(self._enter, block.name), with_kwargs=True)
            block.module.register_forward_hook(partial(self._leave, block.name))

    def _enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rows = self.rows.of_block(name)
        given: dict[int | str, Any] = dict(enumerate(args))
        given.update(kwargs)
        place = next((place for place, value in given.items() if rows.read(value, name) is not None), None)
        self.leaves.append(None if place is None else given[place].detach().requires_grad_())
        if place is None or self.leaves[-1] is None:
            return None
        given[place] = self.leaves[-1].view_as(self.leaves[-1])  # the model may write into it
        return tuple(given[i] for i in range(len(args))), {key: given[key] for key in kwargs}

    def _leave(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        leaf, tensor = self.leaves.pop(), output[0] if isinstance(output, tuple | list) else output
        rows = self.rows.of_block(name)
        read = rows.read(tensor, name)
        if leaf is not None and read is not None and leaf.shape == tensor.shape and tensor.requires_grad:
            out, mask = read
            signs = (torch.randint(2, out.shape, generator=self.draws) * 2 - 1).to(out) * mask.unsqueeze(-1)
            gradient = torch.autograd.grad(out, leaf, signs, retain_graph=True)[0]
            back = rows.read(gradient, name)
            assert back is not None
            self.scores.append(trainable(back[0][mask].T.double() @ signs[mask].double() / mask.sum()))


def trainable(jacobian: Tensor) -> float:
    """2 - s - 1/s, s the largest singular value of a Jacobian [d, d]: 0 at s = 1, less everywhere else.

    Raises:
        InvalidScore: s is not finite, or 0.
    """
    if not jacobian.isfinite().all():
        raise InvalidScore("the gradient of a block is not finite")
    s = math.sqrt(max(0.0, float(torch.linalg.eigvalsh(jacobian.T @ jacobian)[-1])))
    if not s:
        raise InvalidScore("no gradient passes through a block")
    return 2 - s - 1 / s


def trainability(subject: Subject) -> float:
    """The mean over blocks of 2 - s - 1/s, s the spectral norm of the Jacobian of a block's output by its input.

    As in the paper, the Jacobian is estimated with one random sign v for every feature of every real token: with g the
    gradient of the sum of v * output, it is the sum over tokens of g v^T over their number, [d, d].

    Raises:
        NotApplicable: no block turns hidden states into hidden states of the same shape.
    """
    from lpzero_hf.models.isolation import isolated
    from lpzero_hf.models.objective import run_model

    with isolated(subject.model, trainable=lambda parameter: False, seed=subject.seed):
        derivatives = BlockwiseDerivatives(subject)
        run_model(subject.model, {name: value for name, value in subject.batch.items() if name != "labels"})
    if not derivatives.scores:
        raise NotApplicable("no block turns hidden states into hidden states of the same shape")
    return sum(derivatives.scores) / len(derivatives.scores)


ENTROPY = Reduction("block", ("A", "mask"), spectral_entropy)

PROXIES: list[Proxy] = [
    StatisticProxy(
        name="az_expressivity",
        formula="sum over blocks of - sum p ln p, p the shares of variance of the principal components of its output",
        citation=AZ_NAS,
        batch_order_invariant=True,
        reductions=(ENTROPY,),
    ),
    StatisticProxy(
        name="az_progressivity",
        formula="smallest increase of the entropy of az_expressivity from one block to the next",
        citation=AZ_NAS,
        batch_order_invariant=True,
        reductions=(ENTROPY,),
        combine=smallest_step,
    ),
    ModelProxy(
        name="az_trainability",
        formula="mean over blocks of 2 - s - 1/s, s the largest singular value of the block's Jacobian",
        citation=AZ_NAS,
        evaluate=trainability,
        needs="1 forward, differentiated block by block",
    ),
    ModelProxy(
        name="az_complexity",
        formula="multiply-accumulates of one forward, as flops",
        citation=AZ_NAS,
        batch_order_invariant=True,
        evaluate=flops,
        shapes_only=True,
        needs="1 short forward",
    ),
]
