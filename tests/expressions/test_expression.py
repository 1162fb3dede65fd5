"""The expression language: text, errors that point at a column, canonical forms."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.canonical import canonical, canonical_chain, facts
from lpzero_hf.expressions.expression import BUILT_IN, EVERY_STATISTIC, FOLDS, Branch, Expression, parse
from lpzero_hf.expressions.operations import BINARY, Rewrite, Unary

SNIP = "sum(sum(product(abs(W), abs(G))))"
chains = st.lists(st.sampled_from(sorted(BUILT_IN)), min_size=1, max_size=4).map(tuple)
branches = st.builds(Branch, st.sampled_from(EVERY_STATISTIC), chains)
expressions = st.builds(
    Expression, branches, st.sampled_from(sorted(BINARY)), branches, st.sampled_from(FOLDS), st.sampled_from(FOLDS)
)
many = settings(max_examples=400, deadline=None, derandomize=True)


@many
@given(expressions)
def test_an_expression_is_what_its_text_spells(expression: Expression) -> None:
    assert parse(str(expression)) == expression
    spaced = str(expression).replace("(", " ( ").replace(",", " ,\n")
    assert parse(spaced) == expression


@pytest.mark.parametrize(
    ("text", "column", "told"),
    [
        ("", 1, "blocks"),
        ("max(sum(sum(W, G)))", 1, "blocks"),
        ("sum(med(sum(W, G)))", 5, "elements"),
        ("sum(sum(plus(W, G)))", 9, "matmul"),
        ("sum(sum(sum(W G)))", 15, "','"),
        ("sum(sum(sum(W)))", 14, "','"),
        ("sum(sum(sum(abz(W), G)))", 13, "'abs'"),
        ("sum(sum(sum(abs(Q), G)))", 17, "statistic"),
        ("sum(sum(sum(abs W, G)))", 17, "'('"),
        ("sum(sum(sum(abs(J_fnn), G)))", 17, "'J_ffn'"),
        ("sum(sum(sum(abs(j_mixer), G)))", 17, "'J_mixer'"),
        ("sum(sum(sum(H_ffn, G)))", 13, "statistic"),
        ("sum(sum(sum(abs(W, G)))", 18, "close abs"),
        ("sum(sum(sum(W, G))", 19, "close sum"),
        ("sum(sum(sum(W, G))) and more", 21, "the end"),
        ("sum(sum(sum(W, %)))", 16, "statistic"),
        ("sum(sum(sum(abs(abs(abs(abs(abs(W))))), G)))", 13, "at most 4"),
    ],
)
def test_malformed_text_is_told_with_its_column(text: str, column: int, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert f"column {column} " in str(caught.value)
    assert told in str(caught.value)


def test_a_text_without_end_is_refused() -> None:
    with pytest.raises(UsageError, match="1000 characters"):
        parse("sum(" * 1000)


@many
@given(st.text("sumean(),WGabs ", max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    with pytest.raises(UsageError, match="column"):  # the chance that it spells an expression is nil
        parse(text)


def test_a_branch_has_one_to_four_operations() -> None:
    with pytest.raises(UsageError, match="1 to 4"):
        Branch("W", ("abs",) * 5)
    assert Branch("W", ()) == Branch("W", ("no_op",))


@pytest.mark.parametrize(
    ("text", "complexity"),
    [
        (SNIP, 5),
        ("sum(sum(sum(W, disconnect(G))))", 1),
        ("sum(mean(sum(log(abs(W)), no_op(G))))", 5),
        ("sum(sum(sum(sqrt(W), disconnect(G))))", 2),
    ],
)
def test_complexity_counts_what_does_something(text: str, complexity: int) -> None:
    assert parse(text).complexity == complexity


def test_the_digest_is_the_same_in_every_process() -> None:
    code = f"from lpzero_hf import parse; print(parse({SNIP!r}).digest)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {parse(SNIP).digest}
    assert parse("sum(sum(product(abs(W),abs(G))))").digest == parse(SNIP).digest
    assert parse("sum(mean(product(abs(W),abs(G))))").digest != parse(SNIP).digest


# Canonical forms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exact", "expected"), [(True, ("no_op",)), (False, ("exp", "logarithm"))])
def test_only_exact_rewrites_are_applied(exact: bool, expected: tuple[str, ...]) -> None:
    undone = Unary("logarithm", lambda x: x.log(), "ln x", after={"exp": Rewrite((), exact=exact)})
    assert canonical_chain("W", ("exp", "logarithm"), {**BUILT_IN, "logarithm": undone}) == expected


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("sum(sum(sum(abs(W), log(G))))", "sum(sum(sum(log(G), abs(W))))"),
        ("sum(sum(product(pow(revert(W)), G)))", "sum(sum(product(pow(W), G)))"),
        ("sum(sum(sum(abs(S), G)))", "sum(sum(sum(S, G)))"),
        ("sum(sum(sum(revert(revert(A)), G)))", "sum(sum(sum(no_op(A), G)))"),
        ("sum(sum(sum(abs(A), disconnect(G))))", "sum(sum(product(disconnect(J), abs(A))))"),
        ("sum(sum(matmul(H, G)))", "sum(sum(product(G, H)))"),
        ("sum(sum(matmul(J_ffn, A_mixer)))", "sum(sum(product(J_ffn, A_mixer)))"),
        ("sum(sum(product(J_ffn, H)))", "sum(sum(product(H, J_ffn)))"),
        ("sum(sum(matmul(l1_norm(W), G)))", "sum(sum(product(G, l1_norm(W))))"),
    ],
)
def test_equal_expressions_have_one_form(text: str, other: str) -> None:
    assert canonical(parse(text)) == canonical(parse(other))


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("sum(sum(sum(abs(W), G)))", "sum(sum(sum(W, G)))"),
        ("sum(sum(matmul(W, G)))", "sum(sum(product(W, G)))"),
        ("sum(sum(matmul(W_ffn, G_ffn)))", "sum(sum(product(W_ffn, G_ffn)))"),
        ("sum(sum(sum(W_ffn, G)))", "sum(sum(sum(W, G)))"),
        ("sum(mean(sum(W, G)))", "sum(sum(sum(W, G)))"),
        ("sum(sum(sum(exp(log(A)), G)))", "sum(sum(sum(A, G)))"),
    ],
)
def test_different_expressions_have_different_forms(text: str, other: str) -> None:
    assert canonical(parse(text)) != canonical(parse(other))


@many
@given(expressions)
def test_the_canonical_form_is_its_own(expression: Expression) -> None:
    form = canonical(expression)
    assert canonical(form) == form


def sampled(statistic: str, seed: int) -> Tensor:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.softmax(x, 1) if statistic == "S" else x


def applied(chain: tuple[str, ...], x: Tensor) -> Tensor:
    for name in chain:
        x = BUILT_IN[name].function(x)
    return x


@many
@given(st.sampled_from("WS"), chains.filter(lambda chain: "disconnect" not in chain), st.integers(0, 99))
def test_a_shorter_chain_computes_the_same(statistic: str, chain: tuple[str, ...], seed: int) -> None:
    x = sampled(statistic, seed)
    value, known = applied(chain, x), facts(statistic, chain)
    torch.testing.assert_close(applied(canonical_chain(statistic, chain), x), value, rtol=1e-6, atol=1e-9)
    slack = 1e-9 * (1 + float(value.abs().max()))
    assert known.interval.low - slack <= float(value.min())
    assert float(value.max()) <= known.interval.high + slack
    assert known.scalar == (value.dim() == 0)
    if known.centred:
        assert abs(float(value.sum())) < 1e-6
