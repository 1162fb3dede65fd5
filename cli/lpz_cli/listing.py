"""`lpz proxies` and `lpz plugins`: what is installed."""

from __future__ import annotations

from dataclasses import asdict

from lpz_cli import options
from lpz_cli.output import print_json, print_table, tell
from lpzero_hf.errors import PluginError
from lpzero_hf.plugins import load_plugins

BETTER = {1: "higher", -1: "lower"}


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
