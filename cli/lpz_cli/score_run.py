"""Scores models for `lpz score`, one after the other; Ctrl-C keeps the rows that are done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lpz_cli import entry, options
from lpz_cli.output import tell
from lpz_cli.score_live import LiveScores, duration
from lpz_cli.score_record import ScoreRecord, ScoreRequest, checkpoint_content, facts_of_model
from lpz_cli.score_tables import Result
from lpzero_hf.errors import LpzError, one_line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from lpzero_hf.plugins import PluginRegistry
    from lpzero_hf.proxies.resolve import ProxySelection
    from lpzero_hf.scoring.expected_time import ExpectedTime
    from lpzero_hf.scoring.run_plan import RunPlan
    from lpzero_hf.scoring.scores import Scores

NOTABLE = 2**30  # bytes: a run that needs more says so before it starts
LONG = 5.0  # seconds: likewise
LEAST = 10**11  # operations: what takes fewer is not worth finding out how fast they are
FEW = 3  # passes that are named one by one


class ScoreRun:
    """Scores one model after the other, each by every seed.

    Args:
        request: what is asked for.
        conditions: everything else that decides the scores.
        device: where models go.
        registry: of the plugins.
        record: a score to be repeated as it was.
        force: try even what is expected not to fit.
        plan: estimate the memory, and score nothing.
    """

    def __init__(
        self,
        request: ScoreRequest,
        conditions: options.Conditions,
        device: torch.device,
        registry: PluginRegistry,
        record: ScoreRecord | None,
        force: bool,
        plan: bool,
    ) -> None:
        self.request, self.conditions, self.device, self.registry = request, conditions, device, registry
        self.record, self.force, self.plan, self.source = record, force, plan, conditions.source()
        self.interrupted = False

    def results(self, asked: Sequence[ProxySelection | None]) -> list[Result]:
        """The result for each model; after Ctrl-C, with what was done before it.

        Args:
            asked: the proxies of each model; None for those recommended for its kind.
        """
        results = []
        with LiveScores(len(self.request.models)) as live:
            for place, (model, proxies) in enumerate(zip(self.request.models, asked, strict=True)):
                result = Result(model, {"model": model})
                result.selection = proxies
                results.append(result)
                if self.interrupted:
                    continue
                live.begin(place, model)
                try:
                    self._score(result, place, live)
                except KeyboardInterrupt:
                    self.interrupted = True
        if self.interrupted:
            self._tell_how_to_go_on(results)
        return results

    def _score(self, result: Result, place: int, live: LiveScores) -> None:
        try:
            for seed in range(self.conditions.seed, self.conditions.seed + self.request.seeds):
                self._draw(result, seed, place, live)
                if self.plan:
                    break
        except LpzError as error:
            result.error = error
        except Exception as error:  # an error in a third-party model must not lose the scores of the others
            if entry.interrupted():  # an import, for example, that was cut short
                raise KeyboardInterrupt from error
            if options.debugging():
                raise
            result.error = LpzError(
                f"'{result.name}' could not be scored: {one_line(error)}; --debug shows the traceback"
            )

    def _draw(self, result: Result, seed: int, place: int, live: LiveScores) -> None:
        """Add the scores by one seed to the result, or the plan."""
        import torch

        from lpzero_hf.models.load import load_model
        from lpzero_hf.models.minibatch import minibatch
        from lpzero_hf.models.model_kind import model_kind
        from lpzero_hf.proxies.evidence import chosen
        from lpzero_hf.scoring.comparability import facts_of
        from lpzero_hf.scoring.score import score_proxies

        request, conditions, registry = self.request, self.conditions, self.registry
        loaded = load_model(
            result.name, pretrained=request.pretrained, seed=seed, dtype=getattr(torch, conditions.dtype),
            device=self.device, trust_remote_code=request.trust_remote_code, plugins=registry, lazy=True,
            force=self.force, attention=conditions.attn, init_std=conditions.same_init,
        )  # fmt: skip
        result.kind = model_kind(loaded.model)
        if result.selection is None:
            result.selection = chosen(None, [result.kind], registry)
        selection = result.selection
        batch = minibatch(
            loaded.model, text=self.source, tokenizer=loaded.tokenizer, batch_size=request.batch_size,
            seq_len=request.seq_len, seed=seed, random_tokens=conditions.random_tokens,
        ) if any(proxy.uses_minibatch for proxy in selection) else None  # fmt: skip
        if result.plan is None:
            shape = None if batch is None else (batch["input_ids"].shape[0], batch["input_ids"].shape[1])
            result.facts |= {
                "class": type(loaded.model).__name__,
                "kind": result.kind,
                "weights": "pretrained" if request.pretrained else "random",
                "batch_size": shape and shape[0],
                "seq_len": shape and shape[1],
            } | facts_of_model(loaded.model, loaded.tokenizer, batch)
            if request.pretrained:
                result.facts["checkpoint"] = checkpoint_content(result.name, loaded.model)
            result.compared = facts_of(result.name, loaded.model, shape, drawn=not request.pretrained)
            result.plan = self._planned(result, place, loaded.model, batch, live)
            if self.plan:
                return
            if shape is not None:
                selection.warn_of_minibatch(*shape)
        drawn: list[Scores] = []

        def step(name: str, done: int, steps: int) -> None:
            if entry.interrupted():  # where it could not be raised
                raise KeyboardInterrupt
            live.step(name, done, steps)

        def finished(scores: Scores) -> None:
            drawn[:] = [scores]
            # Not the way of the plan, if the model refused that: the score is repeated in the way that it ran.
            result.facts |= {"checkpointing": scores.checkpointing, "micro_batch": scores.micro_batch}
            live.scored(scores)
            entry.keep_rows(bool(scores.rows))

        try:
            scores = score_proxies(
                loaded.model, batch, selection, result.plan, seed=seed, plugins=registry, progress=step,
                finished=finished,
            )  # fmt: skip
        except KeyboardInterrupt:
            if not result.draws and drawn:  # of several draws, only whole ones
                result.draws.append(drawn[0])
            raise
        result.draws.append(scores)

    def _planned(self, result: Result, place: int, model: PreTrainedModel, batch: Any, live: LiveScores) -> RunPlan:
        """How the model is scored, told where it takes much. Raises `DoesNotFit` if nothing fits."""
        from lpzero_hf.proxies.base import single
        from lpzero_hf.scoring.run_plan import plan_run

        assert result.selection is not None
        request = self.request if self.record is None else self.record.of_model(place)
        made = plan_run(
            model, batch, result.selection, checkpointing=request.checkpointing, micro_batch=request.micro_batch,
            fixed=self.record is not None, force=self.force, notable=0 if self.plan else NOTABLE, device=self.device,
            plugins=self.registry,
        )  # fmt: skip
        result.facts |= {"checkpointing": made.checkpointing, "micro_batch": made.micro_batch}
        scored = [p for p in result.selection if not any(one.name in made.left_out for one in single([p]))]
        estimate = made.estimate
        if estimate is not None and not scored and not self.plan:
            estimate.check()
        result.expected = live.expected = self._expected(model, batch, scored, made.checkpointing)
        if self.plan:
            return made
        if estimate is not None and (estimate.bytes > NOTABLE or estimate.fallback):
            how = [] if made.checkpointing == request.checkpointing else ["with checkpointing"]
            how += [] if made.micro_batch == request.micro_batch else [f"in micro-batches of {made.micro_batch}"]
            less = f"; run {' and '.join(how)}, to leave memory free" if how else ""
            tell(f"{result.name} needs {estimate.describe()}{less}")
        if result.expected is not None and result.expected.total * self.request.seeds >= LONG:
            tell(f"{result.name} takes {_told(result.expected, self.request.seeds)}")
        return made

    def _expected(
        self, model: PreTrainedModel, batch: Any, scored: Sequence[Any], checkpointing: bool
    ) -> ExpectedTime | None:
        """The time that the passes are expected to take; None if it is little."""
        import torch

        from lpzero_hf.scoring.expected_time import expected_time, measured_rate

        least = expected_time(model, batch, scored, checkpointing=checkpointing, rate=1.0)
        if least.total < LEAST:
            return None
        rate = measured_rate(getattr(torch, self.conditions.dtype), self.device)
        return expected_time(model, batch, scored, checkpointing=checkpointing, rate=rate)

    def _tell_how_to_go_on(self, results: Sequence[Result]) -> None:
        """Let the line about the interruption say what is left."""
        left = [result for result in results if result.missing(self.request.seeds)]
        if self.record is not None or not left or not any(result.draws for result in results):
            return
        several = len(self.request.models) > 1
        names = [name for result in left for name in result.missing(self.request.seeds)]
        one = len(left) == 1 and left[0].selection is not None and len(names) < len(left[0].selection)
        quoted = [f"-p '{name}'" if "(" in name else f"-p {name}" for name in names]
        proxies = f" with {' '.join(quoted)}" if one else ""
        models = f" for {' '.join(result.name for result in left)} alone" if several else ""
        entry.go_on(f"; the same command{models}{proxies} scores what is left")


def _told(expected: ExpectedTime, seeds: int) -> str:
    """What takes how long, the longest first."""
    steps = sorted(expected.steps.items(), key=lambda one: -one[1])
    named = [f"{name} {duration(seconds)}" for name, seconds in steps[:FEW] if seconds >= 1]
    rest = sum(seconds for _, seconds in steps[len(named) :])
    named += [f"the others {duration(rest)}"] if rest >= 1 else []
    each = f" for each of {seeds} seeds" if seeds > 1 else ""
    return f"about {duration(expected.total)}{each}: {', '.join(named)}"
