"""Statistics of linear layers by role: what they cover, what they cost beside the six, and models without a role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from torch import Tensor

from lpzero_hf.capture.capture import capture
from lpzero_hf.expressions.expression import BUILT_IN, BY_ROLE, EVERY_STATISTIC, ROLES, STATISTIC_NAMES, letter, parse
from lpzero_hf.expressions.operations import Unary
from lpzero_hf.expressions.rounding import disturbed, steady
from lpzero_hf.expressions.stacked import Stack
from lpzero_hf.expressions.tables import GROUP, PAIRS, Table, Wanted, pairs_among, tabulate
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.minibatch import embedded_tokenizer, minibatch
from lpzero_hf.proxies.expression_proxy import expression_proxy
from lpzero_hf.scoring.score import score
from tests.support.families import tiny_model

CHAINS = (("no_op",), ("abs",), ("abs", "sqrt"), ("frobenius_norm",))
FAMILIES = ("gpt2", "bert", "llama", "bart", "falcon", "mamba")
WITHOUT = parse("sum(sum(product(sqrt(J_ffn), sigmoid(H))))")
CALLS: Counter[str] = Counter()


def counted(x: Tensor) -> Tensor:
    CALLS["counted"] += 1
    return x.abs()


def wanted_of(statistics: Sequence[str], chains: tuple[tuple[str, ...], ...] = CHAINS) -> Wanted:
    operations = {**BUILT_IN, "counted": Unary("counted", counted, "|x|")}
    return Wanted(dict.fromkeys(statistics, chains), pairs_among(statistics), operations)


@cache
def table(
    family: str, statistics: Sequence[str] = EVERY_STATISTIC, chains: tuple[tuple[str, ...], ...] = CHAINS
) -> Table:
    model = tiny_model(family, seed=1).double()
    batch = minibatch(model, tokenizer=embedded_tokenizer(), batch_size=2, seq_len=6)
    wanted = wanted_of(statistics, chains)
    return tabulate(wanted, capture(model, batch, list(wanted.reductions.values()), layout_of(model)))


def test_pairs_meet_within_one_role() -> None:
    assert PAIRS == (("W", "G"), ("A", "J")) == pairs_among(STATISTIC_NAMES)
    assert pairs_among(BY_ROLE) == (
        ("W_ffn", "G_ffn"), ("A_ffn", "J_ffn"), ("W_mixer", "G_mixer"), ("A_mixer", "J_mixer")
    )  # fmt: skip
    assert pairs_among(["G_ffn", "W", "H"]) == ()
    assert len({GROUP[name] for name in EVERY_STATISTIC}) == 8


@pytest.mark.parametrize("family", FAMILIES)
def test_the_roles_together_are_all_linear_layers(family: str) -> None:
    found = table(family)
    roles = [role for role in ROLES if f"weight_{role}" in found.counts]
    assert roles == (["mixer"] if family == "mamba" else ["ffn", "mixer"])
    for group in ("weight", "output"):
        parts = [found.counts[f"{group}_{role}"] for role in roles]
        torch.testing.assert_close(sum(parts), found.counts[group], rtol=0, atol=0)
        assert all(bool((part[0] > 0).any()) for part in parts)
    for name in "WGAJ":
        parts = [found.totals[f"{name}_{role}"] for role in roles]
        torch.testing.assert_close(sum(parts), found.totals[name], rtol=1e-9, atol=1e-12)


def test_a_table_by_role_runs_no_operation_twice_and_holds_the_same_six() -> None:
    chains = (("counted",), ("counted", "sqrt"))
    calls = []
    for statistics in (STATISTIC_NAMES, EVERY_STATISTIC):
        CALLS.clear()
        table("gpt2", statistics, chains)
        calls.append(CALLS["counted"])
    assert calls[0] == calls[1] > 0
    six, every = table("gpt2", STATISTIC_NAMES, chains), table("gpt2", EVERY_STATISTIC, chains)
    for kind in ("counts", "totals", "products", "matmuls"):
        one, other = getattr(six, kind), getattr(every, kind)
        assert one.keys() < other.keys()
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_roles_that_want_other_chains_are_reduced_by_themselves() -> None:
    chains = {"J": (("abs",),), "J_ffn": (("abs", "sqrt"),), "J_mixer": (("abs",),)}
    all_, ffn, mixer = Wanted(chains).reductions.values()
    assert all_.function is mixer.function is not ffn.function
    assert (all_.place, ffn.place, mixer.place) == ("linear", "ffn_linear", "mixer_linear")
    assert all_.reads == ffn.reads == mixer.reads == ("J", "mask")


def test_tables_that_all_lack_a_role_score_everything_else() -> None:
    found, wanted = table("mamba"), wanted_of(EVERY_STATISTIC)
    stack = Stack([found, found], wanted)
    six = Stack([table("mamba", STATISTIC_NAMES)] * 2, wanted_of(STATISTIC_NAMES))
    for text in ("sum(sum(product(abs(W), abs(G))))", "mean(mean(sum(abs(J), frobenius_norm(H))))"):
        assert torch.equal(stack.score(parse(text)), six.score(parse(text)))
    for text in (
        "sum(sum(product(abs(W_ffn), abs(G_ffn))))", "sum(sum(matmul(A_ffn, J_ffn)))", "sum(mean(sum(abs(J_ffn), H)))",
        "mean(sum(sum(abs(J_ffn), disconnect(W))))", "sum(sum(difference(W_mixer, W_ffn)))",
    ):  # fmt: skip
        assert torch.isnan(stack.score(parse(text))).all(), text
    assert torch.isfinite(stack.score(parse("sum(sum(product(abs(W_mixer), abs(G_mixer))))"))).all()
    assert not stack.whole


def test_a_model_without_a_role_says_so_and_scores_the_rest() -> None:
    model = tiny_model("mamba", seed=1)
    batch = minibatch(model, tokenizer=embedded_tokenizer(), batch_size=2, seq_len=6)
    other = expression_proxy(parse("sum(sum(product(sqrt(J_mixer), sigmoid(H))))"))
    scores = score(model, batch, [expression_proxy(WITHOUT), other])
    assert scores[str(WITHOUT)].value is None
    assert "feed-forward linear layers" in scores[str(WITHOUT)].reason
    assert scores[other.name].value is not None


@pytest.mark.parametrize("name", BY_ROLE)
def test_rounding_touches_what_it_touches_of_the_six(name: str) -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(disturbed(name, x), disturbed(letter(name), x))
    assert torch.equal(disturbed(name, x), x) == (letter(name) == "W")
    text = "sum(sum(product(log(abs({})), abs(W))))"
    assert steady(parse(text.format(name)), BUILT_IN) == steady(parse(text.format(letter(name))), BUILT_IN)
