"""`lpz proxies` and `lpz plugins`: what is installed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lpz_cli import options
from lpz_cli.output import print_json, print_table, tell
from lpzero_hf.errors import PluginError, UsageError, unknown
from lpzero_hf.plugins import PluginRegistry, load_plugins

if TYPE_CHECKING:
    from lpzero_hf.models.model_kind import Kind
    from lpzero_hf.proxies.base import Proxy

BETTER = {1: "higher", -1: "lower"}


def proxies(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Only these, in full.")] = None,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """List every proxy: its formula, source, orientation and the passes it needs; of given ones also the evidence.

    Example: `lpz proxies snip lpzero-any`
    """
    from lpzero_hf.proxies.resolve import installed_proxies
    from lpzero_hf.spaces.misplaced import refuse_misplaced

    registry = load_plugins(no_plugin or [])
    claims = installed_proxies(registry)
    for name in names or ():
        if name not in claims:
            refuse_misplaced(name, "proxy", registry)
            raise UsageError(unknown("proxy", name, claims, " (`lpz proxies` lists them all)"))
    claims = {name: claims[name] for name in names} if names else claims
    rows: list[dict[str, Any]] = [
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
    if names:
        for row, claim in zip(rows, claims.values(), strict=True):
            row["evidence"] = _evidence(claim.item, registry)
    if json:
        print_json({"proxies": rows})
    elif names:
        for row in rows:
            shown = [[name, _shown(value)] for name, value in row.items() if value]
            print_table(str(row["proxy"]), ["", ""], shown)
    else:
        header = ("proxy", "better", "passes", "formula", "citation", "distribution")
        print_table(f"{len(rows)} proxies", header, [[row[name] for name in header] for row in rows])


def _evidence(proxy: Proxy, registry: PluginRegistry) -> dict[str, Any]:
    """What a proxy reached on models of each kind that has a benchmark."""
    from lpzero_hf.proxies.evidence import evidence_of, shipped_evidence

    kinds = [cast("Kind", kind) for kind in dict.fromkeys(shipped_evidence().kinds.values())]
    found = {kind: evidence_of(proxy, kind, registry) for kind in kinds}
    return {kind: known.to_dict() for kind, known in found.items() if known is not None}


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return "\n".join(
        f"{kind}s: {known['matched']:+.2f} at equal size, rho {known['rho']:+.2f}, {known['benchmarks']} benchmarks"
        for kind, known in value.items()
        if None not in (known["matched"], known["rho"])
    )


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
