"""The definition of an expression's score, tensor by tensor: what tables and stores are compared with."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.expressions.canonical import facts
from lpzero_hf.expressions.expression import BUILT_IN, BY_ROLE, Branch, Expression, letter, role
from lpzero_hf.expressions.tables import GROUP
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from tests.support.families import tiny_model

MODELS = ("gpt2", "bert", "llama", "mamba")  # mamba shows no softmax attention
PLACES = {"W": "linear", "G": "linear", "A": "linear", "J": "linear", "H": "mixer", "S": "mixer"}
PLACES |= {name: f"{role(name)}_linear" for name in BY_ROLE}
Raw = dict[str, list[tuple[int, Tensor, Tensor]]]  # by statistic, for each site: block, tensor as captured, mask


def model_and_batch(family: str) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """A tiny model in float64, and a minibatch that is padded on the right."""
    model = tiny_model(family, seed=1).double()
    batch = minibatch(model, tokenizer=embedded_tokenizer(), batch_size=3, seq_len=7)
    mask = torch.ones_like(batch["input_ids"])
    if family != "mamba":
        mask[0, 5:], mask[2, 3:] = 0, 0
    return model, batch | {"attention_mask": mask}


@cache
def raw(family: str) -> Raw:
    """Every tensor of every statistic, with the mask of its rows."""
    model, batch = model_and_batch(family)
    return raw_of(model, batch)


def raw_of(model: torch.nn.Module, batch: dict[str, Tensor]) -> Raw:
    """The same of any model."""
    reads = {name: Reduction(place, (letter(name),), Tensor.clone) for name, place in PLACES.items()}  # type: ignore[arg-type]
    captured = capture(model, batch, list(reads.values()), layout_of(model))  # type: ignore[arg-type]
    mask = batch["attention_mask"].bool()
    return {
        name: [
            (site.block, site.value, mask)
            for site in sorted(captured.values.get(reduction, []), key=lambda site: (site.block, site.site))
        ]
        for name, reduction in reads.items()
    }


def matrix(name: str, tensor: Tensor, mask: Tensor) -> Tensor:
    """Rows are output channels of a weight, real tokens, or real tokens of each head."""
    if letter(name) in ("W", "G"):
        return tensor
    rows = [tensor[b, ..., t, :].reshape(-1, tensor.shape[-1]) for b, t in mask.nonzero().tolist()]
    return torch.cat(rows)


def applied(branch: Branch, tensor: Tensor) -> Tensor:
    for name in branch.chain:
        tensor = BUILT_IN[name].function(tensor)
    return tensor


def directly(expression: Expression, found: Raw) -> tuple[float, float]:
    """The score, tensor by tensor as the definition says, and the same of absolute values: what rounding acts on."""
    kept = [branch for branch in expression.branches if not branch.dropped]
    results = []
    for branch in kept:
        sites = found[branch.statistic]
        tensors = [(block, applied(branch, matrix(branch.statistic, x, mask))) for block, x, mask in sites]
        results.append([(block, x, x.abs()) for block, x in tensors])
    blocks = sorted(set.intersection(*[{block for block, *_ in result} for result in results]))
    if not blocks:
        return math.nan, math.nan
    if len(kept) == 2 and GROUP[kept[0].statistic] == GROUP[kept[1].statistic]:
        pairs = zip(*results, strict=True)
        results = [[(block, *operated(expression.op, x, y)) for (block, *x), (_, *y) in pairs]]
    values, scales = [], []
    for block in blocks:
        parts = [folded([t for b, *t in result if b == block], expression.reduce) for result in results]
        value, scale = parts[0]
        if len(parts) == 2:
            op = "product" if expression.op == "matmul" else expression.op
            numbers = [[torch.tensor(v, dtype=torch.float64) for v in part] for part in parts]
            value, scale = (float(x) for x in operated(op, *numbers))
        values.append(value)
        scales.append(scale)
    over = len(blocks) if expression.aggregate == "mean" else 1
    return sum(values) / over, sum(scales) / over


def operated(op: str, x: list[Tensor], y: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The operation on two values, and on their absolute values."""
    if op == "sum":
        return x[0] + y[0], x[1] + y[1]
    if op == "difference":
        return x[0] - y[0], x[1] + y[1]
    if op == "matmul" and x[0].dim() == y[0].dim() == 2:
        return x[0] @ y[0].T, x[1] @ y[1].T
    return x[0] * y[0], x[1] * y[1]


def folded(tensors: list[list[Tensor]], reduce: str) -> tuple[float, float]:
    over = sum(x.numel() for x, _ in tensors) if reduce == "mean" else 1
    return sum(float(x.sum()) for x, _ in tensors) / over, sum(float(x.sum()) for _, x in tensors) / over


def defined(branch: Branch) -> bool:
    """Whether no step of a branch is a mean that is 0 but for rounding, so that what follows is noise."""
    steps = [facts(branch.statistic, branch.chain[:size]) for size in range(1, len(branch.chain) + 1)]
    return not any(step.scalar and step.constant == 0 for step in steps)
