"""`lpz plugin`: packages of one's own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from lpz_cli import options
from lpz_cli.output import print_json, quiet_stdout
from lpzero_hf.errors import UsageError

plugin_app = typer.Typer(help="Packages of your own that offer proxies.", no_args_is_help=True)


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
    from lpz_cli.scaffold import scaffold
    from lpzero_hf.packaging import write_package

    package = scaffold(name)
    place = out or Path(package.distribution)
    _refuse_taken(package.module, no_plugin)
    written = write_package(place, package)
    if json:
        print_json({"package": package.distribution, "proxy": package.module, "folder": str(place), "files": written})
    else:
        print("\n".join(str(place / path) for path in written))
        print(f"`pip install -e '{place}[test]' && pytest {place}` tests it")
        print(f"`lpz score gpt2-variant --proxy {package.module}` scores with it")


def _refuse_taken(module: str, no_plugin: list[str] | None) -> None:
    """Raise `UsageError` where `module` would hide a module that is there, or its proxy have another's name."""
    from lpzero_hf.plugins import load_plugins

    with quiet_stdout():
        claim = load_plugins(no_plugin or ()).proxies.get(module)
    if claim is not None:
        raise UsageError(f"{claim.distribution} offers a proxy '{module}' already; choose another name")
    if module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None:
        raise UsageError(f"a Python module '{module}' is there already; choose another name, such as lpz-{module}")
