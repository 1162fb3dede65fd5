"""Makes a proxy of any expression; it is scored in the pass that all proxies of captured statistics share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lpzero_hf.capture.spec import Reduced, Reduction
from lpzero_hf.errors import UsageError
from lpzero_hf.expressions.canonical import canonical_chain
from lpzero_hf.expressions.expression import BUILT_IN, EVERY_STATISTIC, VERSION, Chain, Expression, Operations, parse
from lpzero_hf.expressions.operations import Unary, installed_operations
from lpzero_hf.expressions.rounding import checked, disturbed, steady
from lpzero_hf.expressions.tables import Wanted, gather, pair_of
from lpzero_hf.proxies.base import Orientation, StatisticProxy

if TYPE_CHECKING:
    from lpzero_hf.models.layout import ModelLayout


@dataclass(frozen=True, kw_only=True)
class ExpressionProxy(StatisticProxy):
    """The proxy of an expression; see `expression_proxy`.

    Args:
        expression: that it computes.
        tables: what it captures, see `tables_for`.
    """

    expression: Expression
    tables: tuple[Wanted, ...] = field(compare=False)

    def finish(self, reduced: Sequence[Sequence[Reduced]], layout: ModelLayout) -> float:
        """The score, from a table of only this expression's branches."""
        return scores_of([self.expression], self.tables, reduced)[0]

    def parts(self) -> Mapping[str, object]:
        """The expression, and the operations in it that are not built in."""
        return {"expression": str(self.expression), "operations": foreign([self.expression], self.tables[0].operations)}

    def __reduce__(self) -> tuple[Callable[..., ExpressionProxy], tuple[object, ...]]:
        """In another process, the operations are looked up anew."""
        return _unpickled, (str(self.expression), self.name, self.orientation)


def expression_proxy(
    expression: Expression, *, name: str = "", orientation: Orientation = 1, operations: Operations = BUILT_IN
) -> ExpressionProxy:
    """The proxy of `expression`.

    Args:
        expression: any with at least one branch that is not dropped.
        name: of the proxy; by default the text of the expression.
        orientation: 1 if higher is better, -1 if lower is better.
        operations: by name.

    Raises:
        UsageError: both branches are dropped.
    """
    tables = tables_for([expression], operations)
    if not tables[0].chains:
        raise UsageError(f"'{expression}' drops both branches, so it has no score; keep at least one")
    return ExpressionProxy(
        name=name or str(expression),
        formula=str(expression),
        orientation=orientation,
        version="-".join([VERSION, expression.digest, *_changed(expression, operations)]),
        reductions=reductions_of(tables),
        expression=expression,
        tables=tables,
    )


def tables_for(expressions: Sequence[Expression], operations: Operations) -> tuple[Wanted, ...]:
    """What to capture: the branches of all; of those in which rounding may show, on disturbed tensors as well."""
    unsteady = [expression for expression in expressions if not steady(expression, operations)]
    again = (replace(wanted_by(unsteady, operations), disturb=disturbed),) if unsteady else ()
    return wanted_by(expressions, operations), *again


def reductions_of(tables: Sequence[Wanted]) -> tuple[Reduction, ...]:
    """The reductions of several tables."""
    return tuple(reduction for wanted in tables for reduction in wanted.reductions.values())


def scores_of(
    expressions: Sequence[Expression], tables: Sequence[Wanted], reduced: Sequence[Sequence[Reduced]]
) -> list[float]:
    """The scores of one model under the expressions of a proxy, from the values of `reductions_of(tables)`.

    Raises:
        InvalidScore: a score hangs on rounding.
    """
    from lpzero_hf.expressions.stacked import Stack

    values = iter(reduced)
    stacks = [Stack([gather(wanted, dict(zip(wanted.reductions, values, strict=False)))], wanted) for wanted in tables]
    scores = [float(stacks[0].score(expression)) for expression in expressions]
    return [
        score if steady(expression, tables[0].operations) else checked(score, float(stacks[1].score(expression)))
        for expression, score in zip(expressions, scores, strict=True)
    ]


def _unpickled(text: str, name: str, orientation: Orientation) -> ExpressionProxy:
    operations = installed_operations()
    return expression_proxy(parse(text, operations), name=name, orientation=orientation, operations=operations)


def wanted_by(expressions: Sequence[Expression], operations: Operations = BUILT_IN) -> Wanted:
    """The required content of tables for scoring these expressions."""
    chains: dict[str, set[Chain]] = {}
    pairs = set()
    for expression in expressions:
        kept = [branch for branch in expression.branches if not branch.dropped]
        for branch in kept:
            chain = canonical_chain(branch.statistic, branch.chain, operations)
            chains.setdefault(branch.statistic, set()).add(chain)
        if len(kept) == 2 and expression.together and expression.op in ("product", "matmul"):
            pairs.add(pair_of(expression.left.statistic, expression.right.statistic))
    ordered = {name: tuple(sorted(chains[name])) for name in EVERY_STATISTIC if name in chains}
    return Wanted(ordered, tuple(sorted(pairs)), operations)


def foreign(expressions: Sequence[Expression], operations: Operations) -> dict[str, Unary]:
    """The operations that expressions use and that are not the built-in ones of these names."""
    used = sorted({name for e in expressions for branch in e.branches for name in branch.chain})
    return {name: operations[name] for name in used if operations[name] is not BUILT_IN.get(name)}


def _changed(expression: Expression, operations: Operations) -> list[str]:
    """The versions of the operations whose results have changed since their first version."""
    used = sorted({name for branch in expression.branches for name in branch.chain})
    return [f"{name}@{operations[name].version}" for name in used if operations[name].version != "1"]
