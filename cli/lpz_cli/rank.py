"""`lpz rank`: the best architectures of a space, by proxies."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_csv, print_json, print_table, say, tell
from lpz_cli.progress import counting
from lpz_cli.score import shown
from lpzero_hf.errors import ComparisonWarning
from lpzero_hf.plugins import load_plugins


@contextmanager
def _comparisons() -> Iterator[list[str]]:
    """Keep what is warned of the comparison, for the result."""
    kept: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ComparisonWarning)
        show = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, ComparisonWarning):
                kept.append(str(message))
            else:
                show(message, category, *rest, **more)

        warnings.showwarning = keep
        yield kept


@grouped
def rank(
    space: options.Space,
    proxy: Annotated[
        list[str], typer.Option("--proxy", "-p", help="A proxy's name. Several are combined by mean rank.")
    ],
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

    Example: `lpz rank tiny-lm --proxy synaptic_diversity --n 100`
    """
    load_libraries()
    registry = load_plugins(no_plugin or ())
    from lpzero_hf.scoring.cache import ScoreCache
    from lpzero_hf.scoring.rank import rank as rank_architectures

    setting = conditions.setting(batch_size, seq_len)
    with (
        _comparisons() as warned,
        workers.start(setting.device, registry) as executor,
        ScoreCache() as cache,
        counting("architectures scored") as progress,
    ):
        ranking = rank_architectures(
            space, proxy, n=n, by=sample, setting=setting, cache=cache,
            executor=executor, plugins=registry, progress=progress,
        )  # fmt: skip
    names = list(ranking[0].rows)
    rows: list[dict[str, Any]] = [
        {"place": place, "architecture": ranked.name, "rank": ranked.rank}
        | {name: ranked.rows[name].value for name in names}
        for place, ranked in enumerate(ranking, 1)
    ]
    if form.json:
        print_json({"space": space, "ranking": rows, "warnings": warned})
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
        for warning in warned:
            say(f"warning: {warning}")
    for warning in warned if form.json or form.csv else ():
        tell(f"warning: {warning}")
    for ranked in ranking:
        for name, row in ranked.rows.items():
            if row.value is None:
                tell(f"warning: {name} has no score of {ranked.name}, {row.status}: {row.reason}")
