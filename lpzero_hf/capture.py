"""One forward and one backward pass that reduces the six statistics of a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf.isolation import isolated
from lpzero_hf.layout import ModelLayout
from lpzero_hf.lazy import source_of
from lpzero_hf.objective import Batch
from lpzero_hf.recorder import Recorder
from lpzero_hf.reduction import LOSS, Captured, Network, Reduction


def capture(
    model: PreTrainedModel,
    batch: Batch,
    reductions: Sequence[Reduction],
    layout: ModelLayout,
    *,
    network: Network = LOSS,
    dtype: torch.dtype | None = None,
    seed: int = 42,
    checkpointing: bool = False,
) -> Captured:
    """Run `network` once, forward and, where a reduction reads a gradient, backward.

    Args:
        model: left exactly as it is found. Of a lazy one, W alone can be reduced, one weight in memory at a time.
        batch: `input_ids` [B, T] and what else the model takes.
        reductions: what to compute; equal reductions are computed once.
        layout: of `model`.
        network: the model itself with its own loss by default.
        dtype: runs the pass in this precision, on a copy of the weights; None keeps the model's own. A network
            that substitutes its own weights (SynFlow's are double) decides for itself.
        seed: for the objective and every random number of the pass.
        checkpointing: keep the inputs of blocks alone and run each block again in the backward pass, which takes a
            third more time and far less memory. The values are the same. A network that departs from the model
            (SynFlow's, which is fed one sequence) runs without.

    Returns:
        The reduced values. If the pass breaks (the model does not run on this batch, no gradient reaches its
        blocks), the reductions it had not served yet have a `CaptureError` among the failures.
    """
    moments = {r.moment for r in reductions}
    gradients = bool(moments & {"gradient", "backward"})
    sites = {id(site.parameter): site for site in layout.weights}
    source = source_of(model)
    read = None if source is None else source.read

    def substitute(parameter: Tensor) -> Tensor:
        tensor = parameter.detach()
        if network.substitute is not None:
            return network.substitute(tensor)
        return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor

    def trainable(parameter: nn.Parameter) -> bool:
        return gradients and id(parameter) in sites

    protected: frozenset[str] = frozenset()
    while True:
        with isolated(model, substitute=substitute, trainable=trainable, seed=seed) as replaced:
            fed = network.prepare(model, batch, seed)
            recorder = Recorder(layout, reductions, fed, protected, checkpointing and gradients and not network.departs)
            for key, parameter in replaced.items():
                if key in sites:
                    original = sites[key].parameter
                    recorder.read_weight(sites[key], parameter if read is None else substitute(read(original)))
            if moments <= {"weight"}:
                return recorder.result()
            with network.context(model, layout), recorder.watching(model), torch.set_grad_enabled(gradients):
                with recorder.failing(model, "forward", "gradient", "backward"):
                    scalar = network.objective(model, fed, seed)
                fresh = recorder.overwritten() - protected
                if fresh:  # run again, handing the model copies of the outputs that it writes into
                    protected |= fresh
                    continue
                if gradients and not recorder.broken:
                    with recorder.failing(model, "gradient", "backward"):
                        recorder.backward(scalar)
            return recorder.result()
