"""`lpz proxies`, `lpz plugins` and `lpz zoo`: what is installed."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from lpz_cli import options
from lpz_cli.output import print_json, print_table, say, tell
from lpzero_hf.errors import PluginError
from lpzero_hf.plugins import load_plugins

if TYPE_CHECKING:
    from lpzero_hf.spaces.base import Count, SearchSpace

BETTER = {1: "higher", -1: "lower"}
BUILT = 5  # members of a space that are built when it is shown
zoo_app = typer.Typer(help="Architectures by name, and spaces of them.")


def proxies(json: options.Json = False, no_plugin: options.NoPlugin = None) -> None:
    """List every proxy: its formula, source, orientation and the passes it needs."""
    from lpzero_hf.proxies.resolve import installed_proxies

    claims = installed_proxies(load_plugins(no_plugin or []))
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
    from lpzero_hf.benchmarks.benchmark import installed_benchmarks
    from lpzero_hf.executors.offer import installed_executors
    from lpzero_hf.proxies.resolve import installed_proxies
    from lpzero_hf.spaces.named import installed_models, installed_spaces

    registry = load_plugins(no_plugin or [])
    problems = list(registry.conflicts)
    kinds = (installed_proxies, installed_models, installed_spaces, installed_benchmarks, installed_executors)
    try:
        offers = [claim.plugin for installed in kinds for claim in installed(registry).values()]
    except PluginError as error:  # a conflict of names; it is shown, the list is still wanted
        problems, offers = problems or [str(error)], []
    rows = [asdict(status) | {"offers": offers.count(status.name)} for status in registry.statuses.values()]
    if json:
        print_json({"plugins": rows, "conflicts": problems})
    else:
        header = ("plugin", "distribution", "version", "status", "hooks", "note")
        cells = [
            [r["name"], r["distribution"], r["version"], r["status"], ", ".join(r["hooks"]), r["reason"]] for r in rows
        ]
        print_table(f"{len(rows)} plugins", header, cells)
        for problem in problems:
            tell(f"warning: {problem}")


@zoo_app.callback(invoke_without_command=True)
def zoo(context: typer.Context, json: options.Json = False, no_plugin: options.NoPlugin = None) -> None:
    """List the architectures that `lpz score` builds by name, and the spaces that hold more of them."""
    if context.invoked_subcommand is not None:
        return
    from lpzero_hf.spaces.named import installed_models, installed_spaces

    registry = load_plugins(no_plugin or [])
    models = [[name, claim.item.summary, claim.distribution] for name, claim in installed_models(registry).items()]
    spaces: list[list[Any]] = [
        [name, claim.item.count(), claim.item.summary, claim.distribution]
        for name, claim in installed_spaces(registry).items()
    ]
    of_model, of_space = ("model", "summary", "distribution"), ("space", "size", "summary", "distribution")
    if json:
        print_json(
            {
                "models": [dict(zip(of_model, row, strict=True)) for row in models],
                "spaces": [dict(zip(of_space, [name, size.value, *rest], strict=True)) for name, size, *rest in spaces],
            }
        )
        return
    print_table(f"{len(models)} models", of_model, models)
    cells = [[name, _shown(size), *rest] for name, size, *rest in spaces]
    print_table(f"{len(spaces)} spaces", of_space, cells, [1])


@zoo_app.command()
def show(
    space: options.Space,
    seed: options.Seed = 42,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Describe a space: its size, its choices, and an architecture drawn from it."""
    from lpzero_hf.spaces.named import load_space

    home = load_space(space, load_plugins(no_plugin or []))
    example = f"{space}:{home.text(home.samples(1, seed, 'choice')[0])}"
    choices, count = home.described(), home.count()
    cannot = {} if home.definition() is None else _refused(home, min(count.low, BUILT), seed)
    if json:
        print_json(
            {
                "space": space,
                "size": count.value,
                "interval": [count.low, count.high],
                "summary": home.summary,
                "citation": home.citation,
                "choices": [{key: value for key, value in row.items() if key != "shown"} for row in choices],
                "example": example,
                "refused": cannot,
            }
        )
        return
    rows = [[row["name"], f"every {row['per']}", row["shown"]] for row in choices]
    print_table(f"{space}: {_shown(count)} architectures", ["choice", "made for", "values"], rows)
    say(home.summary, home.citation, f"For example `lpz score {shlex.quote(example)}`")
    for name, reason in cannot.items():
        tell(f"warning: {name} cannot be built: {reason}; add a constraint, or change the values")


def _refused(space: SearchSpace, n: int, seed: int) -> dict[str, str]:
    """Which of a few members of a space cannot be built, and why."""
    from lpzero_hf.models.member_check import refused

    return refused(space, space.samples(n, seed))


def _shown(count: Count) -> str:
    """A number of architectures; an estimate as one, with its interval."""
    value, low, high = (
        f"{size:,}" if size < 10**15 else f"{size:.3e}" for size in (count.value, count.low, count.high)
    )
    return value if count.exact else f"about {value} ({low} to {high})"
