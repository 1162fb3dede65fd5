"""Tables: the closed form of every expression is what its operations make of the raw tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpzero_hf.capture.spec import Reduced
from lpzero_hf.expressions.expression import BUILT_IN, BY_ROLE, EVERY_STATISTIC, FOLDS, Branch, Expression, role
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import GROUP, GROUPS, gather
from lpzero_hf.proxies.expression_proxy import expression_proxy, wanted_by
from lpzero_hf.scoring.score import score
from tests.support.raw_expressions import MODELS, Raw, defined, directly, model_and_batch, raw


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
