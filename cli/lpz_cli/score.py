"""`lpz score`: scores of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.kept_warnings import KeptWarnings
from lpz_cli.libraries import load_libraries
from lpz_cli.output import print_json, tell, tell_error
from lpz_cli.score_record import ScoreRecord, ScoreRequest, read_record, settings_of
from lpz_cli.score_run import ScoreRun
from lpz_cli.score_tables import Result, as_csv, as_plans, as_table, beyond, evidence_for
from lpz_cli.score_tables import shown as shown
from lpzero_hf.errors import UsageError
from lpzero_hf.plugins import PluginRegistry, load_plugins


@grouped
def score(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="Zoo names, Hub ids, local folders or config.json files."),
    ] = None,
    proxy: options.RecommendedProxies = None,
    batch_size: options.BatchSize = 16,
    seq_len: Annotated[
        int | None, typer.Option("--seq-len", help="Tokens per sequence; default: 128 or the model's positions.")
    ] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Load the checkpoint, not random weights.")] = False,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Run blocks twice and keep less: the same scores in less memory.")
    ] = False,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            "--micro-batch", min=1, help="Sequences at a time, added up; fewer when a GPU runs out of memory."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=1000, help="Draws of weights and minibatch, from --seed on.")
    ] = 1,
    recorded: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Repeat the score in a file that --json wrote, to the last digit."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the memory that this would need, and score nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Try even what is expected not to fit.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let the model's own code run. Never run without this.")
    ] = False,
    no_plugin: options.NoPlugin = None,
    *,
    conditions: options.Conditions,
    form: options.Form,
) -> None:
    """Score models without training them.

    Each MODEL is built with random weights and run on one minibatch; all proxies that can share a pass do. No more
    of it is built than the proxies need: nothing for counts, one weight at a time for norms of weights. Without
    --proxy, the proxies are the few recommended for models of its kind; --proxy all takes every one installed. Costly
    passes run last; Ctrl-C keeps the rows that are done. What would not fit into memory is left out, and said so.

    Example: `lpz score gpt2-variant bert-mini --proxy snip --proxy params`
    """
    if form.csv and plan:
        raise UsageError("--plan has no CSV; leave out --csv, or ask for --json")
    record = None if recorded is None else read_record(recorded, context)
    load_libraries()
    import torch

    from lpzero_hf.proxies.resolve import ALL, installed_proxies, resolve
    from lpzero_hf.scoring.comparability import differences

    if record is None:
        if not models:
            raise UsageError("there is nothing to score; name a model, `lpz zoo` lists some, or a score with --from")
        request = ScoreRequest(
            tuple(models), None if not proxy else tuple(proxy), batch_size, seq_len, pretrained, checkpointing,
            micro_batch, trust_remote_code, seeds, torch.get_num_threads(),
        )  # fmt: skip
    else:
        request, conditions = record.request, record.conditions
        record.check_text()
        torch.set_num_threads(request.threads)
    if pretrained and conditions.same_init is not None:
        raise UsageError("a checkpoint has no random weights to draw alike; leave out --same-init or --pretrained")
    registry = load_plugins(no_plugin or [])
    installed_proxies(registry)  # a conflict of names is no error of a model
    if record is None:
        asked = [resolve(request.proxies, registry) if request.proxies else None] * len(request.models)
    else:
        recorded_names = [record.names(place) for place in range(len(request.models))]
        asked = [resolve(names, registry) if names else None for names in recorded_names]
    device = options.resolve_device(conditions.device)
    run = ScoreRun(request, conditions, device, registry, record, force, plan)
    kept = KeptWarnings()
    with kept.keeping():
        results = run.results(asked)
    facts = [result.compared for result in results if result.compared is not None and result.scores is not None]
    warnings = differences(facts)
    settings = settings_of(request, conditions, str(device)) if form.json or record is not None else {}
    documents = [_document(result, registry, plan=plan) for result in results]
    if form.json:
        _as_json(results, documents, settings, [*kept, *warnings], run.interrupted)
    elif form.csv:
        as_csv(results, registry, [*kept, *warnings])
    elif plan:
        as_plans(results)
    else:
        whole = ALL in (request.proxies or ())
        as_table(results, registry, warnings, whole=whole, asked=record is not None or bool(request.proxies))
    if form.json or form.csv:
        for warning in warnings:
            tell(f"warning: {warning}")
    code = _report_problems(results, named=record is None and bool(request.proxies))
    if run.interrupted:
        raise KeyboardInterrupt
    raise typer.Exit(code if record is None or plan else max(code, _tell_repeated(record, documents)))


def _document(result: Result, registry: PluginRegistry, *, plan: bool) -> dict[str, Any]:
    """The result for one model as plain data."""
    from lpzero_hf.proxies.resolve import installed_proxies

    document, offered = dict(result.facts), installed_proxies(registry)
    if result.scores is not None:
        document |= result.scores.to_dict()
        for row in document["scores"]:
            claim = offered.get(row["proxy"])  # an expression is no distribution's
            row["distribution"] = claim and claim.distribution
            row["version"] = result.proxy(row["proxy"]).version
            known = evidence_for(result, row["proxy"], [result.kind], registry)[result.kind]
            row["evidence"] = known and known.to_dict()
            row["searched_on"] = result.elsewhere(row["proxy"]) or None
            if len(result.draws) > 1:
                spread = result.spread(row["proxy"])
                row["seeds"] = spread and spread.to_dict()
    if plan and result.plan is not None:
        document["plan"] = result.plan.to_dict()
    if result.error is not None:
        document["error"] = str(result.error)
    return document


def _as_json(
    results: Sequence[Result],
    documents: list[dict[str, Any]],
    settings: dict[str, Any],
    warnings: list[str],
    interrupted: bool,
) -> None:
    from lpzero_hf.artifacts.versions import versions

    document: dict[str, Any] = {
        "models": documents, "settings": settings, "versions": versions(), "warnings": warnings,
        "interrupted": interrupted,
    }  # fmt: skip
    if interrupted:
        for result, one in zip(results, documents, strict=True):
            one["missing"] = None if result.selection is None else result.missing(settings["seeds"])
    if settings["seeds"] > 1:
        scored = [result for result in results if result.scores is not None]
        names = dict.fromkeys(name for result in scored for name in result.draws[0])
        document["differences"] = {
            name: [{"first": one, "second": two, "beyond_seeds": apart} for one, two, apart in beyond(scored, name)]
            for name in names
        }
    print_json(document)


def _tell_repeated(record: ScoreRecord, documents: Sequence[dict[str, Any]]) -> int:
    """Say on stderr whether the scores are those of the record; the exit code."""
    from lpzero_hf.artifacts.versions import versions

    wrong = record.differing(documents, versions())
    for line in wrong:
        tell(f"error: not as in '{record.file}': {line}")
    if not wrong:
        tell(f"all {sum(map(len, record.rows))} scores are those of '{record.file}'")
    return int(bool(wrong))


def _report_problems(results: list[Result], *, named: bool) -> int:
    """One line on stderr per model or proxy without a score, and per thing that scores leave out; the exit code.

    Args:
        results: of the models.
        named: whether proxies were asked for by name, so that it is an error if one is left out.
    """
    code = 0
    for result in results:
        noted: dict[str, list[str]] = {}
        for row in result.scores.rows if result.scores is not None else ():
            if row.status == "ok" and row.reason:
                noted.setdefault(row.reason, []).append(row.proxy)
        for reason, names in noted.items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            tell(f"warning: {result.name}: {reason} ({', '.join(names[:3])}{more})")
        if result.error is not None:
            tell_error(result.error, result.name)
            code = max(code, result.error.exit_code)
        asked = {proxy.name for proxy in result.selection.named} if named and result.selection is not None else set()
        for row in result.scores.rows if result.scores is not None else ():
            if row.status in ("invalid", "failed") or (row.status == "left out" and row.proxy in asked):
                tell(f"error: no score of '{row.proxy}' for '{result.name}', it is {row.status}: {row.reason}")
                code = max(code, 1)
            elif row.status == "left out":
                tell(f"warning: {result.name}: '{row.proxy}' is left out: {row.reason}")
    return code
