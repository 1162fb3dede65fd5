"""`lpz compare`: which of a few models is better, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lpz_cli import options
from lpz_cli.evidence import COLUMNS, evidence_cells, evidence_line
from lpz_cli.grouping import grouped
from lpz_cli.kept_warnings import KeptWarnings
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_csv, print_json, print_table, say, tell, tell_error
from lpz_cli.progress import counting
from lpz_cli.run_facts import facts_of_run
from lpz_cli.score import shown
from lpzero_hf.plugins import load_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpzero_hf.scoring.comparison import Comparison


@grouped
def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Two or more: zoo names, SPACE:ID, Hub ids, folders or config.json."),
    ],
    proxy: options.RecommendedProxies = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Draws of weights and minibatch, from --seed on.")] = 3,
    sure: Annotated[
        float,
        typer.Option("--sure", help="One is ahead if better in more than this share of seeds and proxies, 0.5 to 1."),
    ] = 0.75,
    batch_size: options.BatchSize = 16,
    seq_len: Annotated[
        int | None,
        typer.Option("--seq-len", min=2, help="Tokens per sequence; default: 128 or the fewest positions of a model."),
    ] = None,
    no_plugin: options.NoPlugin = None,
    *,
    conditions: options.Conditions,
    form: options.Form,
) -> None:
    """Compare models without training them.

    Each proxy ranks them by several draws of weights and minibatch; a place is that of the mean rank. Sizes stand
    beside, and the last line says whether the best is ahead, or too close to tell.

    Example: `lpz compare gpt2-variant llama-mini`
    """
    registry = load_plugins(no_plugin or ())
    load_libraries()
    import torch

    from lpzero_hf.executors.local import LocalExecutor
    from lpzero_hf.models.minibatch import SEQUENCE_LENGTH
    from lpzero_hf.proxies.resolve import resolve
    from lpzero_hf.scoring.cache import ScoreCache
    from lpzero_hf.scoring.compare import compare as compare_models

    setting = conditions.setting(batch_size, seq_len or SEQUENCE_LENGTH)
    selection = resolve(proxy, registry) if proxy else None
    warned = KeptWarnings()
    with warned.keeping(), ScoreCache() as cache, counting("models scored") as progress:
        found = compare_models(
            models, selection, seeds=seeds, sure=sure, setting=setting, shorten=seq_len is None, cache=cache,
            executor=LocalExecutor(torch.get_num_threads()), plugins=registry, progress=progress,
        )  # fmt: skip
    if form.json:
        facts = facts_of_run(found.setting, torch.get_num_threads())
        print_json(found.to_dict() | facts | {"warnings": [*warned, *found.warnings]})
    elif form.csv:
        _as_csv(found, [*warned, *found.warnings])
    else:
        _as_tables(found)
    for warning in found.warnings if form.json or form.csv else ():
        tell(f"warning: {warning}")
    raise typer.Exit(_report_problems(found))


def _as_csv(found: Comparison, warnings: Sequence[str]) -> None:
    sizes, proxies = list(found.models[0].sizes), list(found.models[0].places)
    rows = [
        [model.place, model.name, model.kind, model.rank]
        + ["" if size is None else size for size in model.sizes.values()]
        + ["" if place is None else place for place in model.places.values()]
        + ["; ".join(warnings)]
        for model in found.models
    ]
    print_csv(
        ["place", "model", "kind", "mean rank", *sizes, *(f"place by {proxy}" for proxy in proxies), "warnings"], rows
    )


def _as_tables(found: Comparison) -> None:
    names = [model.name for model in found.models]
    kinds = list(dict.fromkeys(model.kind for model in found.models))
    sizes = list(found.models[0].sizes)
    tokens = f"{found.setting.batch_size} x {found.setting.seq_len} tokens"
    title = f"{len(names)} models · {len(found.seeds)} draws of weights and of {tokens}"
    rows = [
        [str(model.place), model.name, model.kind, f"{model.rank:.2f}"]
        + ["—" if size is None else shown(size) for size in model.sizes.values()]
        for model in found.models
    ]
    print_table(title, ["place", "model", "kind", "mean rank", *sizes], rows, [0, *range(3, 4 + len(sizes))])
    rows = []
    for proxy, known in found.evidence.items():
        places = [model.places[proxy] for model in found.models]
        cells = evidence_cells({kind: known[kind] for kind in kinds})
        rows.append([proxy, *("—" if place is None else str(place) for place in places), *cells])
    print_table("Places by each proxy", ["proxy", *names, *COLUMNS], rows, range(1, 1 + len(names) + len(COLUMNS)))
    say(evidence_line(kinds))
    if len(names) > 2:
        print_table(
            f"In how many of {found.pairs[0].of} scores the model on the left is better",
            ["model", *names],
            [[first, *(_better(found, first, second) for second in names)] for first in names],
            range(1, len(names) + 1),
        )
    if found.agreement is not None:
        say(f"Kendall's tau-b between proxies, mean over their pairs: {found.agreement:+.2f}.")
    for warning in found.warnings:
        say(f"warning: {warning}")
    say(found.sentence)


def _better(found: Comparison, first: str, second: str) -> str:
    if first == second:
        return ""
    pair = found.pair(first, second)
    return str(pair.wins if pair.first == first else pair.losses)


def _report_problems(found: Comparison) -> int:
    """A line on stderr for each model and proxy that was left out; the exit code."""
    code = 0
    for proxy, why in found.left_out.items():
        wrong = not why.startswith("not applicable")
        tell(f"{'error' if wrong else 'warning'}: '{proxy}' has no vote: it is {why}")
        code = max(code, int(wrong))
    for model, error in found.failed.items():
        tell_error(error, model)
        code = max(code, error.exit_code)
    return code
