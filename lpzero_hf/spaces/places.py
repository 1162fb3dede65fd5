"""Problems of a space with the place in its file, or in its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lpzero_hf.errors import UsageError

Path = tuple[str | int, ...]


class SpaceProblem(Exception):
    """Something is wrong in the description of a space.

    Args:
        path: to the part that is wrong: `("choices", "hidden_size")`, for example.
        what: is wrong, with the remedy.
        also: the paths to other parts that it is about.
    """

    def __init__(self, path: Path, what: str, also: tuple[Path, ...] = ()) -> None:
        super().__init__(what)
        self.path, self.what, self.also = path, what, also

    def within(self, *outer: str | int) -> SpaceProblem:
        """The same problem of a part of something."""
        return SpaceProblem((*outer, *self.path), self.what, self.also)


@dataclass(frozen=True)
class Places:
    """Where the parts of a description of a space stand.

    Args:
        source: the file, as the user named it; or what else is described.
        lines: of the parts, by path; empty without a file.
    """

    source: str
    lines: Mapping[Path, int] = field(default_factory=dict)

    def error(self, problem: SpaceProblem) -> UsageError:
        """The error for users: one line that begins with the place."""
        part = ".".join(map(str, problem.path))
        further = f" ({', '.join(map(self.at, problem.also))})" if problem.also and self.lines else ""
        return UsageError(f"{self.at(problem.path)}: {f'{part}: ' if part else ''}{problem.what}{further}")

    def at(self, path: Path) -> str:
        """The place of a part, "my-space.yaml:7"; of the part around it, where it has no line of its own."""
        for end in range(len(path), -1, -1):
            if (line := self.lines.get(path[:end])) is not None:
                return f"{self.source}:{line}"
        return self.source
