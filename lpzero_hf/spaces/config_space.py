"""Spaces over any configuration: some of its fields are chosen, others follow by arithmetic, and conditions hold."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from lpzero_hf.errors import LpzError, ModelError, UsageError
from lpzero_hf.spaces.base import Architecture, By, Count, Pick, Row, SearchSpace, Value
from lpzero_hf.spaces.base_source import find_base
from lpzero_hf.spaces.field_choice import FieldChoice
from lpzero_hf.spaces.member_rules import Rule
from lpzero_hf.spaces.member_text import member_text, read_member
from lpzero_hf.spaces.places import Places, SpaceProblem
from lpzero_hf.spaces.space_reader import SpaceReader, check_types

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedConfig


FORMAT, VERSION = "lpzero-hf space", 1
MOST_DRAWS = 20_000  # for one member that satisfies all rules
TRIED = 5_000  # draws for an estimate of their number
LISTED = 10_000  # members that are listed rather than drawn
REPAIRS = 2_000  # members tried in place of one that does not satisfy all rules


class ConfigSpace(SearchSpace):
    """All configurations that choices of fields span, with derived fields, under constraints.

    Nothing in it is run as code: derived fields and constraints are arithmetic in Python's syntax, over fields that are
    chosen, derived, or set in the base. A field that its class computes from others where it is left out, such as
    `head_dim`, follows the chosen ones, unless it is chosen or derived itself. The numbers of members and draws from
    them are exact; only constraints on values per layer, or over more than a million combinations of values, are met by
    drawing again, and then the number of members is an estimate with a 95% interval. Where arithmetic has no value (a
    division by zero), there is no member.

    Args:
        name: what users type: letters, digits, `.`, `_` and `-`.
        base: a configuration; the path of one, or its Hub id; or a mapping with `model_type` and fields.
        choices: for each field, a list of values; a range, `{"from": 64, "to": 512, "step": 64}` or with `"times": 2`;
            or `{"per_layer": list or range}` for a field with a value for every layer, as many as the base's field with
            the number of layers says, or the one that `"length"` names. Fields of nested configurations have dots.
        derived: for each field, its formula: "4 * hidden_size".
        constraints: conditions: "hidden_size % num_attention_heads == 0".
        summary: one line for people.
        citation: the source.
        places: where these stand, for messages.

    Raises:
        UsageError: anything is wrong with these, or no member is left; the message names the part and the remedy.

    Example:
        >>> from lpzero_hf import ConfigSpace
        >>> from transformers import LlamaConfig
        >>> space = ConfigSpace(
        ...     "small-llama",
        ...     base=LlamaConfig(vocab_size=1000, num_hidden_layers=2),
        ...     choices={"hidden_size": [64, 96, 128], "num_attention_heads": {"from": 2, "to": 8, "times": 2}},
        ...     derived={"intermediate_size": "4 * hidden_size"},
        ...     constraints=["hidden_size // num_attention_heads >= 24"],
        ... )
        >>> space.size(), space.config(space.parse("hidden_size=96,num_attention_heads=4")).intermediate_size
        (5, 384)
    """

    def __init__(
        self,
        name: str,
        base: PreTrainedConfig | Mapping[str, Any] | str | Any,
        choices: Mapping[str, Any],
        derived: Mapping[str, Any] | None = None,
        constraints: Sequence[str] = (),
        summary: str = "",
        citation: str = "",
        *,
        places: Places | None = None,
    ) -> None:
        self.places = Places(f"space '{name}'") if places is None else places
        self.name, self.summary, self.citation = name, summary, citation
        derived = {} if derived is None else derived
        try:
            check_types(name, {"summary": summary, "citation": citation}, choices, derived, constraints)
            self._base = find_base(base)
            self._written = {"choices": dict(choices), "derived": dict(derived), "constraints": list(constraints)}
            reader = SpaceReader(self._base, choices)
            self._choices, self._rules = reader.choices, reader.rules(derived, constraints)
            self._build(self._first())
        except SpaceProblem as problem:
            raise self.places.error(problem) from problem

    def count(self) -> Count:
        """The number of architectures: exact, or estimated from draws where constraints do not allow to count."""
        return self._count

    def sample(self, rng: random.Random, by: By = "architecture") -> Architecture:
        """A random architecture, see `SearchSpace.sample`.

        With "choice", the choices are made in order, each uniformly among the values that leave an architecture.

        Raises:
            UsageError: many draws in turn break a constraint.
        """
        if by not in ("architecture", "choice"):
            raise UsageError(f"sampling by '{by}' is unknown; use 'architecture' or 'choice'")
        if by == "architecture" and self._few is not None:
            return rng.choice(self._few)
        return self._valid(lambda: self._drawn(rng, by))

    def samples(self, n: int, seed: int = 42, by: By = "architecture") -> list[Architecture]:
        """`n` different random architectures.

        Raises:
            UsageError: the space has fewer.
        """
        if n > 0 and self._listed is not None and len(self._listed) // 2 < n <= len(self._listed):
            return random.Random(seed).sample(self._listed, n)
        return super().samples(n, seed, by)

    def check(self, architecture: Architecture) -> Architecture:
        """`architecture` itself. Raises `UsageError`, naming what is wrong, if it is not of this space."""
        if architecture.layers or len(architecture.shared) != len(self._choices):
            names = ", ".join(choice.name for choice in self._choices)
            raise UsageError(f"{list(architecture.shared)} must give one value each for {names}")
        chosen = self._fields(architecture.shared)
        for choice, value in zip(self._choices, architecture.shared, strict=True):
            if choice.per_layer and not isinstance(value, tuple):
                raise UsageError(f"{choice.name} is {value!r}; give a tuple with a value for every layer")
            for one in value if choice.per_layer else (value,):
                if one not in choice.values:
                    raise UsageError(f"{choice.name} {one!r} is not in space '{self.name}'; {choice.shown}")
        if (broken := self._broken(chosen)) is not None:
            rule, why = broken
            because = f" ({why})" if why else ""
            raise UsageError(
                f"{self.text(architecture)} is not in space '{self.name}': it does not satisfy "
                f"'{_told(rule)}'{because} ({self.places.at(rule.path)})"
            )
        for choice, value in zip(self._choices, architecture.shared, strict=True):
            if choice.per_layer and len(value) != (depth := self._rules.depth(choice, chosen)):
                raise UsageError(f"{choice.name} has {len(value)} values, and {choice.length} is {depth}; give as many")
        return architecture

    def text(self, architecture: Architecture) -> str:
        """The stable text id, `hidden_size=64,layer_types=full_attention|sliding_attention` for example."""
        return member_text(self._choices, architecture.shared)

    def parse(self, text: str) -> Architecture:
        """The architecture with that text id; its choices may have any order.

        Raises:
            UsageError: it is malformed, or names an architecture outside the space.
        """
        return self.check(Architecture(read_member(text, self._choices)))

    def config(self, architecture: Architecture) -> PreTrainedConfig:
        """The Hugging Face configuration of an architecture.

        Raises:
            UsageError: it is not of this space.
            ModelError: the class of the configuration refuses it.
        """
        self.check(architecture)
        try:
            return self._build(architecture)
        except SpaceProblem as problem:
            raise ModelError(str(self.places.error(problem))) from problem

    def parameters(self) -> dict[str, list[Value]]:
        """The choices made once, then "<choice>.0", ... of those per layer, for the deepest architectures."""
        once = {choice.name: list(choice.values) for choice in self._rules.scalars}
        layered = {
            f"{choice.name}.{layer}": list(choice.values)
            for choice in self._rules.layered
            for layer in range(self._rules.deepest(choice))
        }
        return once | layered

    def assemble(self, pick: Pick) -> Architecture:
        """The architecture whose values `pick` chooses, see `SearchSpace.assemble`."""
        places: list[int] = []
        for choice in self._rules.scalars:
            value = self._picked(pick, choice.name, choice)
            possible = [place for place, ways in enumerate(self._rules.graph.completions(places)) if ways]
            places.append(_nearest(choice.values.index(value), possible, choice.values))
        chosen = self._scalars(places)
        for choice in self._rules.layered:
            depth = self._rules.depth(choice, chosen)
            chosen[choice.field] = tuple(self._picked(pick, f"{choice.name}.{i}", choice) for i in range(depth))
        return self._repaired(chosen, places)

    def named_values(self, architecture: Architecture) -> dict[str, Value]:
        """The values made once, then those of the layers it has, see `SearchSpace.named_values`."""
        self.check(architecture)
        rows = list(zip(self._choices, architecture.shared, strict=True))
        once = {choice.name: value for choice, value in rows if not choice.per_layer}
        layered = {choice.name: value for choice, value in rows if choice.per_layer}
        return once | {f"{name}.{i}": value for name, values in layered.items() for i, value in enumerate(values)}

    def described(self) -> list[Mapping[str, Any]]:
        """A row for every choice, see `SearchSpace.described`."""
        return [
            {
                "per": "layer" if choice.per_layer else "model",
                "name": choice.name,
                "values": list(choice.values),
                "shown": choice.shown,
            }
            for choice in self._choices
        ]

    def definition(self) -> dict[str, Any]:
        """What makes this space again without its file, as plain data."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "summary": self.summary,
            "citation": self.citation,
            "base": self._base.definition(),
            **self._written,
        }

    def _first(self) -> Architecture:
        """A member, the same in every process."""
        rng = random.Random(0)
        return self._valid(lambda: self._drawn(rng, "architecture"))

    def _build(self, architecture: Architecture) -> PreTrainedConfig:
        fields = self._rules.complete(self._fields(architecture.shared))
        try:
            config = self._base.build(fields)
        except LpzError as error:
            raise SpaceProblem(
                self._blamed(str(error)),
                f"{error}, for {self.text(architecture)}; add a constraint, or change the values",
            ) from error
        for field, value in self._rules.fixed.items():
            holder: Any = config
            for part in field.split("."):
                holder = holder.get(part) if isinstance(holder, Mapping) else getattr(holder, part, None)
            if isinstance(value, tuple) and isinstance(holder, list | tuple):
                continue
            if holder != value:
                raise SpaceProblem(
                    ("base",),
                    f"'{field}' is read as {value!r}, but {type(config).__name__} makes {holder!r} of it; derive it",
                )
        return config

    def _blamed(self, refusal: str) -> tuple[str, ...]:
        """The place of the choice or formula whose field a refusal quotes; else that of all choices."""
        paths = [(part, name) for part in ("derived", "choices") for name in self._written[part]]
        return next((path for path in paths if f"'{path[1].rpartition('.')[2]}'" in refusal), ("choices",))

    def _fields(self, row: Row) -> dict[str, Value]:
        return {choice.field: value for choice, value in zip(self._choices, row, strict=True)}

    def _scalars(self, places: Sequence[int]) -> dict[str, Value]:
        return {c.field: c.values[place] for c, place in zip(self._rules.scalars, places, strict=True)}

    def _architecture(self, chosen: Mapping[str, Value]) -> Architecture:
        return Architecture(tuple(chosen[choice.field] for choice in self._choices))

    def _drawn(self, rng: random.Random, by: By, before: Sequence[int] = ()) -> dict[str, Value]:
        """The fields of a random member, which may break the rules that are checked when drawing.

        Args:
            rng: the source of randomness.
            by: see `sample`.
            before: the first scalar choices, by place, for "choice".
        """
        graph, rules = self._rules.graph, self._rules
        if by == "architecture":
            places: Sequence[int] = graph.draw(rng)
        else:
            places = list(before)
            while len(places) < len(rules.scalars):
                places.append(rng.choice([place for place, ways in enumerate(graph.completions(places)) if ways]))
        chosen = self._scalars(places)
        for choice in rules.layered:
            chosen[choice.field] = tuple(rng.choices(choice.values, k=rules.depth(choice, chosen)))
        return chosen

    def _valid(self, draw: Callable[[], dict[str, Value]]) -> Architecture:
        """The first member that is drawn and satisfies all rules."""
        fails: dict[int, int] = {}
        for _ in range(MOST_DRAWS):
            chosen = draw()
            broken = self._broken(chosen, self._rules.further) if self._rules.further else None
            if broken is None:
                return self._architecture(chosen)
            fails[id(broken[0])] = fails.get(id(broken[0]), 0) + 1
            if not self._few and self._few is not None:
                break
        worst = max([*self._rules.derived.values(), *self._rules.further], key=lambda rule: fails.get(id(rule), 0))
        if self._few is not None and not self._few:
            raise self.places.error(
                SpaceProblem(
                    worst.path, "no member satisfies it together with the other constraints; loosen one of them"
                )
            )
        raise self.places.error(
            SpaceProblem(
                worst.path,
                f"none of {MOST_DRAWS:,} random members satisfies '{_told(worst)}' and all else; loosen it, "
                "or write it over fewer values and fields that are chosen once",
            )
        )

    @cached_property
    def _count(self) -> Count:
        total = self._rules.graph.count()
        if self._rules.exact:
            return Count(total, total, total)
        if self._few is not None:
            return Count(*[len(self._few)] * 3)
        rng = random.Random(0)
        further = self._rules.further
        good = sum(self._broken(self._drawn(rng, "architecture"), further) is None for _ in range(TRIED))
        low, high = _interval(good, TRIED)
        return Count(total * good // TRIED, int(total * Fraction(low)), int(total * Fraction(high)) + 1)

    @property
    def _few(self) -> list[Architecture] | None:
        """All members, if they are too few to draw them until one satisfies the rules, and there are such rules."""
        return None if self._rules.exact else self._listed

    @cached_property
    def _listed(self) -> list[Architecture] | None:
        """All members, if there are few."""
        if self._rules.graph.count() > LISTED:
            return None
        found = []
        for places in self._rules.graph.assignments():
            scalars = self._scalars(places)
            layered = [product(c.values, repeat=self._rules.depth(c, scalars)) for c in self._rules.layered]
            for rows in product(*layered):
                chosen = scalars | {c.field: row for c, row in zip(self._rules.layered, rows, strict=True)}
                if self._rules.exact or self._broken(chosen, self._rules.further) is None:
                    found.append(self._architecture(chosen))
        return found

    def _picked(self, pick: Pick, name: str, choice: FieldChoice) -> Value:
        value = pick(name, choice.values)
        value = tuple(value) if isinstance(value, list) else value
        if value not in choice.values:
            raise UsageError(f"{name} {value!r} is not in space '{self.name}'; {choice.shown}")
        return value

    def _repaired(self, chosen: dict[str, Value], places: Sequence[int]) -> Architecture:
        """A member like the one picked: itself; with one layer changed; or with the last choices drawn again."""
        further = self._rules.further
        if not further or self._broken(chosen, further) is None:
            return self._architecture(chosen)
        for other in self._neighbours(chosen):
            if self._broken(other, further) is None:
                return self._architecture(other)
        rng = random.Random(repr(sorted(chosen.items(), key=lambda pair: pair[0])))
        for kept in range(len(places), -1, -1):
            for _ in range(REPAIRS // (len(places) + 1)):
                other = self._drawn(rng, "choice", places[:kept])
                if self._broken(other, further) is None:
                    return self._architecture(other)
        return self._valid(lambda: self._drawn(rng, "choice"))

    def _broken(self, chosen: Mapping[str, Value], rules: Sequence[Rule] | None = None) -> tuple[Rule, str] | None:
        try:
            return self._rules.broken(chosen, rules)
        except SpaceProblem as problem:
            raise self.places.error(problem) from problem

    def _neighbours(self, chosen: dict[str, Value]) -> Iterator[dict[str, Value]]:
        tried = 0
        for choice in self._rules.layered:
            row = chosen[choice.field]
            for layer in range(len(row)):
                for value in choice.values:
                    if (tried := tried + 1) > REPAIRS:
                        return
                    yield chosen | {choice.field: (*row[:layer], value, *row[layer + 1 :])}


def _nearest(wanted: int, possible: Sequence[int], values: Sequence[Value]) -> int:
    """The possible place whose value is nearest to that of the wanted one: by size for numbers, else in the list."""

    def distance(place: int) -> tuple[float, float]:
        one, other = values[place], values[wanted]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
        return (abs(one - other) if numbers else abs(place - wanted), place)

    return wanted if wanted in possible else min(possible, key=distance)


def _interval(good: int, tried: int) -> tuple[float, float]:
    """The 95% interval of a share (Clopper and Pearson, 1934)."""
    from scipy.stats import beta  # type: ignore[import-untyped]  # scipy ships no types

    low = float(beta.ppf(0.025, good, tried - good + 1)) if good else 0.0
    high = float(beta.ppf(0.975, good + 1, tried - good)) if good < tried else 1.0
    return low, high


def _told(rule: Rule) -> str:
    return ".".join(map(str, rule.path)) if rule.path[0] == "derived" else rule.formula.text
