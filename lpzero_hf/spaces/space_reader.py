"""Reads the description of a space over configurations: what is chosen, derived and demanded of which fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import did_you_mean
from lpzero_hf.spaces.arithmetic import Formula, FormulaError
from lpzero_hf.spaces.base import Value
from lpzero_hf.spaces.field_choice import FieldChoice, read_choice
from lpzero_hf.spaces.member_rules import MemberRules, Rule
from lpzero_hf.spaces.places import Path, SpaceProblem

if TYPE_CHECKING:
    from lpzero_hf.spaces.base_config import BaseConfig

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
MOST_CHOICES = 1_000


def check_types(name: Any, texts: Mapping[str, Any], choices: Any, derived: Any, constraints: Any) -> None:
    """Refuse what has the wrong type. Raises `SpaceProblem`."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SpaceProblem(("name",), "a name has up to 100 letters, digits, '.', '_' and '-'")
    for key, text in texts.items():
        if not isinstance(text, str):
            raise SpaceProblem((key,), "it is no text")
    if not isinstance(choices, Mapping) or not choices:
        raise SpaceProblem(("choices",), "give at least one field with its values, such as hidden_size: [64, 128]")
    if len(choices) > MOST_CHOICES:
        raise SpaceProblem(("choices",), f"there are {len(choices):,} choices, and at most {MOST_CHOICES:,} are taken")
    if not isinstance(derived, Mapping):
        raise SpaceProblem(("derived",), "give fields with formulas, such as intermediate_size: 4 * hidden_size")
    if not isinstance(constraints, Sequence) or isinstance(constraints, str):
        raise SpaceProblem(("constraints",), "give a list of conditions, such as hidden_size >= 64")
    for part, given in (("choices", choices), ("derived", derived)):
        for field in given:
            if not isinstance(field, str):
                where: Path = (part, field) if isinstance(field, int) else (part,)
                raise SpaceProblem(where, f"{field!r} is no name of a field")


class SpaceReader:
    """Reads choices and rules over the fields of a base.

    Args:
        base: of the space.
        choices: as a user has written them.

    Raises:
        SpaceProblem: a field is unknown, or a choice is none.
    """

    def __init__(self, base: BaseConfig, choices: Mapping[str, Any]) -> None:
        self._base = base
        self.choices = tuple(self._read_choices(choices))

    def rules(self, derived: Mapping[str, Any], constraints: Sequence[Any]) -> MemberRules:
        """What the members satisfy. Raises `SpaceProblem` if it cannot be read, or nothing satisfies it."""
        chosen = {choice.field: choice.name for choice in self.choices}
        fields: dict[str, tuple[str, Path]] = {}
        taken = dict(chosen)
        for name in derived:
            path: Path = ("derived", name)
            field = self._resolved(name, path, (1, 2))
            if field in chosen:
                raise SpaceProblem(path, f"'{chosen[field]}' is a choice as well; leave it out of one of them")
            _claim(taken, field, name, path)
            fields[field] = (name, path)
        fixed: dict[str, Value] = {}
        known = {*chosen, *fields}
        made = {field: self._rule(path, derived[name], known, fixed) for field, (name, path) in fields.items()}
        conditions = [
            self._rule(("constraints", place), text, known, fixed, condition=True)
            for place, text in enumerate(constraints)
        ]
        for choice in self.choices:
            if choice.per_layer and choice.length not in known:
                fixed[choice.length] = self._fixed(choice.length, ("choices", choice.name))
        try:
            return MemberRules(self.choices, made, conditions, fixed)
        except FormulaError as error:  # of values; its text names the expression
            wrong = [rule for rule in (*made.values(), *conditions) if rule.formula.text == error.text]
            raise SpaceProblem(wrong[0].path if wrong else (), str(error)) from error

    def _read_choices(self, choices: Mapping[str, Any]) -> Iterator[FieldChoice]:
        taken: dict[str, str] = {}
        for name, spec in choices.items():
            path: Path = ("choices", name)
            values, per_layer, length, shown = read_choice(spec, path)
            field = self._resolved(name, path, [(value,) for value in values] if per_layer else values)
            _claim(taken, field, name, path)
            if per_layer:
                if length:
                    depth: str | None = self._resolved(length, (*path, "length"))
                elif (depth := self._base.depth(field)) is None:
                    raise SpaceProblem(path, "no field with the number of layers is known; name it with 'length'")
                length = depth or ""
            yield FieldChoice(name, field, values, per_layer, length, shown)

    def _rule(
        self, path: Path, written: Any, known: set[str], fixed: dict[str, Value], *, condition: bool = False
    ) -> Rule:
        """The rule that a user has written, over paths of fields; what it reads of the base goes to `fixed`."""
        if isinstance(written, bool | int | float) and not condition:
            written = repr(written)
        if not isinstance(written, str):
            raise SpaceProblem(path, f"{written!r} is no expression; write arithmetic such as '4 * hidden_size'"[:300])
        try:
            formula = Formula(written)
        except FormulaError as error:
            raise SpaceProblem(path, str(error)) from error
        names: dict[str, str] = {}
        for name in formula.names:
            try:
                field = names[name] = self._base.resolve(name)
            except SpaceProblem as problem:
                if name in known:
                    names[name] = name
                    continue
                near = did_you_mean(name, known)
                raise SpaceProblem(
                    path, f"'{formula.text}' reads '{name}': {near[2:] if near else problem.what}"
                ) from problem
            if field not in known:
                fixed[field] = self._fixed(field, path)
        return Rule(path, formula.renamed(names))

    def _fixed(self, field: str, path: Path) -> Value:
        try:
            return self._base.value(field)
        except SpaceProblem as problem:
            raise SpaceProblem(path, problem.what) from problem

    def _resolved(self, name: str, path: Path, values: Sequence[Value] = ()) -> str:
        try:
            return self._base.resolve(name, values)
        except SpaceProblem as problem:
            raise SpaceProblem(path, problem.what) from problem


def _claim(taken: dict[str, str], field: str, name: str, path: Path) -> None:
    """Note that a field is given by a choice or a formula. Raises `SpaceProblem` if it, or a part of it, is already."""
    for other, theirs in taken.items():
        if other == field:
            raise SpaceProblem(path, f"'{name}' and '{theirs}' are one field; leave one out")
        if f"{other}.".startswith(f"{field}.") or f"{field}.".startswith(f"{other}."):
            raise SpaceProblem(path, f"'{name}' and '{theirs}' are parts of one another; leave one out")
    taken[field] = name
