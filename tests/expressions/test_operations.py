"""Operations: every one is total, and what is declared of it holds for its function."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lpzero_hf.expressions.canonical import canonical_chain, facts
from lpzero_hf.expressions.operations import BINARY, REAL, UNARY, Interval, Unary

BY_NAME = {operation.name: operation for operation in UNARY}
every = pytest.mark.parametrize("operation", UNARY, ids=lambda operation: operation.name)


def sample(within: Interval = REAL, seed: int = 0, size: float = 3.0) -> Tensor:
    """A matrix [6, 5] in float64 with entries in an interval."""
    generator = torch.Generator().manual_seed(seed)
    x = size * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    if within.low >= 0:
        return x.abs().clamp(min=1e-3, max=within.high)
    if within.high <= 0:
        return -x.abs()
    return x.clamp(within.low, within.high)


def chained(names: tuple[str, ...], x: Tensor) -> Tensor:
    for name in names:
        x = BY_NAME[name].function(x)
    return x


def test_there_are_twenty_one_unary_and_four_binary_operations() -> None:
    assert len(BY_NAME) == len(UNARY) == 21
    assert list(BINARY) == ["sum", "difference", "product", "matmul"]


numbers = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-12, -1e-12, 1e-300, 81.0, -81.0]),
    st.floats(-1e100, 1e100, allow_nan=False, allow_infinity=False),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(rows=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=5), which=st.sampled_from(UNARY))
def test_an_operation_maps_real_tensors_to_real_ones_in_its_range(rows: list[tuple[float, ...]], which: Unary) -> None:
    x = torch.tensor(rows, dtype=torch.float64)
    kept = x.clone()
    y = which.function(x)
    assert torch.equal(x, kept)  # it does not write into its argument
    assert y.shape == (() if which.scalar else x.shape)
    assert bool(y.isfinite().all())
    low, high = which.range(Interval(float(x.min()), float(x.max())))
    slack = 1e-9 * max(1.0, float(x.abs().max()))
    assert float(y.min()) >= low - slack
    assert float(y.max()) <= high + slack


@every
def test_an_operation_does_not_break_on_a_scalar(operation: Unary) -> None:
    for value in (2.5, -1.5):
        x = torch.tensor(value, dtype=torch.float64)
        if isinstance(operation.on_scalar, float):
            expected = torch.tensor(operation.on_scalar, dtype=torch.float64)
        elif operation.on_scalar is not None:
            expected = chained(operation.on_scalar, x)
        else:
            assert math.isfinite(float(operation.function(x) if operation.name != "disconnect" else x))
            continue
        torch.testing.assert_close(operation.function(x), expected)


@every
@pytest.mark.parametrize("seed", range(3))
def test_the_declared_algebra_holds(operation: Unary, seed: int) -> None:
    f, x = operation.function, sample(seed=seed)
    if operation.even:
        torch.testing.assert_close(f(-x), f(x))
    if operation.absolute:
        torch.testing.assert_close(f(x.abs()), f(x))
    if operation.ignores_scale:
        torch.testing.assert_close(f(7 * x - 2), f(x))
    if operation.ignores_shift:
        torch.testing.assert_close(f(x + torch.arange(5.0, dtype=torch.float64)), f(x))
    if operation.shifts:
        shift = f(x) - x
        torch.testing.assert_close(shift, shift[:1].expand_as(shift))
    if operation.rescales:
        y, places = f(x).flatten(), x.flatten()
        slope = (y[1] - y[0]) / (places[1] - places[0])
        assert slope > 0
        torch.testing.assert_close(y, y[0] + slope * (places - places[0]))
    if operation.centred:
        assert abs(float(f(x).sum())) < 1e-9


RULES = [(operation, name) for operation in UNARY for name in (*operation.after, *operation.same_on)]


@pytest.mark.parametrize(("operation", "other"), RULES, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("seed", range(3))
def test_what_an_operation_is_equal_to_is_what_it_computes(operation: Unary, other: str, seed: int) -> None:
    if other in operation.after:
        rewrite = operation.after[other]
        x = sample(rewrite.given, seed)
        torch.testing.assert_close(chained((other, operation.name), x), chained(rewrite.chain, x), rtol=1e-6, atol=1e-6)
    if other in operation.same_on:
        x = sample(operation.same_on[other], seed)
        torch.testing.assert_close(operation.function(x), chained((other,), x))


HARD = [0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 1e30, -1e30, 3e38, -3e38, 1e-45, 80.0, 81.0, 89.0, -104.0, 1e-9, 0.1, 2.5]
TENSORS = [
    torch.tensor(HARD),
    *(torch.full((4, 3), value) for value in (0.1, -1e30, 0.0)), torch.tensor([[1.0, 1.0], [1.0, 1.0 + 2**-23]]),
    *(torch.tensor(random.Random(seed).choices(HARD, k=12)).reshape(4, 3) for seed in range(40)),
    *(
        size * torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
        for seed in range(8) for size in (1, 1e-20, 1e20)
    ),
]  # fmt: skip


def hard(within: Interval = REAL) -> Iterator[Tensor]:
    """Tensors that operations fail on, with entries in an interval, in both precisions, as matrices and scalars."""
    for tensor, dtype in product(TENSORS, (torch.float32, torch.float64)):
        x = tensor.to(dtype)
        x = torch.where(x < within.low, -x, x) if within.low == 0 else torch.where(x > within.high, -x, x)
        yield x.reshape(1, -1) if x.dim() < 2 else x
        yield from x.reshape(-1)[:6]


def assert_same(found: Tensor, expected: Tensor, what: str) -> None:
    """Every bit is the same, except that -0 is 0."""
    assert torch.equal(found.nan_to_num(nan=7.25), expected.nan_to_num(nan=7.25)), what
    assert torch.equal(found.isnan(), expected.isnan()), what


@every
def test_what_is_declared_holds_bit_for_bit_for_hard_numbers(operation: Unary) -> None:
    f = operation.function
    for x in hard():
        if operation.even:
            assert_same(f(-x), f(x), "even")
        if operation.absolute:
            assert_same(f(x.abs()), f(x), "absolute")
        for other, rewrite in operation.after.items():
            assert rewrite.exact
            if rewrite.given == REAL:
                assert_same(chained((other, operation.name), x), chained(rewrite.chain, x), other)
        if x.dim() == 0 and isinstance(operation.on_scalar, tuple):
            assert_same(f(x), chained(operation.on_scalar, x), "on a scalar")
        if x.dim() == 0 and isinstance(operation.on_scalar, float) and x.isfinite():
            assert float(f(x)) == operation.on_scalar
    for other, interval in operation.same_on.items():
        for x in hard(interval):
            assert_same(f(x), chained((other,), x), other)
    claims = (operation.rescales, operation.ignores_scale, operation.shifts, operation.ignores_shift)
    assert not any(claims)  # rounding breaks them all


STATISTICS = {"W": REAL, "S": Interval(0.0, 1.0)}
CHAINS = [
    c for length in (1, 2, 3) for c in product([n for n in BY_NAME if n not in ("no_op", "disconnect")], repeat=length)
]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_canonical_chain_has_the_bits_of_the_chain(statistic: str) -> None:
    shorter = [(c, short) for c in CHAINS if (short := canonical_chain(statistic, c)) != c]
    assert len(shorter) > 500
    xs = [x for x in hard() if x.dim() == 2][::7]
    if statistic == "S":
        xs = [torch.softmax(x, 1) for x in xs if x.isfinite().all()]
    for chain, short in random.Random(0).sample(shorter, 500):
        for x in xs[::5]:
            assert_same(chained(chain, x), chained(short, x), f"{chain} {short}")


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_known_constant_is_the_value_that_is_computed(statistic: str) -> None:
    known = [c for c in CHAINS if facts(statistic, c).interval == (0.0, 0.0)]
    assert len(known) > 50
    xs = [x for x in hard() if x.dim() == 2 and x.isfinite().all()][::5]
    if statistic == "S":
        xs = [torch.softmax(x, 1) for x in xs]
    for chain in known:
        for x in xs[::3]:
            y = chained(chain, x)
            assert not bool((y[y.isfinite()] != 0).any()), chain


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("value", [0.1, -0.1, 1 / 3, 1e-30, 1e30, -7e-4, 123456.789, 0.0])
@pytest.mark.parametrize("shape", [(7, 3), (1, 1), (), (768, 331)])
def test_a_constant_tensor_has_no_deviation(dtype: torch.dtype, value: float, shape: tuple[int, ...]) -> None:
    constant = torch.full(shape, value, dtype=dtype)
    nearly = constant * (1 + torch.finfo(dtype).eps * (torch.arange(constant.numel()).reshape(shape) % 2)).to(dtype)
    for x in (constant, nearly):
        assert not bool(BY_NAME["normalize"].function(x).any())
        assert float(BY_NAME["to_std_scalar"].function(x)) == 0
        if x is constant:
            assert not bool(BY_NAME["min_max_normalize"].function(x).any())
    if constant.numel() > 1 and value and dtype is not torch.bfloat16:
        other = constant.clone()
        other.view(-1)[0] *= 1.001
        assert bool(BY_NAME["normalize"].function(other).any()) or abs(value) in (1e-30, 1e30)


def test_changed_operations_have_another_version() -> None:
    assert {name for name, operation in BY_NAME.items() if operation.version != "1"} == {"normalize", "to_std_scalar"}


@every
def test_an_operation_does_not_see_what_it_does_not_act_on(operation: Unary) -> None:
    acts = operation.acts_on
    if acts == REAL:
        return
    negative = -sample(Interval(0.0, math.inf))
    assert operation.function(negative).unique().numel() == 1


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("log", [-1.0, 0.0, math.e], [0.0, 0.0, 1.0]),
        ("abslog", [-math.e, 0.0, math.e], [1.0, 0.0, 1.0]),
        ("sqrt", [-4.0, 0.0, 4.0], [0.0, 0.0, 2.0]),
        ("exp", [0.0, 80.0, 1e9], [1.0, math.exp(80), math.exp(80)]),
        ("invert", [0.0, 1.0, -1.0], [1e9, 1 / (1 + 1e-9), -1 / (1 + 1e-9)]),
        ("invert", [-1e-9, 1e-9, -3e-9], [-5e8, 5e8, -2.5e8]),
        ("normalize", [5.0, 5.0, 5.0], [0.0, 0.0, 0.0]),
        ("min_max_normalize", [5.0, 5.0, 5.0], [0.0, 0.0, 0.0]),
        ("min_max_normalize", [1.0, 2.0, 5.0], [0.0, 0.25, 1.0]),
    ],
)
def test_what_has_no_value_in_analysis_has_one_here(name: str, values: list[float], expected: list[float]) -> None:
    found = BY_NAME[name].function(torch.tensor([values], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float64))


@pytest.mark.parametrize("name", ["", "Cube", "two words", "1st"])
def test_a_name_that_no_expression_can_spell_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        Unary(name, torch.abs, "|x|")
