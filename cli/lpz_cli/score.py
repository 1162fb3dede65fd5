"""`lpz score`: a table of scores of models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.evidence import COLUMNS, Found, evidence_cells, evidence_line, evidence_of_kinds
from lpz_cli.grouping import grouped
from lpz_cli.listing import BETTER
from lpz_cli.output import print_csv, print_json, print_table, say, tell
from lpz_cli.progress import progress_bar
from lpzero_hf.errors import LpzError, UsageError, one_line
from lpzero_hf.plugins import PluginRegistry, load_plugins

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpzero_hf.models.model_kind import Kind
    from lpzero_hf.proxies.resolve import ProxySelection
    from lpzero_hf.scoring.memory_estimate import MemoryEstimate
    from lpzero_hf.scoring.scores import Scores

NOTABLE = 2**30  # bytes: a run that needs more says so before it starts


@dataclass
class Result:
    """The result for one model: its scores, or the error, or the memory that they would need."""

    name: str
    facts: dict[str, Any]
    kind: Kind = "other"
    selection: ProxySelection | None = None
    scores: Scores | None = None
    error: LpzError | None = None
    estimate: MemoryEstimate | None = None


@grouped
def score(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Zoo names, Hub ids, local folders or config.json files.")
    ],
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
    seed = conditions.seed
    from lpzero_hf.proxies.evidence import recommended
    from lpzero_hf.proxies.resolve import ALL, installed_proxies, resolve

    source = conditions.source()
    device = options.resolve_device(conditions.device)
    registry = load_plugins(no_plugin or [])
    installed_proxies(registry)  # a conflict of names is no error of a model
    asked = resolve(proxy, registry) if proxy else None

    def work(model: str, progress: Callable[[str, int, int], None]) -> Result:
        import torch

        from lpzero_hf.models.layout import layout_of
        from lpzero_hf.models.load import load_model
        from lpzero_hf.models.minibatch import minibatch
        from lpzero_hf.models.model_kind import model_kind
        from lpzero_hf.scoring.memory_estimate import estimate_memory
        from lpzero_hf.scoring.score import score_proxies

        result = Result(model, {"model": model})
        try:
            loaded = load_model(
                model, pretrained=pretrained, seed=seed, dtype=getattr(torch, conditions.dtype),
                device=device, trust_remote_code=trust_remote_code, plugins=registry, lazy=True, force=force,
                attention=conditions.attn,
            )  # fmt: skip
            result.kind = model_kind(loaded.model)
            selection = result.selection = asked or resolve(recommended(result.kind, registry), registry)
            batch = minibatch(
                loaded.model, text=source, tokenizer=loaded.tokenizer, batch_size=batch_size,
                seq_len=seq_len, seed=seed, random_tokens=conditions.random_tokens,
            ) if any(proxy.uses_minibatch for proxy in selection) else None  # fmt: skip
            sizes = (None, None) if batch is None else batch["input_ids"].shape
            result.facts |= {
                "class": type(loaded.model).__name__,
                "kind": result.kind,
                "weights": "pretrained" if pretrained else "random",
                "batch_size": sizes[0],
                "seq_len": sizes[1],
            }
            expected = estimate_memory(
                loaded.model, batch, selection, layout_of(loaded.model, registry),
                checkpointing=checkpointing, device=device,
            )  # fmt: skip
            if plan:
                result.estimate = expected
                return result
            if not force:
                expected.check()
            if expected.bytes > NOTABLE or expected.fallback:
                tell(f"{model} needs {expected.describe()}")
            if batch is not None:
                selection.warn_of_minibatch(*batch["input_ids"].shape)
            result.scores = score_proxies(
                loaded.model, batch, selection, seed=seed, checkpointing=checkpointing, micro_batch=micro_batch,
                plugins=registry, progress=progress,
            )  # fmt: skip
        except LpzError as error:
            result.error = error
        except Exception as error:  # an error in a third-party model must not lose the scores of the others
            if options.debugging():
                raise
            result.error = LpzError(f"'{model}' could not be scored: {one_line(error)}; --debug shows the traceback")
        return result

    with _progress(len(models)) as start:
        results = [work(model, start(index, model)) for index, model in enumerate(models)]
    if form.json:
        _as_json(results, registry, {"seed": seed, "dtype": conditions.dtype, "device": str(device)})
    elif form.csv:
        _as_csv(results, registry)
    elif plan:
        _as_estimates(results)
    else:
        _as_table(results, registry, whole=ALL in (proxy or ()), asked=asked is not None)
    raise typer.Exit(_report_problems(results))


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


def _as_json(results: list[Result], registry: PluginRegistry, settings: dict[str, Any]) -> None:
    from lpzero_hf.artifacts.versions import versions
    from lpzero_hf.proxies.resolve import installed_proxies

    documents, offered = [], installed_proxies(registry)
    for result in results:
        document = dict(result.facts)
        if result.scores is not None:
            document |= result.scores.to_dict()
            for row in document["scores"]:
                claim = offered.get(row["proxy"])  # an expression is no distribution's
                row["distribution"] = claim and claim.distribution
                known = _evidence(result, row["proxy"], [result.kind], registry)[result.kind]
                row["evidence"] = known and known.to_dict()
        if result.estimate is not None:
            document["plan"] = result.estimate.to_dict()
        if result.error is not None:
            document["error"] = str(result.error)
        documents.append(document)
    print_json({"models": documents, "settings": settings, "versions": versions()})


def _as_estimates(results: list[Result]) -> None:
    estimated = [(result, result.estimate) for result in results if result.estimate is not None]
    if not estimated:
        return
    rows = []
    for result, estimate in estimated:
        rows.append([result.name, "weights", "", "", "", f"{estimate.weights / 2**30:.2f}"])
        for need in estimate.passes:
            parts = (need.copies, need.gradients, need.activations, need.total)
            rows.append([result.name, f"{need.name} pass", *(f"{part / 2**30:.2f}" for part in parts)])
        rows.append([result.name, "at most at a time", "", "", "", f"{estimate.bytes / 2**30:.2f}"])
    print_table(
        "GiB beyond the memory in use now",
        ("model", "what", "copies", "gradients", "activations", "sum"),
        rows,
        [2, 3, 4, 5],
    )
    for result, estimate in estimated:
        free = "unknown" if estimate.available is None else f"{estimate.available / 2**30:.1f} GiB"
        verdict = "it fits" if estimate.fits else f"it does not fit. {estimate.remedy()}"
        say(f"{result.name} needs {estimate.describe()}. Free: {free}; {verdict}.")


def _evidence(result: Result, proxy: str, kinds: Sequence[Kind], registry: PluginRegistry) -> Found:
    assert result.selection is not None
    return evidence_of_kinds(next(one for one in result.selection if one.name == proxy), kinds, registry)


def _as_csv(results: list[Result], registry: PluginRegistry) -> None:
    rows = []
    for result in results:
        for row in result.scores.rows if result.scores is not None else ():
            known = _evidence(result, row.proxy, [result.kind], registry)[result.kind]
            told = ["", "", ""] if known is None else [known.matched, known.rho, len(known.measured)]
            value = "" if row.value is None else repr(row.value)
            rows.append([result.name, row.proxy, value, row.status, row.orientation, row.reason, *told])
    header = ("model", "proxy", "score", "status", "orientation", "reason", "matched", "rho", "benchmarks")
    print_csv(header, rows)


def shown(value: float) -> str:
    """A score for people: counts in full, other numbers with six digits."""
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def _as_table(results: list[Result], registry: PluginRegistry, *, whole: bool, asked: bool) -> None:
    scored = [(result, result.scores) for result in results if result.scores is not None]
    if not scored:
        return
    kinds = list(dict.fromkeys(result.kind for result, _ in scored))
    title = f"{', '.join(r.name for r, _ in scored)} · {scored[0][0].facts['weights']} weights"
    if sizes := dict.fromkeys(
        f"{r.facts['batch_size']} x {r.facts['seq_len']}" for r, _ in scored if r.facts["seq_len"]
    ):
        title += f" · {' / '.join(sizes)} tokens"
    rows = []
    for proxy in dict.fromkeys(proxy for _, scores in scored for proxy in scores):
        cells = [scores.get(proxy) for _, scores in scored]  # other kinds of models have other recommended proxies
        result, first = next((result, scores[proxy]) for result, scores in scored if proxy in scores)
        notes = dict.fromkeys(f"{cell.status}: {cell.reason}" for cell in cells if cell and cell.value is None)
        values = ["" if cell is None else "—" if cell.value is None else shown(cell.value) for cell in cells]
        told = [] if whole else evidence_cells(_evidence(result, proxy, kinds, registry))
        rows.append([proxy, *values, BETTER[first.orientation], *told, "; ".join(notes)])
    names = ["score"] if len(scored) == 1 else [result.name for result, _ in scored]
    header = ["proxy", *names, "better", *([] if whole else COLUMNS)]
    numbers = [*range(1, len(scored) + 1), *range(len(scored) + 2, len(header))]
    if any(row[-1] for row in rows):
        header.append("note")
    print_table(title, header, [row[: len(header)] for row in rows], numbers)
    if not whole:
        say(evidence_line(kinds))
    if not asked:
        say("These are the recommended proxies; --proxy all scores with every one installed, `lpz proxies` lists them.")


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
            tell(f"error: {result.error}")
            code = max(code, result.error.exit_code)
        for row in result.scores.rows if result.scores is not None else ():
            if row.status in ("invalid", "failed"):
                tell(f"error: no score of '{row.proxy}' for '{result.name}', it is {row.status}: {row.reason}")
                code = max(code, 1)
    return code
