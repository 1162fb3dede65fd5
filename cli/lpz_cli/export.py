"""`lpz export`: from the folder of a search to an artifact or a plugin package."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lpz_cli import options
from lpz_cli.output import print_json, quiet_stdout
from lpzero_hf.errors import UsageError


class Target(StrEnum):
    """What to make."""

    artifact = "artifact"
    plugin = "plugin"


class Which(StrEnum):
    """What a split has found."""

    winner = "winner"
    ensemble = "ensemble"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished search.")],
    to: Annotated[Target, typer.Option("--to", help="A JSON file, or an installable package.")] = Target.artifact,
    name: Annotated[str | None, typer.Option("--name", help="Of the proxy; default: lpzero-BENCHMARK.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File or folder; default: NAME.json or lpz-NAME.")] = None,
    which: Annotated[
        Which, typer.Option("--which", help="The single expression, or the rank ensemble.")
    ] = Which.winner,
    split: Annotated[int, typer.Option("--split", min=0, help="Whose finding; the first by default.")] = 0,
    date: Annotated[str | None, typer.Option("--date", help="YYYY-MM-DD, to be told in the artifact.")] = None,
    note: Annotated[str, typer.Option("--note", help="A line for people.")] = "",
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Export what a search has found, for `lpz score --proxy FILE`, for the Hub, or as a plugin to install.

    Example: `lpz export runs/flexibert --to plugin --name lpzero-flexibert`
    """
    with quiet_stdout():
        from lpzero_hf.artifact import write_artifact
        from lpzero_hf.exporting import artifact_of, default_name
        from lpzero_hf.found import read_result
        from lpzero_hf.plugins import load_plugins

        operations = load_plugins(no_plugin or ()).operations
        result = read_result(run, operations)
        artifact = artifact_of(
            result, name or default_name(result), split=split, which=which.value, date=date, note=note,
            operations=operations,
        )  # fmt: skip
        if to is Target.artifact:
            place = out or Path(f"{artifact.name}.json")
            if place.is_dir():
                raise UsageError(f"'{place}' is a folder; name a file with --out")
            write_artifact(place, artifact)
            then = f"lpz score gpt2-variant --proxy {place}"
        else:
            from lpzero_hf.packaging import write_package
            from lpzero_hf.plugin_export import package_of

            package = package_of(artifact)
            place = out or Path(package.distribution)
            write_package(place, package)
            then = f"pip install {place} && lpz score gpt2-variant --proxy {artifact.name}"
    if json:
        told = {"name": artifact.name, "to": to.value, "path": str(place), "sha256": artifact.digest}
        print_json(told | {"expressions": list(artifact.expressions), "orientations": list(artifact.orientations)})
    else:
        print(f"{place}\n`{then}` scores with it")
