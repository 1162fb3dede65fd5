"""`lpz rank`: the best architectures of a space, by proxies."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.kept_warnings import KeptWarnings
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_csv, print_json, print_table, say, tell
from lpz_cli.progress import counting
from lpz_cli.run_facts import facts_of_run
from lpz_cli.score import shown
from lpz_cli.unread import refuse_unread
from lpzero_hf.errors import ComparisonWarning
from lpzero_hf.plugins import load_plugins


@grouped
def rank(
    context: typer.Context,
    space: options.Space,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy",
            "-p",
            help="A proxy's name. Several are combined by mean rank.",
            show_default="the recommended ones, without sizes",
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Architectures to draw.")] = 100,
    top: Annotated[int, typer.Option("--top", min=1, help="Rows of the table; --json and --csv hold all.")] = 20,
    sample: options.Sample = "choice",
    batch_size: options.BatchSize = 16,
    seq_len: options.SeqLen = 64,
    no_plugin: options.NoPlugin = None,
    *,
    conditions: options.Conditions,
    workers: options.Workers,
    form: options.Form,
) -> None:
    """Draw architectures of a space and rank them without training any.

    Without --proxy, the proxies are the few recommended for models of its kind, without the sizes.

    Example: `lpz rank tiny-lm --proxy synaptic_diversity --n 100`
    """
    refuse_unread(context, ["top"], form.whole, f"with {form.whole}, which holds all rows; leave it out")
    load_libraries()
    registry = load_plugins(no_plugin or ())
    from lpzero_hf.proxies.resolve import resolve
    from lpzero_hf.scoring.cache import ScoreCache
    from lpzero_hf.scoring.rank import rank as rank_architectures
    from lpzero_hf.spaces.named import load_space

    setting, warned = conditions.setting(batch_size, seq_len), KeptWarnings(later=(ComparisonWarning,))
    with (
        warned.keeping(),
        workers.start(setting.device, registry) as executor,
        ScoreCache() as cache,
        counting("architectures scored") as progress,
    ):
        ranking = rank_architectures(
            space, proxy or None, n=n, by=sample, setting=setting, cache=cache,
            executor=executor, plugins=registry, progress=progress,
        )  # fmt: skip
    names = ranking.proxies
    rows: list[dict[str, Any]] = [
        {"place": place, "architecture": ranked.name, "rank": ranked.rank}
        | {name: ranked.rows[name].value for name in names}
        | {
            "reason": "; ".join(
                f"{name} is {r.status}: {r.reason}" for name, r in ranked.rows.items() if r.value is None
            )
        }
        for place, ranked in enumerate(ranking, 1)
    ]
    if form.json:
        home, selection = load_space(space, registry), resolve(proxy or names, registry)
        print_json(
            {"space": space, "fingerprint": home.fingerprint(), "n": n, "sample": sample, "setting": setting.to_json()}
            | facts_of_run(setting, workers.threads)
            | {"proxies": {p.name: {"orientation": p.orientation, "version": p.version} for p in selection}}
            | {"ranking": rows, "warnings": warned}
        )
    elif form.csv:
        told = "; ".join(warned)
        cells = [[*("" if value is None else value for value in row.values()), told] for row in rows]
        print_csv([*rows[0], "warnings"], cells)
    else:
        table = [
            [
                str(row["place"]),
                *("—" if row[name] is None else shown(row[name]) for name in names),
                row["architecture"],
            ]
            for row in rows[:top]
        ]
        title = f"The best {min(top, len(rows))} of {len(rows)} architectures of {space}"
        print_table(title, ["place", *names, "architecture"], table, range(len(names) + 1))
        if not proxy:
            say(
                f"By the mean rank of {len(names)} recommended proxies; --proxy names others, `lpz proxies` lists them."
            )
        for warning in warned.untold:
            say(f"warning: {warning}")
    for warning in warned.untold if form.json or form.csv else ():
        tell(f"warning: {warning}")
    for ranked in ranking:
        for name, row in ranked.rows.items():
            if row.value is None:
                tell(f"warning: {name} has no score of {ranked.name}, {row.status}: {row.reason}")
