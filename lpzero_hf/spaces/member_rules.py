"""What the members of a space must satisfy: derived fields, constraints and numbers of layers, over the chosen fields.

A rule over fields that are chosen once becomes a relation between them, so that members are counted and drawn exactly.
One over fields that are chosen per layer, or over too many values, is checked of every member that is drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lpzero_hf.spaces.arithmetic import Formula, FormulaError, Undefined
from lpzero_hf.spaces.base import Value
from lpzero_hf.spaces.factor_graph import LARGEST, Factor, FactorGraph, TooLarge, cost, greedy_order
from lpzero_hf.spaces.field_choice import FieldChoice
from lpzero_hf.spaces.places import Path, SpaceProblem
from lpzero_hf.spaces.vectorised import NotVectorised, satisfied

MOST_COMBINATIONS = 10**6  # of values, of one rule
MOST_DEPTHS = 10**5  # combinations of values that a number of layers depends on
DEEPEST = 1_000  # layers
UNDEFINED = ("/", "%", "**", "[", "min", "max")  # what may have no value


@dataclass(frozen=True)
class Rule:
    """A condition that every member satisfies.

    Args:
        path: of its place in the description of the space.
        formula: over the paths of fields.
    """

    path: Path
    formula: Formula


class MemberRules:
    """The rules of a space, made ready for counting and drawing.

    Args:
        choices: the fields that are chosen.
        derived: the fields that are computed, with their formulas over paths of fields.
        constraints: conditions on the others.
        fixed: the fields of the base that these read.

    Attributes:
        scalars: the choices that are made once.
        layered: those made for every layer.
        graph: the members' scalar choices, weighted by the number of ways to choose the layers.
        further: the rules that are no relations of the graph.

    Raises:
        SpaceProblem: a rule cannot be computed, derived fields form a circle, or no member satisfies the rules.
    """

    def __init__(
        self,
        choices: Sequence[FieldChoice],
        derived: Mapping[str, Rule],
        constraints: Sequence[Rule],
        fixed: Mapping[str, Value],
    ) -> None:
        self.choices, self.fixed = tuple(choices), dict(fixed)
        self.scalars = [choice for choice in choices if not choice.per_layer]
        self.layered = [choice for choice in choices if choice.per_layer]
        self.derived = {field: derived[field] for field in _ordered(derived)}
        self._place = {choice.field: place for place, choice in enumerate(self.scalars)}
        self._layered_fields = {choice.field for choice in self.layered}
        defined = [
            Rule(rule.path, _is_itself(field))
            for field, rule in self.derived.items()
            if any(sign in rule.formula.text for sign in UNDEFINED)
        ]
        self.rules = [*defined, *constraints]
        self.further: list[Rule] = []
        self._relations: list[tuple[Rule, Factor]] = []
        for rule in self.rules:
            self._add(rule)
        self._deepest: dict[str, int] = {}
        self._weights = [self._weight(choice) for choice in self.layered]
        self.graph = self._joined()
        if self.graph.count() == 0:
            raise self._conflict()

    def complete(self, chosen: Mapping[str, Value]) -> dict[str, Value]:
        """The chosen fields with the derived ones. Raises `Undefined` if one of them has no value."""
        fields = {**self.fixed, **chosen}
        made = dict(chosen)
        for field, rule in self.derived.items():
            fields[field] = made[field] = rule.formula(fields)
        return made

    def depth(self, choice: FieldChoice, chosen: Mapping[str, Value]) -> int:
        """The number of layers of a member. Raises `Undefined` if it has none."""
        found = self._with(choice.length, chosen)[choice.length]
        return self._checked_depth(choice, found)

    def broken(self, chosen: Mapping[str, Value], rules: Sequence[Rule] | None = None) -> tuple[Rule, str] | None:
        """The first rule that a member does not satisfy, and why; None if it satisfies all of them.

        Args:
            chosen: all chosen fields.
            rules: to check; by default all. Derived fields must always have a value.

        Raises:
            SpaceProblem: a rule computes with values of the wrong kind.
        """
        fields = {**self.fixed, **chosen}
        conditions = self.rules if rules is None else rules
        for field, rule in [*self.derived.items(), *((None, rule) for rule in conditions)]:
            try:
                value = rule.formula(fields)
            except Undefined as error:
                return rule, str(error)
            except FormulaError as error:
                raise SpaceProblem(rule.path, str(error)) from error
            if field is not None:
                fields[field] = value
            elif not value:
                return rule, ""
        return None

    def deepest(self, choice: FieldChoice) -> int:
        """The most layers that a choice per layer may have."""
        return self._deepest[choice.field]

    def _add(self, rule: Rule) -> None:
        """Take in a rule as a relation, or for drawing."""
        touched = self._touched(rule.formula)
        names = [choice.field for choice in self.scalars if choice.field in touched]
        values = {name: self.scalars[self._place[name]].values for name in names}
        if touched & self._layered_fields or math.prod(map(len, values.values())) > MOST_COMBINATIONS:
            self.further.append(rule)
            return
        needed = self._needed(rule.formula)
        derived = {field: one.formula for field, one in self.derived.items() if field in needed}
        try:
            table = satisfied(rule.formula, derived, values, self.fixed)
        except NotVectorised:
            self.further.append(rule)
            return
        if not table.any():
            raise SpaceProblem(rule.path, f"no member satisfies it: {self._why(rule, values)}")
        if not table.all():
            self._relations.append((rule, Factor(tuple(self._place[name] for name in names), table)))

    def _why(self, rule: Rule, values: Mapping[str, Sequence[Value]]) -> str:
        """An example of a member that does not satisfy a rule."""
        example = {name: of[0] for name, of in values.items()}
        try:
            for name in rule.formula.names:
                example |= {name: self._with(name, example)[name]}
            rule.formula(self.fixed | example)
        except Undefined as error:
            return (
                f"there is {error} wherever it is computed, for {_shown(example)} for example"
                if example
                else str(error)
            )
        read = {name: example[name] for name in rule.formula.names}
        return f"it does not hold for {_shown(read)}, nor for any other choice" if read else "it is never true"

    def _with(self, name: str, chosen: Mapping[str, Value]) -> dict[str, Value]:
        """The fixed and chosen fields with one that may be derived, and all that it reads."""
        fields: dict[str, Value] = {**self.fixed, **chosen}
        needed = self._needed(_is_itself(name))
        for field, rule in self.derived.items():
            if field in needed:
                fields[field] = rule.formula(fields)
        return fields

    def _touched(self, formula: Formula) -> set[str]:
        """The chosen fields that a formula reads, through derived ones too."""
        needed = self._needed(formula)
        read = set(formula.names).union(*(self.derived[field].formula.names for field in needed))
        return {choice.field for choice in self.choices} & read

    def _needed(self, formula: Formula) -> set[str]:
        """The derived fields that a formula reads, through others too."""
        found: set[str] = set()
        waiting = [name for name in formula.names if name in self.derived]
        while waiting:
            if (field := waiting.pop()) not in found:
                found.add(field)
                waiting += [name for name in self.derived[field].formula.names if name in self.derived]
        return found

    def _weight(self, choice: FieldChoice) -> Factor:
        """The number of ways to choose the layers, by what the number of layers depends on."""
        formula = Formula("0").renamed({}) if choice.length in self.fixed else _is_itself(choice.length)
        touched = self._touched(formula) | ({choice.length} & set(self._place))
        if touched & self._layered_fields:
            raise SpaceProblem(("choices", choice.name), f"the number of layers, {choice.length}, is chosen per layer")
        scope = tuple(place for place, scalar in enumerate(self.scalars) if scalar.field in touched)
        shape = [len(self.scalars[place].values) for place in scope]
        if math.prod(shape) > MOST_DEPTHS:
            raise SpaceProblem(
                ("choices", choice.name), f"the number of layers, {choice.length}, depends on too many values"
            )
        depths: list[int | None] = []
        for values in itertools.product(*(self.scalars[place].values for place in scope)):
            chosen = {self.scalars[place].field: value for place, value in zip(scope, values, strict=True)}
            try:
                depths.append(self.depth(choice, chosen))
            except Undefined:
                depths.append(None)
        self._deepest[choice.field] = max((depth for depth in depths if depth is not None), default=0)
        ways = [0 if depth is None else len(choice.values) ** depth for depth in depths]
        table = np.array(ways, np.int64 if max(ways) < 2**62 else object).reshape(shape)
        return Factor(scope, table)

    def _checked_depth(self, choice: FieldChoice, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= DEEPEST:
            raise SpaceProblem(
                ("choices", choice.name),
                f"the number of layers, {choice.length}, is {value!r}; it is an integer from 0 to {DEEPEST:,}",
            )
        return value

    def _joined(self) -> FactorGraph:
        """The graph with as many relations as it can have; the others are checked when drawing."""
        sizes = [len(choice.values) for choice in self.scalars]
        taken = list(self._weights)
        self._taken: list[tuple[Rule, Factor]] = []
        for rule, factor in sorted(self._relations, key=lambda pair: pair[1].table.size):
            scopes = [one.scope for one in (*taken, factor)]
            orders = (list(reversed(range(len(sizes)))), greedy_order(sizes, scopes))
            if min(cost(sizes, scopes, order) for order in orders) <= LARGEST:
                taken.append(factor)
                self._taken.append((rule, factor))
            else:
                self.further.append(rule)
        try:
            return FactorGraph(sizes, taken)
        except TooLarge as error:
            raise SpaceProblem(("choices",), "the numbers of layers depend on too many values") from error

    def _conflict(self) -> SpaceProblem:
        """The rules that no member satisfies together, none of which can be left out."""
        sizes = [len(choice.values) for choice in self.scalars]

        def none(pairs: Sequence[tuple[Rule, Factor]]) -> bool:
            return FactorGraph(sizes, [*self._weights, *(factor for _, factor in pairs)]).count() == 0

        place = {id(rule): number for number, rule in enumerate(self.rules)}
        pairs = sorted(self._taken, key=lambda pair: place[id(pair[0])])
        if none([]):
            return SpaceProblem(("choices",), "no number of layers has a value")
        first = next(number for number in range(1, len(pairs) + 1) if none(pairs[:number]))
        culprits = pairs[:first]
        for pair in pairs[: first - 1]:
            if none(less := [one for one in culprits if one is not pair]):
                culprits = less
        *others, last = [rule for rule, _ in culprits]
        return SpaceProblem(
            last.path,
            "no member satisfies it together with "
            + " and ".join(f"'{_told(rule)}'" for rule in others)
            + ", although each can be satisfied alone; loosen one of them",
            also=tuple(rule.path for rule in others),
        )

    @cached_property
    def exact(self) -> bool:
        """Whether the graph holds every rule."""
        return not self.further


def _ordered(derived: Mapping[str, Rule]) -> list[str]:
    """Derived fields in an order in which each reads only those before it. Raises `SpaceProblem` for a circle."""
    order: list[str] = []
    state: dict[str, bool] = {}  # whether it is finished
    for start in derived:
        stack = [(start, iter(derived[start].formula.names))] if start not in state else []
        state.setdefault(start, False)
        while stack:
            field, names = stack[-1]
            name = next((one for one in names if one in derived and not state.get(one)), None)
            if name is None:
                stack.pop()
                state[field] = True
                order.append(field)
            elif name in state:
                way = [one for one, _ in stack]
                circle = [*way[way.index(name) :], name]
                raise SpaceProblem(derived[field].path, f"derived fields form a circle: {' <- '.join(circle)}")
            else:
                state[name] = False
                stack.append((name, iter(derived[name].formula.names)))
    return order


def _is_itself(field: str) -> Formula:
    """A condition that holds wherever a field has a value."""
    return Formula("x == x").renamed({"x": field})


def _told(rule: Rule) -> str:
    return f"{'.'.join(map(str, rule.path))}" if rule.path[0] == "derived" else rule.formula.text


def _shown(fields: Mapping[str, Value]) -> str:
    text = ", ".join(f"{name}={list(value) if isinstance(value, tuple) else value}" for name, value in fields.items())
    return text if len(text) <= 120 else f"{text[:117]}..."
