"""`lpz export`: from the folder of a search, or from an expression, to an artifact or a plugin package."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lpz_cli import options
from lpz_cli.output import print_json, say
from lpzero_hf.errors import UsageError
from lpzero_hf.files import refuse_unwritable

if TYPE_CHECKING:
    from lpzero_hf.artifacts.artifact import Artifact
    from lpzero_hf.expressions.expression import Operations
    from lpzero_hf.plugins import PluginRegistry


Which = Literal["winner", "ensemble"]


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The folder of a finished search, or an expression of your own.")
    ],
    to: Annotated[
        Literal["artifact", "plugin"], typer.Option("--to", help="A JSON file, or an installable package.")
    ] = "artifact",
    name: Annotated[str | None, typer.Option("--name", help="Of the proxy; default: found-BENCHMARK.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File or folder; default: NAME.json or lpz-NAME.")] = None,
    which: Annotated[Which, typer.Option("--which", help="The single expression, or the rank ensemble.")] = "winner",
    split: Annotated[int, typer.Option("--split", min=0, help="Number of the split; the first by default.")] = 0,
    lower: Annotated[bool, typer.Option("--lower", help="For an expression of your own: lower is better.")] = False,
    date: Annotated[str | None, typer.Option("--date", help="YYYY-MM-DD, for the record in the artifact.")] = None,
    note: Annotated[str, typer.Option("--note", help="A line for people.")] = "",
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Export what a search has found, for `lpz score --proxy FILE`, for the Hub, or as a plugin to install.

    Example: `lpz export runs/flexibert --to plugin --name my-winner`
    """
    from lpzero_hf.expressions.operations import installed_operations
    from lpzero_hf.plugins import load_plugins

    registry = load_plugins(no_plugin or ())
    operations = installed_operations(registry)
    if "(" in run and not Path(run).exists():
        if which != "winner" or split:
            raise UsageError("--which and --split choose from a search; leave them out for an expression of your own")
        artifact = _by_hand(run, name, -1 if lower else 1, date, note, operations)
    elif lower:
        raise UsageError("--lower is for an expression of your own; leave it out, a search finds the orientation")
    else:
        artifact = _from_search(run, name, which, split, date, note, operations, registry)
    if to == "artifact":
        from lpzero_hf.artifacts.artifact import write_artifact

        place = out or Path(f"{artifact.name}.json")
        refuse_installed(artifact.name, registry)
        refuse_to_overwrite(place, artifact)
        write_artifact(place, artifact, operations)
        then = f"lpz score gpt2-variant --proxy {shlex.quote(str(place))}"
    else:
        from lpzero_hf.packaging.artifact_template import package_of
        from lpzero_hf.packaging.package import refuse_taken, write_package

        package = package_of(artifact)
        refuse_taken(package, [artifact.name], registry, new_version=True)
        place = out or Path(package.distribution)
        write_package(place, package)
        shown = str(place if place.is_absolute() else f"./{place}")
        then = f"pip install {shlex.quote(shown)} && lpz score gpt2-variant --proxy {artifact.name}"
    if json:
        facts = {"name": artifact.name, "to": to, "path": str(place), "sha256": artifact.digest}
        print_json(facts | {"expressions": list(artifact.expressions), "orientations": list(artifact.orientations)})
    else:
        say(str(place), f"`{then}` scores with it")


def refuse_to_overwrite(place: Path, artifact: Artifact) -> None:
    """Raise `UsageError` if there is anything at `place`, except this very artifact."""
    if place.is_dir():
        raise UsageError(f"'{place}' is a folder; name a file, such as {place / artifact.name}.json, with --out")
    if place.exists() and place.read_bytes() != artifact.text.encode():
        raise UsageError(f"'{place}' exists already; choose another --out, or remove it")
    refuse_unwritable(place)


def refuse_installed(name: str, registry: PluginRegistry) -> None:
    """Raise `UsageError` if a proxy of that name is installed, unless it is one that was exported as a plugin."""
    from lpzero_hf.proxies.resolve import installed_proxies

    claim = installed_proxies(registry).get(name)
    if claim is not None and claim.distribution != f"lpz-{name}":
        raise UsageError(f"'{name}' is the name of a proxy of {claim.distribution}; choose another with --name")


def _from_search(
    run: str, name: str | None, which: Which, split: int, date: str | None, note: str,
    operations: Operations, registry: PluginRegistry,
) -> Artifact:  # fmt: skip
    from lpzero_hf.files import reading
    from lpzero_hf.searching.export import artifact_of, default_name
    from lpzero_hf.searching.result import read_result
    from lpzero_hf.spaces.misplaced import refuse_misplaced

    refuse_misplaced(run, "run", registry)
    result = read_result(Path(run), operations)
    with reading(f"the search in '{run}'", "search again"):
        return artifact_of(
            result, name or default_name(result), split=split, which=which, date=date, note=note,
            operations=operations,
        )  # fmt: skip


def _by_hand(
    text: str, name: str | None, orientation: Literal[1, -1], date: str | None, note: str, operations: Operations
) -> Artifact:
    from lpzero_hf.expressions.expression import parse
    from lpzero_hf.searching.export import artifact_by_hand

    if name is None:
        raise UsageError("an expression of your own has no name yet; give it one with --name")
    return artifact_by_hand(
        parse(text, operations), name, orientation=orientation, date=date, note=note,
        operations=operations,
    )  # fmt: skip
