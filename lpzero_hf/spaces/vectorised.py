"""Computes a formula for all combinations of values at once, with the same results as one by one.

Every part is an array of values and an array of the places where it is undefined, so that `and`, `or` and `if` read
only what Python would read. What numpy would compute otherwise than Python (large integers, texts, lists) is not.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lpzero_hf.spaces.arithmetic import LARGEST, WORDS, Formula, Undefined, dotted

Array = npt.NDArray[Any]
EXACT = 2**53  # integers that floats hold
WIDEST = 2**62  # integers that int64 holds with room
ONE_BY_ONE = 100_000  # combinations that are computed in turn
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
}  # fmt: skip


class NotVectorised(Exception):
    """A formula, or a number of combinations, that is not computed at once."""


@dataclass(frozen=True)
class Column:
    """The values of a field or an expression for all combinations.

    Args:
        values: of type bool, int64, float64 or object; its shape broadcasts to that of the combinations.
        undefined: where there is no value.
    """

    values: Array
    undefined: Array


def column(values: Sequence[Any]) -> Column:
    """The column of a field with these values, in one dimension."""
    kinds = {type(value) for value in values}
    dtype: Any = object
    if kinds == {bool}:
        dtype = np.bool_
    elif kinds == {int} and all(abs(value) < WIDEST for value in values):
        dtype = np.int64
    elif kinds <= {int, float} and all(abs(value) < EXACT for value in values if isinstance(value, int)):
        dtype = np.float64
    array = np.empty(len(values), dtype)
    for place, value in enumerate(values):
        array[place] = value
    return Column(array, np.zeros(len(values), np.bool_))


def satisfied(
    rule: Formula, derived: Mapping[str, Formula], values: Mapping[str, Sequence[Any]], fixed: Mapping[str, Any]
) -> Array:
    """Where a formula holds; a combination for which it is undefined does not satisfy it.

    Args:
        rule: over the fields.
        derived: the fields that are computed, in an order in which each reads only those before it.
        values: of the fields that vary.
        fixed: the other fields.

    Returns:
        A boolean array with one dimension for each field that varies, in their order.

    Raises:
        NotVectorised: there are too many combinations to compute them one by one, and not all at once either.
        FormulaError: it computes with values of the wrong kind.
    """
    shape = tuple(len(of) for of in values.values())
    try:
        known = {name: _constant(value) for name, value in fixed.items()}
        for place, (name, of) in enumerate(values.items()):
            one, around = column(of), [1] * len(shape)
            around[place] = len(of)
            known[name] = Column(one.values.reshape(around), one.undefined.reshape(around))
        for name, formula in derived.items():
            known[name] = _of(formula.tree, known)
        found = _of(rule.tree, known)
        return np.array(np.broadcast_to(_truth(found.values) & ~found.undefined, shape))
    except NotVectorised:
        if np.prod(shape, dtype=object) > ONE_BY_ONE:
            raise
    holds = []
    for combination in itertools.product(*values.values()):
        fields = {**fixed, **dict(zip(values, combination, strict=True))}
        try:
            for name, formula in derived.items():
                fields[name] = formula(fields)
            holds.append(bool(rule(fields)))
        except Undefined:
            holds.append(False)
    return np.array(holds, np.bool_).reshape(shape)


def _constant(value: Any) -> Column:
    one = column([value])
    return Column(one.values[0:1].reshape(()), np.zeros((), np.bool_))


def _of(node: ast.expr, known: Mapping[str, Column]) -> Column:
    match node:
        case ast.Constant(value=value):
            return _constant(value)
        case ast.Name() | ast.Attribute():
            name = dotted(node) or ""
            return _constant(WORDS[name]) if name in WORDS else known[name]
        case ast.BoolOp(op=op, values=values):
            return _junction(isinstance(op, ast.Or), [_of(inner, known) for inner in values])
        case ast.IfExp(test=test, body=body, orelse=other):
            condition = _of(test, known)
            chosen = _either(_truth(condition.values), _of(body, known), _of(other, known))
            return Column(chosen.values, chosen.undefined | condition.undefined)
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [left, *others]
            parts = [_compared(op, a, b, known) for op, a, b in zip(ops, sides, sides[1:], strict=False)]
            return _junction(False, parts)
        case ast.BinOp(left=left, op=op, right=right):
            return _binary(op, _numbers(_of(left, known)), _numbers(_of(right, known)))
        case ast.UnaryOp(op=op, operand=operand):
            one = _of(operand, known)
            if isinstance(op, ast.Not):
                return Column(~_truth(one.values), one.undefined)
            one = _numbers(one)
            return Column(-one.values if isinstance(op, ast.USub) else one.values, one.undefined)
        case ast.Call(func=function, args=arguments):
            items = arguments[0].elts if len(arguments) == 1 and isinstance(arguments[0], ast.List) else arguments
            if dotted(function) in ("min", "max", "sum") and items is arguments and len(arguments) == 1:
                raise NotVectorised  # of a field that is a list
            return _called(dotted(function) or "", [_numbers(_of(item, known)) for item in items])
    raise NotVectorised


def _truth(values: Array) -> Array:
    if values.dtype == object:
        return np.asarray(np.frompyfunc(bool, 1, 1)(values)).astype(np.bool_)
    return values.astype(np.bool_)


def _numbers(of: Column) -> Column:
    if of.values.dtype == object:
        raise NotVectorised
    return Column(of.values.astype(np.int64), of.undefined) if of.values.dtype == np.bool_ else of


def _bound(values: Array) -> int | float:
    return 0 if values.size == 0 else max(abs(values.max().item()), abs(values.min().item()))


def _alike(*columns: Column) -> list[Array]:
    """The values of columns in one type that holds all of them exactly."""
    kinds = {of.values.dtype for of in columns}
    if len(kinds) == 1:
        return [of.values for of in columns]
    if np.dtype(object) in kinds:
        return [of.values.astype(object) for of in columns]
    if np.dtype(np.float64) in kinds:
        if any(_bound(of.values) >= EXACT for of in columns if of.values.dtype == np.int64):
            raise NotVectorised
        return [of.values.astype(np.float64) for of in columns]
    return [of.values.astype(np.int64) for of in columns]


def _either(condition: Array, one: Column, other: Column) -> Column:
    a, b = _alike(one, other)
    return Column(np.where(condition, a, b), np.where(condition, one.undefined, other.undefined))


def _junction(any_of: bool, parts: Iterable[Column]) -> Column:
    """`or`, or `and`, of columns: the first that decides, else the last; those after it are not read."""
    found, *rest = reversed(list(parts))
    for before in rest:
        decides = _truth(before.values) == any_of
        chosen = _either(decides | before.undefined, before, found)
        found = Column(chosen.values, chosen.undefined)
    return found


def _compared(op: ast.cmpop, left: ast.expr, right: ast.expr, known: Mapping[str, Column]) -> Column:
    if isinstance(op, ast.In | ast.NotIn):
        if not isinstance(right, ast.List | ast.Tuple):
            raise NotVectorised
        item, members = _of(left, known), [_of(one, known) for one in right.elts]
        undefined = item.undefined
        found = np.zeros(item.values.shape, np.bool_)
        for member in members:
            undefined = undefined | member.undefined
            found = found | _equal(item, member)
        return Column(found if isinstance(op, ast.In) else ~found, undefined)
    a, b = _of(left, known), _of(right, known)
    undefined = a.undefined | b.undefined
    if isinstance(op, ast.Eq | ast.NotEq):
        equal = _equal(a, b)
        return Column(equal if isinstance(op, ast.Eq) else ~equal, undefined)
    if isinstance(op, ast.Is | ast.IsNot):
        if not (isinstance(right, ast.Constant | ast.Name) and b.values.ndim == 0 and b.values.item() is None):
            raise NotVectorised
        same = np.asarray(np.frompyfunc(lambda value: value is None, 1, 1)(a.values.astype(object))).astype(np.bool_)
        return Column(same if isinstance(op, ast.Is) else ~same, undefined)
    x, y = _alike(_numbers(a), _numbers(b))
    return Column(COMPARISONS[type(op)](x, y), undefined)


def _equal(a: Column, b: Column) -> Array:
    x, y = _alike(a, b)
    if x.dtype == object:
        return np.asarray(np.frompyfunc(lambda one, other: one == other, 2, 1)(x, y)).astype(np.bool_)
    return np.asarray(x == y)


def _binary(op: ast.operator, a: Column, b: Column) -> Column:
    undefined = a.undefined | b.undefined
    if isinstance(op, ast.Div):
        if any(_bound(of.values) >= EXACT for of in (a, b) if of.values.dtype == np.int64):
            raise NotVectorised
        x, y = a.values.astype(np.float64), b.values.astype(np.float64)
    else:
        x, y = _alike(a, b)
    whole = x.dtype == np.int64
    if isinstance(op, ast.Div | ast.FloorDiv | ast.Mod):
        undefined, y = undefined | (y == 0), np.where(y == 0, 1, y)
    if whole and isinstance(op, ast.Add | ast.Sub) and _bound(x) + _bound(y) >= WIDEST:
        raise NotVectorised
    if whole and isinstance(op, ast.Mult) and _bound(x) * _bound(y) >= WIDEST:
        raise NotVectorised
    if isinstance(op, ast.Pow):
        negative = y.size > 0 and y.min() < 0
        if not whole or negative or _bound(y) > 200 or _bound(x) ** _bound(y) >= WIDEST:
            raise NotVectorised
    function: Any = {
        ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.true_divide,
        ast.FloorDiv: np.floor_divide, ast.Mod: np.mod, ast.Pow: np.power,
    }[type(op)]  # fmt: skip
    with np.errstate(all="ignore"):
        return _finite(Column(function(x, y), undefined))


def _finite(of: Column) -> Column:
    if of.values.dtype != np.float64:
        return of
    return Column(of.values, of.undefined | ~(np.abs(of.values) <= LARGEST))


def _called(name: str, arguments: list[Column]) -> Column:
    if not arguments:
        raise NotVectorised
    undefined = arguments[0].undefined
    for one in arguments[1:]:
        undefined = undefined | one.undefined
    first = arguments[0].values
    if name in ("min", "max"):
        result = (values := _alike(*arguments))[0]
        for other in values[1:]:
            result = np.minimum(result, other) if name == "min" else np.maximum(result, other)
        return Column(result, undefined)
    if name == "sum":
        total = arguments[0]
        for further in arguments[1:]:
            total = _binary(ast.Add(), total, further)
        return total
    if len(arguments) > 1 or name == "len":
        raise NotVectorised
    if name == "abs":
        return Column(np.abs(first), undefined)
    if name == "float":
        if first.dtype == np.int64 and _bound(first) >= EXACT:
            raise NotVectorised
        return Column(first.astype(np.float64), undefined)
    if first.dtype == np.int64:  # `int` and `round` of an integer
        return arguments[0]
    defined = np.where(undefined, 0.0, first)
    if _bound(defined) >= EXACT:
        raise NotVectorised
    return Column((np.trunc(defined) if name == "int" else np.rint(defined)).astype(np.int64), undefined)
