"""Artifacts: searched proxies as data. One JSON file holds the expressions, the record of the search that found them,
and a hash of both; reading one validates everything and executes nothing."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from lpzero_hf.capture.spec import STATISTICS
from lpzero_hf.errors import LpzError, UsageError, one_line
from lpzero_hf.expressions.expression import BUILT_IN, BY_ROLE, VERSION, Expression, Operations, parse
from lpzero_hf.files import parse_json, read_bytes, write_text

FORMAT, SCHEMA_VERSION, COMPOSITE_VERSION = "lpzero-hf proxy", 1, 2
COMPOSITE = "geometric_mean("  # the beginning of a member that is a proxy of installed proxies
ARTIFACT_FILE = "lpzero-proxy.json"  # its name in a repository or a package
LARGEST = 2**20  # bytes of an artifact
REMEDY = "give a file that `lpz export` or `lpz pull` wrote"
STATISTICS_VERSION = f"{STATISTICS}.{VERSION}"
BY_ROLE_VERSION = f"{int(STATISTICS) + 1}.{VERSION}"  # the same statistics, and those by role: 0.1.0 knows only the six


@dataclass(frozen=True)
class Member:
    """One expression of an artifact.

    Args:
        expression: its text; or that of a proxy of installed proxies, `geometric_mean(A, B, ...)`, which is then the
            only member.
        orientation: 1 if higher is better, -1 if lower is better.
        scale: of a member of an ensemble, the scores of the architectures searched on, times the orientation,
            ascending: the quantile of a model's score among them puts members on one scale. Empty for a single one.
    """

    expression: str
    orientation: int
    scale: tuple[float, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """A searched proxy: one expression, a rank ensemble of a few, or a geometric mean of installed proxies.

    Args:
        name: lower case, as users type it.
        members: its expressions; one that is there twice has twice the weight.
        operations: the version of every unary operation that they use.
        provenance: the record of the search, as `provenance` in `lpzero_hf/artifacts/artifact.schema.json`.
        statistics: the version of the definitions of statistics and expressions; by default the earliest that knows
            the statistics of the members, so that every version that knows them reads the artifact.

    Example:
        >>> record = {"benchmarks": [], "strategy": "by hand", "seed": 0, "train": {}, "held_out": {}, "versions": {}}
        >>> snip = Artifact("my-snip", (Member("sum(sum(product(abs(W), abs(G))))", 1),), {"abs": "1"}, record)
        >>> parse_artifact(snip.text) == snip
        True
    """

    name: str
    members: tuple[Member, ...]
    operations: Mapping[str, str] = field(hash=False)
    provenance: Mapping[str, Any] = field(hash=False)
    statistics: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "statistics", self.statistics or version_needed(self.expressions))

    @property
    def expressions(self) -> tuple[str, ...]:
        """The text of every member."""
        return tuple(member.expression for member in self.members)

    @property
    def weighted(self) -> list[str]:
        """The members as texts, a minus where lower is better, each once: "2 times - sum(...)" is there twice."""
        return weighted(self.expressions, self.orientations)

    @property
    def orientations(self) -> tuple[int, ...]:
        """The orientation of every member."""
        return tuple(member.orientation for member in self.members)

    @property
    def composite(self) -> bool:
        """Whether it names installed proxies, and has no expressions of its own."""
        return self.expressions[0].startswith(COMPOSITE)

    @property
    def trained_on(self) -> Mapping[str, Sequence[str]]:
        """By benchmark, the recorded keys of the architectures that it was searched on."""
        recorded: Mapping[str, Sequence[str]] = self.provenance.get("trained_on", {})
        return recorded

    @property
    def searched_marks(self) -> frozenset[str]:
        """The same architectures by their content, see `lpzero_hf.benchmarks.held_out`; empty if not recorded."""
        return frozenset(self.provenance.get("architectures", ()))

    @property
    def digest(self) -> str:
        """The SHA-256 of the rest of the file's content, in hexadecimal."""
        return _digest(self._content())

    @property
    def text(self) -> str:
        """The artifact as the JSON text of its file; equal artifacts have equal texts."""
        return (
            json.dumps(self._content() | {"sha256": self.digest}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        )

    def _content(self) -> dict[str, Any]:
        members: list[dict[str, Any]] = []
        for member in self.members:
            members.append({"expression": member.expression, "orientation": member.orientation})
            if member.scale:
                members[-1]["scale"] = list(member.scale)
        return {
            "format": FORMAT,
            "version": COMPOSITE_VERSION if self.composite else SCHEMA_VERSION,
            "name": self.name,
            "statistics": self.statistics,
            "operations": dict(self.operations),
            "members": members,
            "provenance": dict(self.provenance),
        }

    def parsed(self, operations: Operations = BUILT_IN) -> tuple[Expression, ...]:
        """The expressions of the members.

        Raises:
            LpzError: one uses an operation that is not among `operations`, or of another version, or is malformed.
        """
        for name, version in self.operations.items():
            if name not in operations:
                raise LpzError(
                    f"artifact '{self.name}' needs the operation '{name}', which no installed plugin offers; install "
                    "the plugin that does"
                )
            if operations[name].version != version:
                raise LpzError(
                    f"artifact '{self.name}' was searched with version {_shortened(version)} of the operation "
                    f"'{name}', and version {operations[name].version} is installed; install the other, or search again"
                )
        try:
            expressions = tuple(parse(text, operations) for text in self.expressions)
        except UsageError as error:
            raise LpzError(f"artifact '{self.name}' holds no valid expression: {_shortened(str(error))}") from error
        if set(operations_of(expressions)) - set(self.operations):
            raise LpzError(f"artifact '{self.name}' lacks the versions of some of its operations; export it again")
        if any(all(branch.dropped for branch in expression.branches) for expression in expressions):
            raise LpzError(f"artifact '{self.name}' holds an expression that drops both branches; search again")
        return expressions


def version_needed(texts: Sequence[str]) -> str:
    """The earliest version of the statistics that knows those in the texts of expressions."""
    by_role = any(name in BY_ROLE for text in texts for name in re.findall(r"\w+", text))
    return BY_ROLE_VERSION if by_role else STATISTICS_VERSION


def weighted(expressions: Iterable[str], orientations: Iterable[int]) -> list[str]:
    """The members of an ensemble as texts, each once with its weight.

    Example:
        >>> weighted(["a", "b", "a"], [1, -1, 1])
        ['2 times a', '- b']
    """
    members = Counter(zip(expressions, orientations, strict=True))
    return [
        (f"{count} times " if count > 1 else "") + ("" if sign > 0 else "- ") + text
        for (text, sign), count in members.items()
    ]


def operations_of(expressions: Sequence[Expression], operations: Operations = BUILT_IN) -> dict[str, str]:
    """The unary operations that expressions use, with their versions where `operations` has them."""
    used = {name for expression in expressions for branch in expression.branches for name in branch.chain}
    return {name: operations[name].version if name in operations else "" for name in sorted(used)}


def parse_artifact(text: str | bytes, source: str = "the artifact", operations: Operations = BUILT_IN) -> Artifact:
    """The artifact that a JSON text holds.

    Args:
        text: at most 1 MiB.
        source: its name in messages.
        operations: the available unary operations.

    Raises:
        LpzError: it is no artifact, of another version, damaged, too large, or needs operations that are missing.
    """
    document = _document(text, source)
    claimed = document.pop("sha256")
    try:
        computed = _digest(document)
    except ValueError as error:  # a lone surrogate, which has no UTF-8
        raise LpzError(f"{source} is no artifact ({one_line(error)}); export it again") from error
    if computed != claimed:
        raise LpzError(f"{source} was changed after it was exported (its hash differs); get it again from its author")
    if document["statistics"] not in (STATISTICS_VERSION, BY_ROLE_VERSION):
        raise LpzError(
            f"{source} was made for version {document['statistics']} of the statistics, this is {STATISTICS_VERSION} "
            f"(and {BY_ROLE_VERSION} by role); install the lpzero-hf that made it, or search again"
        )
    members = tuple(
        Member(member["expression"], member["orientation"], tuple(member.get("scale", ())))
        for member in document["members"]
    )
    if len(members) > 1 and not all(member.scale for member in members):
        raise LpzError(f"{source} is an ensemble without the scales of its members; export it again")
    if any(list(member.scale) != sorted(member.scale) for member in members):
        raise LpzError(f"{source} has a scale that does not ascend; export it again")
    artifact = Artifact(
        document["name"], members, document["operations"], document["provenance"], document["statistics"]
    )
    if artifact.composite != (document["version"] == COMPOSITE_VERSION) or (artifact.composite and len(members) > 1):
        raise LpzError(f"{source} has members that its version does not have; export it again")
    if artifact.composite:
        return artifact
    artifact.parsed(operations)
    if artifact.statistics != (needed := version_needed(artifact.expressions)):
        raise LpzError(
            f"{source} names version {artifact.statistics} of the statistics, and its expressions need {needed}; "
            "export it again"
        )
    return artifact


def read_artifact(path: Path | str, operations: Operations = BUILT_IN) -> Artifact:
    """The artifact in a file. Raises `LpzError` as `parse_artifact` does, or if the file cannot be read."""
    path = Path(path)
    return parse_artifact(read_bytes(path, REMEDY, LARGEST), f"'{path}'", operations)


def write_artifact(path: Path | str, artifact: Artifact, operations: Operations = BUILT_IN) -> None:
    """Write an artifact, completely or not at all, after checking that it can be read again.

    Raises:
        LpzError: it would not be valid, or the file cannot be written.
    """
    parse_artifact(artifact.text, f"artifact '{artifact.name}'", operations)
    write_text(Path(path), artifact.text)


def schema() -> dict[str, Any]:
    """The published JSON schema (draft 2020-12) of artifacts."""
    found: dict[str, Any] = json.loads(
        (files("lpzero_hf.artifacts") / "artifact.schema.json").read_text(encoding="utf-8")
    )
    return found


def _document(text: str | bytes, source: str) -> dict[str, Any]:
    """The document in a text, validated by the schema."""
    if len(text) > LARGEST:
        raise LpzError(f"{source} is larger than an artifact can be ({LARGEST} bytes); {REMEDY}")
    document = parse_json(text, source, REMEDY)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise LpzError(f"{source} is no artifact of lpzero-hf; {REMEDY}")
    version = document.get("version")
    if version not in (SCHEMA_VERSION, COMPOSITE_VERSION) or isinstance(version, bool):
        raise LpzError(
            f"{source} is an artifact of version {str(version)[:20]!r}, and this lpzero-hf reads versions "
            f"{SCHEMA_VERSION} and {COMPOSITE_VERSION}; install one that reads it"
        )
    from jsonschema.exceptions import best_match  # type: ignore[import-untyped]  # ships no types

    problem = best_match(_validator().iter_errors(document))
    if problem is not None:
        place = _shortened(".".join(str(part) for part in problem.absolute_path)) or "the document"
        raise LpzError(f"{source} is no valid artifact: {place}: {_shortened(problem.message)}; {REMEDY}")
    return document


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

    return Draft202012Validator(schema())


def _shortened(message: str) -> str:
    clean = "".join(letter if letter.isprintable() else "?" for letter in message)
    return clean if len(clean) <= 160 else f"{clean[:75]} ... {clean[-75:]}"


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
