"""`lpz cost`: what models take to run, without training them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_csv, print_json, print_table, tell, tell_error
from lpz_cli.progress import counting
from lpz_cli.unread import refuse_unread
from lpzero_hf.errors import LpzError, one_line
from lpzero_hf.plugins import load_plugins

if TYPE_CHECKING:
    from lpzero_hf.scoring.costs import Cost, CostRow

TIMED = ("repeats", "warmup")  # what only a cost reads for which a model runs


@grouped
def cost(
    context: typer.Context,
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Zoo names, Hub ids, local folders or config.json files.")
    ],
    cost: Annotated[
        list[str] | None,
        typer.Option("--cost", "-c", help="A cost's name. Repeatable, or with commas.", show_default="all"),
    ] = None,
    dtype: Annotated[options.Precision, typer.Option("--dtype", help="Precision of the weights.")] = "float32",
    device: Annotated[
        str, typer.Option("--device", help="Where latency is measured: cpu, cuda, cuda:1, mps, ...")
    ] = "cpu",
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 1,
    attn: Annotated[
        options.Attention | None,
        typer.Option("--attn", help="Implementation of attention.", show_default="the model's own"),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let the model's own code run. Never run without this.")
    ] = False,
    seed: options.Seed = 42,
    no_plugin: options.NoPlugin = None,
    *,
    serving: options.Serving,
    form: options.Form,
) -> None:
    """Show what models take to run: parameters, operations, memory, cache, and latency on this machine.

    Only latency builds a model; all else is counted from shapes, at any size. A prefill is one forward pass over the
    prompts, with the logits of all positions.

    Example: `lpz cost gpt2-variant bert-mini --cost params --cost kv_cache --cost latency`
    """
    load_libraries()
    from lpzero_hf.models.load import load_config
    from lpzero_hf.proxies.resolve import parted
    from lpzero_hf.scoring.costs import find_costs, measure_costs

    deployment = serving.deployment(dtype, device, threads, attn, seed)
    registry = load_plugins(no_plugin or [])
    chosen = find_costs(None if cost is None else parted(cost), registry, serving.tables(None, registry))
    timed = any(one.stage == "run" for one in chosen)
    named = "with --cost, which names none that is timed; leave it out, or add --cost latency"
    refuse_unread(context, TIMED, not timed, named)
    found: dict[str, dict[str, CostRow]] = {}
    errors: dict[str, LpzError] = {}
    with counting("models") as progress:
        for place, model in enumerate(models):
            try:
                config, _ = load_config(model, trust_remote_code=trust_remote_code, plugins=registry)
                found[model] = measure_costs(config, chosen, deployment, name=model, plugins=registry)
            except LpzError as error:
                errors[model] = error
            except Exception as error:  # of code of others, which must not lose the costs of the other models
                if options.debugging():
                    raise
                errors[model] = LpzError(f"'{model}' has no costs: {one_line(error)}; --debug shows the traceback")
            progress(place + 1, len(models))
    if form.json:
        _as_json(models, found, errors, deployment.to_json())
    elif form.csv:
        rows = [[model, *_cells(row)] for model, costs in found.items() for row in costs.values()]
        header = ("model", "cost", "value", "unit", "low", "high", "repeats", "status", "reason", "warnings")
        print_csv(header, rows)
    elif found:
        _as_table(chosen, found)
    raise typer.Exit(_report(found, errors))


def _cells(row: CostRow) -> list[Any]:
    numbers = ["" if number is None else repr(number) for number in (row.value, row.low, row.high, row.repeats)]
    return [row.cost, numbers[0], row.unit, *numbers[1:], row.status, row.reason, "; ".join(row.warnings)]


def _as_json(
    models: list[str], found: dict[str, dict[str, CostRow]], errors: dict[str, LpzError], deployment: dict[str, Any]
) -> None:
    from lpzero_hf.artifacts.versions import versions

    documents: list[dict[str, Any]] = []
    for model in dict.fromkeys(models):
        if model in errors:
            documents.append({"model": model, "error": str(errors[model])})
        else:
            documents.append({"model": model, "costs": [row.to_dict() for row in found[model].values()]})
    print_json({"models": documents, "deployment": deployment, "versions": versions()})


def _as_table(chosen: list[Cost], found: dict[str, dict[str, CostRow]]) -> None:
    notes = {
        cost.name: "; ".join(
            dict.fromkeys(f"{row.status}: {row.reason}" for costs in found.values()
            if (row := costs[cost.name]).value is None)
        ) for cost in chosen
    }  # fmt: skip
    header = ["cost", *found, "what"]
    rows = [
        [cost.name, *(shown_cost(costs[cost.name]) for costs in found.values()), notes[cost.name] or cost.summary]
        for cost in chosen
    ]
    print_table(", ".join(found), header, rows, list(range(1, len(found) + 1)))


def shown_cost(row: CostRow) -> str:
    """A value for people, with its quartiles where it was measured."""
    from lpzero_hf.scoring.quantities import show_quantity

    if row.value is None:
        return "—"
    value = show_quantity(row.value, row.unit)
    if row.low is None or row.high is None:
        return value
    return f"{value} ({show_quantity(row.low, row.unit)} to {show_quantity(row.high, row.unit)})"


def _report(found: dict[str, dict[str, CostRow]], errors: dict[str, LpzError]) -> int:
    """One line on stderr for each problem and each kind of warning; the exit code."""
    code = 0
    for model, error in errors.items():
        tell_error(error, model)
        code = max(code, error.exit_code)
    for model, costs in found.items():
        for row in costs.values():
            if row.status == "failed":
                tell(f"error: no {row.cost} of '{model}': {row.reason}")
                code = max(code, 1)
            for warning in row.warnings:
                tell(f"warning: {row.cost} of {model}: {warning}")
    return code
