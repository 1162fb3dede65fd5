"""Arithmetic over the fields of a configuration, read from text and computed without running any code.

The syntax is Python's for expressions; what is not listed here is refused. Everything is bounded: the length of the
text, the depth of the tree, the size of numbers, and the length of texts and lists.
"""

from __future__ import annotations

import ast
import copy
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lpzero_hf.errors import UsageError, did_you_mean

LONGEST = 2_000  # characters of an expression
DEEPEST = 40  # levels of its tree
LARGEST = 10**30  # of a number
MOST_ITEMS = 10_000  # of a list, and characters of a text
WORDS = {"true": True, "false": False, "null": None}  # as YAML and JSON write them
Number = int | float


class Undefined(Exception):
    """An expression has no value here: a division by zero, a number without bounds, a place outside of a list."""


class FormulaError(UsageError):
    """An expression is wrong: its syntax, or the kinds of values that it computes with.

    Args:
        message: says where.
        text: of the expression.
    """

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text


def _power(base: Any, exponent: Any) -> Any:
    if abs(base) > 1 and abs(exponent) * math.log2(abs(base)) > 200:
        raise Undefined("a power is too large")
    if isinstance(exponent, int) and abs(exponent) > 10**6:
        raise Undefined("an exponent is too large")
    value = base**exponent
    if isinstance(value, complex):
        raise Undefined("a root of a negative number")
    return value


def _length(value: Any) -> int:
    if not isinstance(value, str | tuple):
        raise TypeError(f"{shown(value)} has no length")
    return len(value)


def _within(item: Any, container: Any) -> bool:
    if not isinstance(container, str | tuple):
        raise TypeError(f"'in' needs a list, not {shown(container)}")
    return item in container


def _numeric(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one number."""

    def checked(value: Any, *further: Any) -> Any:
        for one in (value, *further):
            if not isinstance(one, int | float):
                raise TypeError(f"{shown(one)} is no number")
        return function(value, *further)

    return checked


def _of_several(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of several numbers, or of one list of them."""

    def checked(*values: Any) -> Any:
        items = values[0] if len(values) == 1 and isinstance(values[0], tuple) else values
        for item in items:
            if not isinstance(item, int | float):
                raise TypeError(f"{shown(item)} is no number")
        if not items and function is not sum:
            raise Undefined("the list is empty")
        return function(items)

    return checked


BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: _within,
    ast.NotIn: lambda item, container: not _within(item, container),
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}
FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {  # with the most arguments that it takes
    "min": (_of_several(min), MOST_ITEMS),
    "max": (_of_several(max), MOST_ITEMS),
    "sum": (_of_several(sum), MOST_ITEMS),
    "abs": (_numeric(abs), 1),
    "round": (_numeric(round), 2),
    "int": (_numeric(int), 1),
    "float": (_numeric(float), 1),
    "len": (_length, 1),
}


@dataclass(frozen=True)
class Formula:
    """An expression over fields.

    Args:
        text: as it was written.

    Attributes:
        names: the fields that it reads, in order.

    Raises:
        FormulaError: it is no expression of the allowed kind; the message says where.

    Example:
        >>> from lpzero_hf.spaces.arithmetic import Formula
        >>> rule = Formula("hidden_size % (2 * num_attention_heads) == 0")
        >>> rule.names, rule({"hidden_size": 64, "num_attention_heads": 4})
        (('hidden_size', 'num_attention_heads'), True)
    """

    text: str
    tree: ast.expr = field(init=False, repr=False, compare=False)
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tree = _parsed(self.text)
        _check(tree, self.text, 1)
        object.__setattr__(self, "tree", tree)
        object.__setattr__(self, "names", tuple(dict.fromkeys(_names(tree))))

    def __call__(self, fields: Mapping[str, Any]) -> Any:
        """Its value.

        Args:
            fields: the values of at least its `names`; lists are tuples.

        Raises:
            Undefined: it has none here.
            FormulaError: it computes with values of the wrong kind.
        """
        return _value(self.tree, fields, self.text)

    def renamed(self, names: Mapping[str, str]) -> Formula:
        """The same expression with other names of fields; its text stays, for messages."""
        tree = _Renaming(names).visit(copy.deepcopy(self.tree))
        other = copy.copy(self)
        object.__setattr__(other, "tree", tree)
        object.__setattr__(other, "names", tuple(dict.fromkeys(_names(tree))))
        return other


class _Renaming(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr) and (name := dotted(node)) is not None:
            return ast.copy_location(ast.Name(self.names.get(name, name)), node)
        if isinstance(node, ast.Call):
            node.args = [self.visit(argument) for argument in node.args]
            return node
        return self.generic_visit(node)


def dotted(node: ast.expr) -> str | None:
    """The field that a name, or names with dots between them, mean; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)) is not None:
        return f"{before}.{node.attr}"
    return None


def shown(value: Any) -> str:
    """A value for people, in a few words."""
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parsed(text: str) -> ast.expr:
    if not isinstance(text, str) or not text.strip():
        raise FormulaError(f"{shown(text)} is no expression; write arithmetic such as '4 * hidden_size'")
    if len(text) > LONGEST:
        raise FormulaError(f"the expression has {len(text):,} characters, and at most {LONGEST:,} are read; shorten it")
    flat = re.sub(r"\s", " ", text.strip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(flat, mode="eval").body
    except SyntaxError as error:
        place = f" at character {error.offset}" if error.offset else ""
        raise FormulaError(f"'{_short(text)}' is no arithmetic{place}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(f"'{_short(text)}' is no arithmetic, or nested too deeply; shorten it") from error


def _check(node: ast.expr, text: str, depth: int) -> None:
    """Refuse whatever is not allowed."""
    if depth > DEEPEST:
        raise _wrong(node, text, f"the expression is nested more than {DEEPEST} deep; use derived fields")
    for inner in _parts(node, text):
        _check(inner, text, depth + 1)


def _parts(node: ast.expr, text: str) -> list[ast.expr]:
    """The operands of an expression, which is of an allowed kind itself."""
    match node:
        case ast.Constant(value=value):
            if not isinstance(value, bool | int | float | str | None) or _unbounded(value):
                raise _wrong(node, text, f"{shown(value)} is no number or text that can be used here")
            return []
        case ast.Name() | ast.Attribute():
            if (name := dotted(node)) is None:
                raise _wrong(node, text, "only the names of fields may have dots")
            if "__" in name:
                raise _wrong(node, text, f"'{name}' is no field of a configuration")
            return []
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            return [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in UNARY:
            return [operand]
        case ast.BoolOp(values=values):
            return values
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in COMPARE for op in ops):
            return [left, *others]
        case ast.IfExp(test=test, body=body, orelse=other):
            return [test, body, other]
        case ast.List(elts=items) | ast.Tuple(elts=items) if not any(isinstance(i, ast.Starred) for i in items):
            return items
        case ast.Subscript(value=value, slice=place) if not isinstance(place, ast.Slice):
            return [value, place]
        case ast.Call(func=function, args=arguments, keywords=[]):
            name = dotted(function) or ""
            if name not in FUNCTIONS:
                called = f"'{name}' is no function here" if name else "only functions by name are called"
                raise _wrong(node, text, f"{called}{did_you_mean(name, FUNCTIONS)} (there are {', '.join(FUNCTIONS)})")
            if not 1 <= len(arguments) <= FUNCTIONS[name][1] or any(isinstance(a, ast.Starred) for a in arguments):
                raise _wrong(node, text, f"'{name}' takes {'' if FUNCTIONS[name][1] == 1 else 'at least '}one argument")
            return arguments
    raise _wrong(node, text, "only arithmetic, comparisons and conditions over fields are computed")


def _names(node: ast.expr) -> Iterator[str]:
    name = dotted(node)
    if name is not None:
        if name not in WORDS:
            yield name
        return
    for inner in node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node):
        if isinstance(inner, ast.expr):
            yield from _names(inner)


def _value(node: ast.expr, fields: Mapping[str, Any], text: str) -> Any:
    def of(inner: ast.expr) -> Any:
        return _value(inner, fields, text)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            name = dotted(node) or ""
            return WORDS[name] if name in WORDS else fields[name]
        case ast.BoolOp(op=op, values=values):
            wanted, result = isinstance(op, ast.Or), None
            for inner in values:
                if bool(result := of(inner)) == wanted:
                    break
            return result
        case ast.IfExp(test=test, body=body, orelse=other):
            return of(body) if of(test) else of(other)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return tuple(of(item) for item in items)
        case ast.Compare(left=left, ops=ops, comparators=others):
            before = of(left)
            for comparison, right in zip(ops, others, strict=True):
                after = of(right)
                if not _computed(node, text, COMPARE[type(comparison)], before, after):
                    return False
                before = after
            return True
        case ast.BinOp(left=left, op=op, right=right):
            a, b = of(left), of(right)
            adding = isinstance(op, ast.Add) and type(a) is type(b)
            if not adding and not (isinstance(a, int | float) and isinstance(b, int | float)):
                raise _wrong(node, text, f"cannot compute with {shown(a)} and {shown(b)}")
            return _computed(node, text, BINARY[type(op)], a, b)
        case ast.UnaryOp(op=op, operand=operand):
            return _computed(node, text, UNARY[type(op)], of(operand))
        case ast.Subscript(value=value, slice=place):
            return _computed(node, text, operator.getitem, of(value), of(place))
        case ast.Call(func=function, args=arguments):
            return _computed(node, text, FUNCTIONS[dotted(function) or ""][0], *map(of, arguments))
    raise AssertionError(type(node))  # `_check` has refused it


def _computed(node: ast.expr, text: str, function: Callable[..., Any], *operands: Any) -> Any:
    try:
        value = function(*operands)
    except ZeroDivisionError as error:
        raise Undefined("a division by zero") from error
    except (OverflowError, IndexError) as error:
        raise Undefined(str(error)) from error
    except (TypeError, KeyError, ValueError) as error:
        words = ", ".join(map(shown, operands))
        raise _wrong(node, text, f"cannot compute with {words} ({error})") from error
    if _unbounded(value):
        raise Undefined("a value is too large")
    return value


def _unbounded(value: Any) -> bool:
    if isinstance(value, str | tuple):
        return len(value) > MOST_ITEMS
    return isinstance(value, int | float) and not -LARGEST <= value <= LARGEST  # NaN too


def _wrong(node: ast.expr, text: str, why: str) -> FormulaError:
    return FormulaError(f"'{_short(text)}', character {node.col_offset + 1}: {why}", text)


def _short(text: str) -> str:
    flat = re.sub(r"\s", " ", text.strip())
    return flat if len(flat) <= 80 else f"{flat[:77]}..."
