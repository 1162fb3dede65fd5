"""Makes an architecture from named values: a space as a list of parameters, for tools that know no layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lpzero_hf.spaces.space import Architecture, Choice, Row, Space, Value

DEPTH = "number of layers"
Pick = Callable[[str, Sequence[Value]], Value]


def assemble(space: Space, pick: Pick) -> Architecture:
    """The architecture whose values `pick` chooses.

    Args:
        space: of the architecture.
        pick: called with a name and the possible values, returns one of these. The names are those of the shared
            choices, then "number of layers", then "layers.0.<choice>", "layers.1.<choice>", ... for the chosen number
            of layers.

    Raises:
        UsageError: `pick` returned a value that is not in the space.

    Example:
        >>> from lpzero_hf import load_space
        >>> space = load_space("tiny-gpt2")
        >>> space.text(assemble(space, lambda name, values: values[0]))
        'd64.e32.k1-h1.i64'
    """

    def row(choices: tuple[Choice, ...], prefix: str = "") -> Row:
        return tuple(pick(prefix + choice.name, choice.values) for choice in choices)

    shared = row(space.shared)
    depth = int(pick(DEPTH, space.depths))
    return space.check(Architecture(shared, tuple(row(space.layer, f"layers.{i}.") for i in range(depth))))


def values_of(space: Space) -> dict[str, list[Value]]:
    """Every name with which `assemble` may call `pick`, with its values: those of the deepest architectures.

    Example:
        >>> from lpzero_hf import load_space
        >>> values_of(load_space("flexibert"))["layers.3.width"]
        [512, 1024]
    """
    layers = {
        f"layers.{i}.{choice.name}": list(choice.values) for i in range(max(space.depths)) for choice in space.layer
    }
    shared = {choice.name: list(choice.values) for choice in space.shared}
    return shared | {DEPTH: list(space.depths)} | layers


def extreme(space: Space, largest: bool) -> dict[str, Value]:
    """The largest, or smallest, value of every choice; for choices of words, the first."""

    def end(values: Sequence[Value]) -> Value:
        numbers = [value for value in values if isinstance(value, int)]
        if len(numbers) < len(values):
            return values[0]
        return max(numbers) if largest else min(numbers)

    return {name: end(values) for name, values in values_of(space).items()}
