"""The options that say how a table of trained architectures is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from lpzero_hf.errors import UsageError

if TYPE_CHECKING:
    from lpzero_hf.benchmarks.table_options import TableOptions

OPTION_NAMES = {"direction": "lower-is-better", "id_space": "space"}


@dataclass(frozen=True)
class Tables:
    """How a table of trained architectures is read."""

    metric: Annotated[
        str | None, typer.Option("--metric", metavar="COLUMN", help="Of a table: its column of trained performance.")
    ] = None
    direction: Annotated[
        bool | None,
        typer.Option(
            "--higher-is-better/--lower-is-better",
            help="Of a table: which end of the metric is better.",
            show_default="told by a well-known name",
        ),
    ] = None
    architecture_column: Annotated[
        str | None,
        typer.Option(
            "--architecture-column", metavar="COLUMN", help="Of a table: its column of configurations or ids."
        ),
    ] = None
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="MODEL",
            help="Of a table whose columns are fields of a configuration: one with the others. A path, Hub id, zoo "
            "name or JSON.",
        ),
    ] = None
    id_space: Annotated[
        str | None, typer.Option("--space", metavar="SPACE", help="Of a table with text ids: the space they are of.")
    ] = None
    seed_column: Annotated[
        str | None, typer.Option("--seed-column", metavar="COLUMN", help="Of a table: its column of seeds.")
    ] = None
    extra_column: Annotated[
        list[str] | None,
        typer.Option(
            "--extra-column", metavar="COLUMN", help="Of a table: a column that is no field of the base. Repeatable."
        ),
    ] = None
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Of a table: leave out rows that cannot be used, and count them.")
    ] = False

    def __post_init__(self) -> None:
        if self.extra_column and self.architecture_column:
            raise UsageError(
                "--extra-column has no effect with --architecture-column, the only column that is read as an "
                "architecture; leave it out"
            )

    def options(self, benchmarks: Sequence[str]) -> TableOptions | None:
        """How those of some benchmarks are read that are tables; None if none is.

        Args:
            benchmarks: names or paths.

        Raises:
            UsageError: a table lacks its metric, or its better end, or options are given but there is no table.
        """
        from lpz_cli.output import tell
        from lpzero_hf.benchmarks.table_files import SUFFIXES, is_table
        from lpzero_hf.benchmarks.table_options import TableOptions, usual_direction

        tables = [name for name in benchmarks if is_table(Path(name).expanduser())]
        if not tables:
            if given := [f.name for f in fields(self) if getattr(self, f.name) != f.default]:
                option = OPTION_NAMES.get(given[0], given[0].replace("_", "-"))
                raise UsageError(
                    f"--{option} is for tables ({', '.join(SUFFIXES)}), and "
                    f"{', '.join(benchmarks) or 'no benchmark'} is none; leave it out"
                )
            return None
        larger = self.direction
        if larger is None and self.metric is not None:
            larger = usual_direction(self.metric)
        if self.metric is None or larger is None:
            self._refuse_unsaid(Path(tables[0]).expanduser(), larger)
        if self.direction is None:
            word = "higher" if larger else "lower"
            tell(f"{word} {self.metric} is taken as better, by its name; --{word}-is-better says so")
        return TableOptions(
            self.metric, larger, self.architecture_column, self.base, self.id_space, self.seed_column,
            tuple(self.extra_column or ()), self.skip_bad_rows,
        )  # fmt: skip

    def _refuse_unsaid(self, file: Path, larger: bool | None) -> NoReturn:
        """Raise `UsageError` for a table without a metric, or its better end, with all else that it lacks."""
        from lpzero_hf.benchmarks.table_roles import refuse_unsaid
        from lpzero_hf.plugins import load_plugins

        refuse_unsaid(
            file, self.metric, larger, architecture=self.architecture_column, base=self.base, space=self.id_space,
            seed_column=self.seed_column, extra_columns=self.extra_column or (), plugins=load_plugins(),
        )  # fmt: skip
