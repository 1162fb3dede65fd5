"""A score that hangs on rounding is invalid or says so; the others do not notice the kernels."""

from __future__ import annotations

import itertools
import re
import warnings

import pytest
import torch
from torch import Tensor

from lpzero_hf import score
from lpzero_hf.errors import InvalidScore, RoundingWarning
from lpzero_hf.expressions.expression import BUILT_IN, parse
from lpzero_hf.expressions.rounding import PART, checked, disturbed, steady
from tests.support.families import tiny_model

# Relative differences between attention by softmax and in one call; stated in docs/explanation/method.md.
BOUND = {torch.float32: 1e-4, torch.float64: 1e-5}
SILENT = 1e-2  # of an expression that does not say that it hangs on rounding
ROUGHER = {"zico": 1e-2}  # a mean over entries of 1 / (a difference that is close to 0)
FAMILIES = ["gpt2", "llama", "opt", "bert", "roberta", "bart", "qwen3", "phi", "modernbert", "electra"]
EXPRESSIONS = [
    "sum(sum(product(abs(W), abs(G))))",
    "sum(mean(product(abs(A), abs(J))))",
    "mean(mean(sum(abs(H), abs(A))))",
    "mean(mean(sum(exp(S), sigmoid(W))))",
    *(
        f"sum(sum(sum({chain}, disconnect(W))))"
        for chain in ("abslog(G)", "abslog(J)", "invert(G)", "invert(J)", "log(S)", "abslog(normalize(H))", "no_op(J)",
                      "normalize(G)", "invert(to_mean_scalar(normalize(A)))", "sqrt(G)", "normalize(no_op(A))")
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("family", "dtype"),
    [*((family, torch.float32) for family in FAMILIES), *((f, torch.float64) for f in ("gpt2", "llama", "bert"))],
)
def test_the_kernel_of_attention_changes_no_score_but_those_that_say_so(
    family: str, dtype: torch.dtype, batch: dict[str, Tensor]
) -> None:
    rows = []
    said = ""
    for kernel in ("sdpa", "eager"):
        model = tiny_model(family, attn_implementation=kernel).to(dtype)  # type: ignore[arg-type]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows.append(score(model, batch, ["all", *EXPRESSIONS]))
        said += " ".join(str(w.message) for w in caught if w.category is RoundingWarning)
    compared = 0
    for name, row in rows[0].items():
        other = rows[1][name]
        if "invalid" in (row.status, other.status):
            assert name.startswith("sum(sum(sum(")
            continue
        assert row.status == other.status != "failed"
        assert row.reason == other.reason or "hangs on rounding" in row.reason + other.reason
        if row.value is not None and f"'{name}'" not in said:
            compared += 1
            within = SILENT if name in EXPRESSIONS else ROUGHER.get(name, BOUND[dtype])
            assert other.value == pytest.approx(row.value, rel=within), name
    assert compared >= 36


@pytest.mark.parametrize(
    "family", ["gpt2", "llama", "bert", "t5", "xlnet", "mixtral", "mamba", "rwkv", "big_bird", "funnel", "xglm"]
)
def test_company_changes_no_score(family: str, batch: dict[str, Tensor]) -> None:
    model = tiny_model(family)
    together = score(model, batch, ["all", *EXPRESSIONS[:4]])
    for name, row in together.items():
        alone = score(model, batch, [name])[name]
        assert alone.status == row.status
        assert alone.reason == row.reason or alone.passes != "forward + backward"  # which lets more be noticed
        assert alone.value == (row.value and pytest.approx(row.value, rel=1e-6))


def test_a_logarithm_of_what_is_zero_but_for_rounding_says_so(batch: dict[str, Tensor]) -> None:
    """In causal attention, the first query has one key: its gradient is zero, and comes out as 1e-10."""
    expression = "sum(sum(sum(abslog(J), disconnect(W))))"
    with pytest.warns(RoundingWarning, match=re.escape(f"'{expression}' hangs on rounding")):
        row = score(tiny_model("gpt2"), batch, expression)[expression]
    assert row.status == "ok"
    assert row.reason.startswith("hangs on rounding")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RoundingWarning)
        rows = score(tiny_model("gpt2"), batch, ["lpzero-gpt2", "lpzero-any-0.1.0", *EXPRESSIONS[:4]])
    assert {row.status for row in rows.values()} == {"ok"}


def test_a_sum_that_cancels_is_invalid(batch: dict[str, Tensor]) -> None:
    expression = "sum(sum(sum(normalize(G), disconnect(W))))"
    row = score(tiny_model("bert"), batch, expression)[expression]
    assert row.status == "invalid"
    assert "rounding decides it" in row.reason


@pytest.mark.parametrize(("statistic", "dtype"), itertools.product("GAJHS", (torch.float32, torch.float64)))
def test_disturbed_tensors_differ_in_the_last_place(statistic: str, dtype: torch.dtype) -> None:
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)).to(dtype).T
    x[0, 0], x[1, 1] = 0.0, 1e-30
    unit = torch.finfo(torch.float32).eps
    once, twice = disturbed(statistic, x), disturbed(statistic, x)
    assert torch.equal(once, twice)
    scale = x.abs() if statistic == "S" else x.abs().max()
    assert ((once - x).abs() <= 2 * unit * scale).all()
    assert 0.4 < float((once > x).double().mean()) < 0.6
    assert once[0, 0] == 0.0
    assert (once[1, 1] == 0.0) == (statistic != "S")
    assert disturbed("W", x) is x


@pytest.mark.parametrize("statistic", ["J", "S"])
def test_every_element_of_a_large_tensor_is_disturbed_by_the_size_of_the_largest(statistic: str) -> None:
    x = torch.randn(3, PART, generator=torch.Generator().manual_seed(0))
    x[0] *= 1000  # in another part than the rest
    changed = disturbed(statistic, x) - x
    assert torch.equal(disturbed(statistic, x[:, :7])[1:], disturbed(statistic, x)[1:, :7]) == (statistic == "S")
    assert float((changed != 0).double().mean(1).min()) > 0.9
    if statistic == "J":
        assert float(changed[1:].abs().max()) > 100 * torch.finfo(torch.float32).eps


def test_scores_are_checked_by_their_relative_change() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checked(1.0, 1.0005) == 1.0
        assert checked(0.0, 0.0) == 0.0
        assert checked(float("inf"), 1.0) == float("inf")
    with pytest.warns(RoundingWarning, match="hangs on rounding"):
        assert checked(1.0, 1.05) == 1.0
    for again in (1.2, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidScore, match="rounding decides"):
            checked(1.0, again)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum(sum(product(abs(W), abs(G))))", True),
        ("sum(sum(product(W, G)))", False),
        ("sum(sum(product(l1_norm(G), relu(H))))", True),
        ("sum(sum(sum(sqrt(G), min_max_normalize(S))))", True),
        ("sum(sum(sum(frobenius_norm(abslog(J)), sigmoid(sqrt(H)))))", False),
        ("sum(sum(difference(abs(A), abs(J))))", False),
        ("sum(sum(difference(abs(A), revert(abs(J)))))", True),
        ("sum(sum(sum(abs(A), revert(abs(J)))))", False),
        ("sum(sum(sum(abs(to_mean_scalar(A)), S)))", False),
        ("sum(sum(sum(normalize(S), disconnect(W))))", False),
        ("sum(sum(sum(normalize(W), log(W))))", True),
        ("sum(sum(sum(S, disconnect(A))))", True),
    ],
)
def test_expressions_whose_rounding_cannot_show_are_known(text: str, expected: bool) -> None:
    assert steady(parse(text), BUILT_IN) is expected
