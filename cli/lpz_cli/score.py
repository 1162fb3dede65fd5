"""`lpz score`: scores of models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.grouping import grouped
from lpz_cli.output import print_json, tell, tell_error
from lpz_cli.progress import progress_bar
from lpz_cli.score_record import ScoreRecord, ScoreRequest, facts_of_model, read_record, settings_of
from lpz_cli.score_tables import Result, as_csv, as_estimates, as_table, beyond, evidence_for
from lpz_cli.score_tables import shown as shown
from lpzero_hf.errors import LpzError, UsageError, one_line
from lpzero_hf.plugins import PluginRegistry, load_plugins

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from lpzero_hf.proxies.resolve import ProxySelection

NOTABLE = 2**30  # bytes: a run that needs more says so before it starts


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
    --proxy, the proxies are the few recommended for models of its kind; --proxy all takes every one installed.

    Example: `lpz score gpt2-variant bert-mini --proxy snip --proxy params`
    """
    if form.csv and plan:
        raise UsageError("--plan has no CSV; leave out --csv, or ask for --json")
    record = None if recorded is None else read_record(recorded, context)
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
        asked = [resolve(request.proxies, registry)] * len(request.models) if request.proxies else None
    else:
        asked = [resolve(record.names(place), registry) for place in range(len(request.models))]
    device = options.resolve_device(conditions.device)
    scoring = _Scoring(request, conditions, device, registry, force, plan)
    with _progress(len(request.models)) as start:
        results = [
            scoring.result(model, asked[place] if asked else None, start(place, model))
            for place, model in enumerate(request.models)
        ]
    facts = [result.compared for result in results if result.compared is not None and result.scores is not None]
    warnings = differences(facts)
    settings = settings_of(request, conditions, str(device)) if form.json or record is not None else {}
    documents = [_document(result, registry) for result in results]
    if form.json:
        _as_json(results, documents, settings, warnings)
    elif form.csv:
        as_csv(results, registry, warnings)
    elif plan:
        as_estimates(results)
    else:
        whole = ALL in (request.proxies or ())
        as_table(results, registry, warnings, whole=whole, asked=asked is not None)
    if form.json or form.csv:
        for warning in warnings:
            tell(f"warning: {warning}")
    code = _report_problems(results)
    raise typer.Exit(code if record is None or plan else max(code, _tell_repeated(record, documents)))


class _Scoring:
    """Scores one model after the other, each by every seed."""

    def __init__(
        self,
        request: ScoreRequest,
        conditions: options.Conditions,
        device: torch.device,
        registry: PluginRegistry,
        force: bool,
        plan: bool,
    ) -> None:
        self.request, self.conditions, self.device, self.registry = request, conditions, device, registry
        self.force, self.plan, self.source = force, plan, conditions.source()

    def result(self, model: str, proxies: ProxySelection | None, progress: Callable[[str, int, int], None]) -> Result:
        """The scores of a model by the proxies, by default those recommended for its kind, or its error."""
        result = Result(model, {"model": model})
        result.selection = proxies
        try:
            for seed in range(self.conditions.seed, self.conditions.seed + self.request.seeds):
                self._draw(result, seed, progress)
                if self.plan:
                    break
        except LpzError as error:
            result.error = error
        except Exception as error:  # an error in a third-party model must not lose the scores of the others
            if options.debugging():
                raise
            result.error = LpzError(f"'{model}' could not be scored: {one_line(error)}; --debug shows the traceback")
        return result

    def _draw(self, result: Result, seed: int, progress: Callable[[str, int, int], None]) -> None:
        """Add the scores by one seed to the result, or the estimate of the memory."""
        import torch

        from lpzero_hf.models.load import load_model
        from lpzero_hf.models.minibatch import minibatch
        from lpzero_hf.models.model_kind import model_kind
        from lpzero_hf.proxies.evidence import recommended
        from lpzero_hf.proxies.resolve import resolve
        from lpzero_hf.scoring.comparability import facts_of
        from lpzero_hf.scoring.score import score_proxies

        request, conditions, registry = self.request, self.conditions, self.registry
        loaded = load_model(
            result.name, pretrained=request.pretrained, seed=seed, dtype=getattr(torch, conditions.dtype),
            device=self.device, trust_remote_code=request.trust_remote_code, plugins=registry, lazy=True,
            force=self.force, attention=conditions.attn, init_std=conditions.same_init,
        )  # fmt: skip
        first = not result.draws
        result.kind = model_kind(loaded.model)
        if result.selection is None:
            result.selection = resolve(recommended(result.kind, registry), registry)
        selection = result.selection
        batch = minibatch(
            loaded.model, text=self.source, tokenizer=loaded.tokenizer, batch_size=request.batch_size,
            seq_len=request.seq_len, seed=seed, random_tokens=conditions.random_tokens,
        ) if any(proxy.uses_minibatch for proxy in selection) else None  # fmt: skip
        shape = None if batch is None else (batch["input_ids"].shape[0], batch["input_ids"].shape[1])
        if first:
            result.facts |= {
                "class": type(loaded.model).__name__,
                "kind": result.kind,
                "weights": "pretrained" if request.pretrained else "random",
                "batch_size": shape and shape[0],
                "seq_len": shape and shape[1],
            } | facts_of_model(loaded.model, loaded.tokenizer, batch)
            result.compared = facts_of(result.name, loaded.model, shape, drawn=not request.pretrained)
            self._check_memory(result, loaded.model, batch)
            if self.plan:
                return
            if shape is not None:
                selection.warn_of_minibatch(*shape)
        result.draws.append(
            score_proxies(
                loaded.model, batch, selection, seed=seed, checkpointing=request.checkpointing,
                micro_batch=request.micro_batch, plugins=registry, progress=progress,
            )
        )  # fmt: skip

    def _check_memory(self, result: Result, model: Any, batch: Any) -> None:
        """Note the memory that the scores need, and refuse what does not fit."""
        from lpzero_hf.models.layout import layout_of
        from lpzero_hf.scoring.memory_estimate import estimate_memory

        assert result.selection is not None
        expected = estimate_memory(
            model, batch, result.selection, layout_of(model, self.registry),
            checkpointing=self.request.checkpointing, device=self.device,
        )  # fmt: skip
        if self.plan:
            result.estimate = expected
            return
        if not self.force:
            expected.check()
        if expected.bytes > NOTABLE or expected.fallback:
            tell(f"{result.name} needs {expected.describe()}")


@contextmanager
def _progress(models: int) -> Iterator[Callable[[int, str], Callable[[str, int, int], None]]]:
    """A progress bar on stderr over models and their passes."""
    with progress_bar() as bar:
        task = bar.add_task("starting", total=models)

        def start(index: int, model: str) -> Callable[[str, int, int], None]:
            bar.update(task, description=f"{model}: building", completed=index)

            def advance(step: str, done: int, steps: int) -> None:
                text = f"{model}: {step or 'done'}"
                bar.update(task, description=text, completed=index + done / max(steps, 1))

            return advance

        yield start


def _document(result: Result, registry: PluginRegistry) -> dict[str, Any]:
    """The result for one model as plain data."""
    from lpzero_hf.proxies.resolve import installed_proxies

    document, offered = dict(result.facts), installed_proxies(registry)
    if result.scores is not None:
        document |= result.scores.to_dict()
        for row in document["scores"]:
            claim = offered.get(row["proxy"])  # an expression is no distribution's
            row["distribution"] = claim and claim.distribution
            known = evidence_for(result, row["proxy"], [result.kind], registry)[result.kind]
            row["evidence"] = known and known.to_dict()
            row["searched_on"] = result.elsewhere(row["proxy"]) or None
            if len(result.draws) > 1:
                spread = result.spread(row["proxy"])
                row["seeds"] = spread and spread.to_dict()
    if result.estimate is not None:
        document["plan"] = result.estimate.to_dict()
    if result.error is not None:
        document["error"] = str(result.error)
    return document


def _as_json(
    results: Sequence[Result], documents: list[dict[str, Any]], settings: dict[str, Any], warnings: list[str]
) -> None:
    from lpzero_hf.artifacts.versions import versions

    document: dict[str, Any] = {"models": documents, "settings": settings, "versions": versions(), "warnings": warnings}
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


def _report_problems(results: list[Result]) -> int:
    """One line on stderr per model or proxy without a score, and per thing that scores leave out; the exit code."""
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
        for row in result.scores.rows if result.scores is not None else ():
            if row.status in ("invalid", "failed"):
                tell(f"error: no score of '{row.proxy}' for '{result.name}', it is {row.status}: {row.reason}")
                code = max(code, 1)
    return code
