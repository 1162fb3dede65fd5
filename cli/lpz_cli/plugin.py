"""`lpz plugin`: packages of your own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lpz_cli import options
from lpz_cli.output import print_json, say

plugin_app = typer.Typer(name="plugin", help="Packages of your own that offer proxies.", no_args_is_help=True)


@plugin_app.callback()
def plugin() -> None:
    """Packages of your own that offer proxies."""


@plugin_app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package to be, for example my-proxy.")],
    out: Annotated[Path | None, typer.Option("--out", help="A folder to make; default: NAME.")] = None,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Start a package that offers a proxy: it can be installed and tested as it is, and changed from there.

    Example: `lpz plugin new my-proxy && pip install -e my-proxy && lpz score gpt2-variant --proxy my_proxy`
    """
    from lpzero_hf.packaging.package import refuse_taken, write_package
    from lpzero_hf.packaging.proxy_template import scaffold
    from lpzero_hf.plugins import load_plugins

    package = scaffold(name)
    place = out or Path(package.distribution)
    refuse_taken(package, [package.module], load_plugins(no_plugin or ()))
    written = write_package(place, package)
    if json:
        print_json({"package": package.distribution, "proxy": package.module, "folder": str(place), "files": written})
    else:
        say(*(str(place / path) for path in written))
        shown = f"./{place}" if str(place).startswith("-") else str(place)  # no option
        say(f"`pip install -e {shlex.quote(f'{shown}[test]')} && pytest {shlex.quote(shown)}` tests it")
        say(f"`lpz score gpt2-variant --proxy {package.module}` scores with it")
