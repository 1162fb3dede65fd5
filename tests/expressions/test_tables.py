"""Tables: the closed form of every expression is what its operations make of the raw tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduced, Reduction
from lpzero_hf.expressions.canonical import facts
from lpzero_hf.expressions.expression import BUILT_IN, BY_ROLE, EVERY_STATISTIC, FOLDS, Branch, Expression, letter, role
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import GROUP, GROUPS, gather
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from lpzero_hf.proxies.expression_proxy import expression_proxy, wanted_by
from lpzero_hf.scoring.score import score
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


def from_tables(expression: Expression, found: Raw) -> float:
    wanted = wanted_by([expression])
    sites: dict[str, list[Reduced]] = {}
    for group, reduction in wanted.reductions.items():
        sites[group] = []
        names = [name for name in GROUPS[group] if name in wanted.chains]
        for parts in zip(*(found[name] for name in names), strict=True):
            block, _, mask = parts[0]
            tensors = [tensor for _, tensor, _ in parts] + [mask] * ("mask" in reduction.reads)
            sites[group].append(Reduced(block, "", reduction.function(*tensors)))
    if not any(sites.values()):
        return math.nan
    return float(Stack([gather(wanted, sites)], wanted).score(expression))


def defined(branch: Branch) -> bool:
    """Whether no step of a branch is a mean that is 0 but for rounding, so that what follows is noise."""
    steps = [facts(branch.statistic, branch.chain[:size]) for size in range(1, len(branch.chain) + 1)]
    return not any(step.scalar and step.constant == 0 for step in steps)


@st.composite
def expressions(draw: Callable[..., object]) -> Expression:
    """Any expression whose branches have one to four operations each; both may be of one statistic."""
    chain = st.lists(st.sampled_from(sorted(BUILT_IN)), min_size=1, max_size=4).map(tuple)
    branch = st.builds(Branch, st.sampled_from("WGAJHS"), chain)
    made: Expression = draw(
        st.builds(
            Expression, branch, st.sampled_from(["sum", "difference", "product", "matmul"]), branch,
            st.sampled_from(FOLDS), st.sampled_from(FOLDS),
        ).filter(lambda e: not all(b.dropped for b in e.branches) and all(map(defined, e.branches)))
    )  # type: ignore[assignment]  # fmt: skip
    return made


@st.composite
def by_role(draw: Callable[..., object]) -> Expression:
    """One branch reads layers by role, the other the same layers or anything."""
    made: Expression = draw(expressions())  # type: ignore[assignment]
    one = draw(st.sampled_from(BY_ROLE))
    other = draw(st.sampled_from(GROUPS[GROUP[one]]) | st.sampled_from(EVERY_STATISTIC))  # type: ignore[index]
    names = [one, other] if draw(st.booleans()) else [other, one]
    left, right = (Branch(name, b.chain) for name, b in zip(names, made.branches, strict=True))  # type: ignore[arg-type]
    return Expression(left, made.op, right, made.reduce, made.aggregate)


@cache
def hybrid() -> Raw:
    """What a model with attention in its second block alone shows, and feed-forward layers in its first alone."""
    found = raw("gpt2")
    first = {name: [site for site in found[name] if site[0] == 0] for name in BY_ROLE if role(name) == "ffn"}
    return found | {"S": [site for site in found["S"] if site[0] > 0]} | first


def agree(expression: Expression, family: str) -> None:
    """The closed form and the raw tensors give one score, or neither gives one."""
    found = hybrid() if family == "hybrid" else raw(family)
    value, scale = directly(expression, found)
    closed = from_tables(expression, found)
    if not math.isfinite(value):
        assert not math.isfinite(closed)
        return
    assert closed == pytest.approx(value, rel=1e-6, abs=1e-10 * scale), str(expression)


exactly = settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@exactly
@given(expression=expressions(), family=st.sampled_from([*MODELS, "hybrid"]))
@pytest.mark.integration
def test_the_closed_form_is_what_the_raw_tensors_come_to(expression: Expression, family: str) -> None:
    agree(expression, family)


@exactly
@given(expression=by_role(), family=st.sampled_from([*MODELS, "gptj", "hybrid"]))
@pytest.mark.integration
def test_the_closed_form_by_role_is_what_the_raw_tensors_come_to(expression: Expression, family: str) -> None:
    agree(expression, family)


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize(
    "expression",
    [
        Expression(Branch("W", ("abs",)), "product", Branch("G", ("abs",))),
        Expression(Branch("A", ("sqrt",)), "matmul", Branch("J", ("pow",)), "mean", "mean"),
        Expression(Branch("H", ("frobenius_norm",)), "sum", Branch("A", ("abs",)), "mean", "sum"),
        Expression(Branch("S", ("softmax",)), "difference", Branch("W", ("abs",)), "sum", "mean"),
        Expression(Branch("J_mixer", ("sqrt",)), "product", Branch("H", ("sigmoid",))),
        Expression(Branch("W_ffn", ("abs",)), "product", Branch("G_ffn", ("abs",)), "mean", "mean"),
        Expression(Branch("A_ffn", ("abs",)), "sum", Branch("A_mixer", ("abs",))),
    ],
    ids=str,
)
def test_the_proxy_of_an_expression_scores_a_model_so(expression: Expression, family: str) -> None:
    model, batch = model_and_batch(family)
    value, _ = directly(expression, raw(family))
    proxy = expression_proxy(expression)
    scored = score(model, batch, [proxy])[proxy.name]  # type: ignore[arg-type]
    assert (scored.value is None) == (not math.isfinite(value))
    if scored.value is not None:
        assert scored.value == pytest.approx(value, rel=1e-6)
