"""The operations of expressions, as data: the function of each, and known properties of its results.

Every unary operation is total: it maps any real tensor to real numbers, except for overflow. Its argument is a
statistic as a matrix [rows, columns] (see `lpzero_hf.expressions.expression`), or the scalar result of an earlier
operation. Canonical forms and pruning are derived from the known properties (domain, range, algebra). A property is
declared only if it holds bit for bit in floating point, at 0, for negative and for huge numbers: the logarithm of an
exponential is not x where the exponential is at its limit. Only that centred entries sum to 0 holds but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lpzero_hf.errors import PluginError
from lpzero_hf.models.later import torch
from lpzero_hf.plugins import PluginRegistry, instance_of, load_plugins

if TYPE_CHECKING:
    from torch import Tensor

EXP_LIMIT = 80.0  # exp of more would overflow in single precision
EPSILON = 1e-9
ROUNDING = 4  # units in the last place by which the results of one operation on equal numbers may differ


class Interval(NamedTuple):
    """All entries of a tensor lie in [low, high].

    Args:
        low: may be -infinity.
        high: may be infinity.
    """

    low: float = -math.inf
    high: float = math.inf

    def within(self, other: Interval) -> bool:
        """Whether every number of this interval lies in the other."""
        return self.low >= other.low and self.high <= other.high


REAL, NOT_NEGATIVE = Interval(), Interval(0.0, math.inf)


class Rewrite(NamedTuple):
    """The chain that two operations in a row are equal to.

    Args:
        chain: names of operations in the order they are applied; none for the identity.
        given: the interval in which the argument of the first must lie.
        exact: whether they are equal bit for bit, whatever the numbers; one that is not is never applied.
    """

    chain: tuple[str, ...]
    given: Interval = REAL
    exact: bool = True


@dataclass(frozen=True)
class Unary:
    """An operation on one tensor.

    Args:
        name: in the text of an expression.
        function: maps a tensor [rows, columns], or a scalar [], to one of its shape, or to a scalar if `scalar`.
            It must not write into its argument.
        formula: one line for people.
        range: maps the interval of the entries to that of the results; by default nothing is known.
        scalar: whether it reduces a matrix to a scalar.
        acts_on: entries outside this interval do not influence the result, so that a tensor with no entry inside
            it gives a constant (for a logarithm [0, inf]: it maps entries that are not positive to 0).
        same_on: by the name of another operation, the interval on which the two are equal.
        even: f(-x) = f(x).
        absolute: f(|x|) = f(x).
        rescales: f(x) = a x + b with a > 0 and b that depend on the whole tensor.
        ignores_scale: f(a x + b) = f(x) for a > 0.
        shifts: f(x) = x + b with b that depends on the column.
        ignores_shift: f(x + b) = f(x).
        on_scalar: what it is equal to on a scalar: names of other operations (none: the identity), a number if
            the result is the same for every scalar, or None for the function itself.
        centred: whether the entries of the result sum to 0.
        after: by the name of an operation p, what f after p is equal to.
        version: changed by the author whenever its results change, so that cached tables are made again.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    formula: str
    range: Callable[[Interval], Interval] = lambda interval: REAL
    scalar: bool = False
    acts_on: Interval = REAL
    same_on: Mapping[str, Interval] = field(default_factory=dict, hash=False, compare=False)
    even: bool = False
    absolute: bool = False
    rescales: bool = False
    ignores_scale: bool = False
    shifts: bool = False
    ignores_shift: bool = False
    on_scalar: tuple[str, ...] | float | None = None
    centred: bool = False
    after: Mapping[str, Rewrite] = field(default_factory=dict, hash=False, compare=False)
    version: str = "1"

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise ValueError(f"an operation's name is a lower-case identifier, got '{self.name}'")

    def __call__(self, x: Tensor) -> Tensor:
        """The result on one tensor, [rows, columns] or [], if it is what the operation promises.

        Raises:
            PluginError: it is no tensor of real numbers of the promised shape.
        """
        result = self.function(x)
        shape = () if self.scalar else tuple(x.shape)
        if not isinstance(result, torch.Tensor) or not result.is_floating_point() or tuple(result.shape) != shape:
            kind = getattr(result, "dtype", type(result).__name__)
            made = f"{tuple(result.shape)} of {kind}" if isinstance(result, torch.Tensor) else kind
            raise PluginError(
                f"operation '{self.name}' gives {made} for a tensor {tuple(x.shape)}, where it must give real numbers "
                f"{shape}; correct its function, or declare it with scalar={not self.scalar}"
            )
        return result


# The functions ---------------------------------------------------------------------------------------------


def _log(x: Tensor) -> Tensor:
    return torch.where(x <= 0, 1.0, x).log_()  # what is not a number stays so


def _abslog(x: Tensor) -> Tensor:
    return torch.where(x == 0, 1.0, x).abs_().log_()


def _exp(x: Tensor) -> Tensor:
    return x.clamp(max=EXP_LIMIT).exp_()


def _centred(x: Tensor) -> Tensor:
    """x less its mean; 0 where all entries are equal, or differ by no more than the rounding of one operation."""
    low, high = torch.aminmax(x)
    size = torch.maximum(low.abs(), high.abs())
    constant = (high - low <= ROUNDING * torch.finfo(x.dtype).eps * size) & torch.isfinite(size)
    return torch.where(constant, 0.0, x - x.mean())


def _normalize(x: Tensor) -> Tensor:
    centred = _centred(x)
    deviation = centred.square().mean().sqrt()
    return torch.where(deviation == 0, 0.0, centred / torch.where(deviation == math.inf, math.nan, deviation))


def _invert(x: Tensor) -> Tensor:
    return (x + torch.where(x < 0, -EPSILON, EPSILON)).reciprocal_()


def _min_max(x: Tensor) -> Tensor:
    low, high = torch.aminmax(x)
    return torch.where(high == low, 0.0, (x - low) / (high - low))


def _std(x: Tensor) -> Tensor:
    return _centred(x).square().mean().sqrt()


# What is known of their results ----------------------------------------------------------------------------


def _safe_log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _safe_exp(x: float) -> float:
    return math.exp(min(x, EXP_LIMIT))


def _log_range(x: Interval) -> Interval:
    if x.low > 0:
        return Interval(_safe_log(x.low), _safe_log(x.high) if x.high < math.inf else math.inf)
    if x.high <= 0:
        return Interval(0.0, 0.0)
    return Interval(-math.inf, max(0.0, math.log(x.high) if x.high < math.inf else math.inf))


def _abs_range(x: Interval) -> Interval:
    low = 0.0 if x.low <= 0 <= x.high else min(abs(x.low), abs(x.high))
    return Interval(low, max(abs(x.low), abs(x.high)))


def _abslog_range(x: Interval) -> Interval:
    return _log_range(_abs_range(x))


def _square_range(x: Interval) -> Interval:
    low, high = _abs_range(x)
    return Interval(low * low, high * high)


def _root(x: float) -> float:
    return math.sqrt(max(x, 0.0))


def _invert_range(x: Interval) -> Interval:
    if x.low >= 0:
        return Interval(0.0, math.inf)
    if x.high < 0:  # that of 0 is positive
        return Interval(-math.inf, 0.0)
    return REAL


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _to(low: float, high: float) -> Callable[[Interval], Interval]:
    return lambda x: Interval(low, high)


def _same(x: Interval) -> Interval:
    return x


UNARY: tuple[Unary, ...] = (
    Unary(
        "log",
        _log,
        "log x, 0 where x is not positive",
        _log_range,
        acts_on=NOT_NEGATIVE,
    ),
    Unary(
        "abslog",
        _abslog,
        "log |x|, 0 where x is 0",
        _abslog_range,
        even=True,
        absolute=True,
        same_on={"log": NOT_NEGATIVE},
    ),
    Unary("abs", lambda x: torch.abs(x), "|x|", _abs_range, even=True, absolute=True, same_on={"no_op": NOT_NEGATIVE}),
    Unary(
        "pow",
        lambda x: torch.square(x),
        "x^2",
        _square_range,
        even=True,
        absolute=True,
    ),
    Unary(
        "exp",
        _exp,
        "e^x, with x at most 80",
        lambda x: Interval(_safe_exp(x.low), _safe_exp(x.high)),
    ),
    Unary(
        "normalize",
        _normalize,
        "(x - mean) / standard deviation, 0 where all are equal",
        centred=True,
        on_scalar=0.0,
        version="2",
    ),
    Unary(
        "relu",
        lambda x: torch.relu(x),
        "max(x, 0)",
        lambda x: Interval(max(x.low, 0.0), max(x.high, 0.0)),
        acts_on=NOT_NEGATIVE,
        same_on={"no_op": NOT_NEGATIVE},
    ),
    Unary(
        "invert",
        _invert,
        "1 / (x + 1e-9), with x - 1e-9 where x < 0",
        _invert_range,
    ),
    Unary(
        "frobenius_norm",
        lambda x: x.square().sum().sqrt(),
        "(sum x^2)^(1/2)",
        lambda x: NOT_NEGATIVE,
        scalar=True,
        even=True,
        absolute=True,
    ),
    Unary(
        "normalized_sum",
        lambda x: torch.mean(x),
        "sum x / number",
        _same,
        scalar=True,
        same_on={"to_mean_scalar": REAL},
        on_scalar=(),
    ),
    Unary(
        "l1_norm",
        lambda x: x.abs().mean(),
        "mean |x|",
        _abs_range,
        scalar=True,
        same_on={"to_mean_scalar": NOT_NEGATIVE},
        even=True,
        absolute=True,
        on_scalar=("abs",),
    ),
    Unary(
        "softmax",
        lambda x: torch.softmax(x, 0),
        "softmax of each column",
        _to(0.0, 1.0),
        on_scalar=1.0,
    ),
    Unary(
        "sigmoid", lambda x: torch.sigmoid(x), "1 / (1 + e^-x)", lambda x: Interval(_sigmoid(x.low), _sigmoid(x.high))
    ),
    Unary(
        "logsoftmax",
        lambda x: torch.log_softmax(x, 0),
        "log softmax of each column",
        _to(-math.inf, 0.0),
        on_scalar=0.0,
    ),
    Unary(
        "sqrt",
        lambda x: x.clamp(min=0).sqrt_(),
        "x^(1/2), 0 where x is negative",
        lambda x: Interval(_root(x.low), _root(x.high)),
        acts_on=NOT_NEGATIVE,
    ),
    Unary("revert", lambda x: torch.neg(x), "-x", lambda x: Interval(-x.high, -x.low), after={"revert": Rewrite(())}),
    Unary(
        "min_max_normalize",
        _min_max,
        "(x - min) / (max - min), 0 where all are equal",
        _to(0.0, 1.0),
        on_scalar=0.0,
    ),
    Unary(
        "to_mean_scalar",
        lambda x: torch.mean(x),
        "mean of x",
        _same,
        scalar=True,
        on_scalar=(),
        after={"abs": Rewrite(("l1_norm",))},
    ),
    Unary(
        "to_std_scalar",
        _std,
        "standard deviation of x",
        lambda x: NOT_NEGATIVE,
        scalar=True,
        even=True,
        on_scalar=0.0,
        version="2",
    ),
    Unary("no_op", lambda x: x, "x", _same),
    Unary("disconnect", lambda x: x, "drops the branch"),
)

BINARY: dict[str, str] = {
    "sum": "x + y",
    "difference": "x - y",
    "product": "x * y, element by element",
    "matmul": "x @ y^T; with a scalar, the product",
}


def applied(operation: Unary, x: Tensor) -> Tensor:
    """The checked result of an operation on a tensor that others will read.

    Raises:
        PluginError: it is not what the operation promises, or the operation has written into its argument.
    """
    version = x._version
    result = operation(x)
    if x._version != version:
        raise PluginError(f"operation '{operation.name}' writes into its argument; let its function work on a copy")
    return result


def installed_operations(plugins: PluginRegistry | None = None) -> dict[str, Unary]:
    """Every offered unary operation by name. Raises `PluginError` if two distributions claim one name."""
    offers = (load_plugins() if plugins is None else plugins).offers("lpz_operations", "operation", instance_of(Unary))
    return {name: claim.item for name, claim in offers.items()}
