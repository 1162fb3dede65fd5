"""`lpz proxies`, `lpz plugins` and `lpz zoo`: what is installed."""

from __future__ import annotations

from dataclasses import asdict

import typer

from lpz_cli import options
from lpz_cli.output import print_json, print_table, quiet_stdout
from lpzero_hf.errors import PluginError
from lpzero_hf.plugins import load_plugins

BETTER = {1: "higher", -1: "lower"}
zoo_app = typer.Typer(help="List the architectures that `lpz score` builds by name.")


def proxies(json: options.Json = False, no_plugin: options.NoPlugin = None) -> None:
    """List every proxy: its formula, source, orientation and the passes it needs."""
    with quiet_stdout():
        claims = load_plugins(no_plugin or []).proxies
    rows = [
        {
            "proxy": name,
            "better": BETTER[claim.item.orientation],
            "passes": claim.item.passes,
            "formula": claim.item.formula,
            "citation": claim.item.citation,
            "plugin": claim.plugin,
            "distribution": claim.distribution,
        }
        for name, claim in claims.items()
    ]
    if json:
        print_json({"proxies": rows})
    else:
        header = ("proxy", "better", "passes", "formula", "citation", "distribution")
        print_table(f"{len(rows)} proxies", header, [[row[name] for name in header] for row in rows])


def plugins(json: options.Json = False, no_plugin: options.NoPlugin = None) -> None:
    """List every installed plugin, those turned off or broken too."""
    with quiet_stdout():
        registry = load_plugins(no_plugin or [])
        problems = list(registry.conflicts)
        try:
            offers = [*registry.proxies.values(), *registry.models.values()]
        except PluginError as error:  # a conflict of names; it is shown, the list is still wanted
            problems, offers = problems or [str(error)], []
    rows = [
        asdict(status) | {"offers": sum(claim.plugin == status.name for claim in offers)}
        for status in registry.statuses.values()
    ]
    if json:
        print_json({"plugins": rows, "conflicts": problems})
    else:
        header = ("plugin", "distribution", "version", "status", "hooks", "note")
        cells = [
            [r["name"], r["distribution"], r["version"], r["status"], ", ".join(r["hooks"]), r["reason"]] for r in rows
        ]
        print_table(f"{len(rows)} plugins", header, cells)
        for problem in problems:
            typer.echo(f"warning: {problem}", err=True)


@zoo_app.callback(invoke_without_command=True)
def zoo(context: typer.Context, json: options.Json = False, no_plugin: options.NoPlugin = None) -> None:
    """List the architectures that `lpz score` builds by name."""
    if context.invoked_subcommand is not None:
        return
    with quiet_stdout():
        models = load_plugins(no_plugin or []).models
    rows = [[name, claim.item.summary, claim.distribution] for name, claim in models.items()]
    header = ("model", "summary", "distribution")
    if json:
        print_json({"models": [dict(zip(header, row, strict=True)) for row in rows]})
    else:
        print_table(f"{len(rows)} models", header, rows)
