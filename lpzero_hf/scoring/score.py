"""Scores one model with many proxies, sharing passes between them."""

from __future__ import annotations

import gc
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpzero_hf.capture.audit import not_run
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import WORDS, Captured, Network, Reduced, Reduction
from lpzero_hf.errors import (
    InvalidScore,
    ModelWarning,
    NotApplicable,
    RoundingWarning,
    UsageError,
    WayRefused,
    one_line,
)
from lpzero_hf.foreign import Survived
from lpzero_hf.models.given_batch import GivenBatch
from lpzero_hf.models.isolation import isolated
from lpzero_hf.models.layout import ModelLayout, layout_of
from lpzero_hf.models.lazy import source_of
from lpzero_hf.models.meta_device import ShapesOnly
from lpzero_hf.models.minibatch import NoMinibatch, check_minibatch
from lpzero_hf.models.objective import has_own_loss, projection_warning, with_labels
from lpzero_hf.models.plain_layers import plain_layers
from lpzero_hf.models.readable import check_readable
from lpzero_hf.models.running import running_layout
from lpzero_hf.models.torch_names import precision
from lpzero_hf.models.unwrap import unwrapped
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.proxies.base import FunctionProxy, ModelProxy, Proxy, StatisticProxy, Subject, ranks_a_set, single
from lpzero_hf.proxies.evidence import chosen
from lpzero_hf.proxies.resolve import ProxyLike
from lpzero_hf.scoring.composite_scores import add_composite_scores
from lpzero_hf.scoring.pass_order import OwnPass, passes_of
from lpzero_hf.scoring.run_plan import AS_IT_IS, RunPlan, Way, plan_run
from lpzero_hf.scoring.scores import Score, Scores, Status

LOG = logging.getLogger(__name__)
PROJECTED = "gradients are those of a random projection of the output, for want of a loss"
OUT_OF_MEMORY = (
    "out of memory, and passes of its own run on the whole minibatch; a smaller `batch_size=` or `seq_len=` needs less"
)


def score(
    model: nn.Module,
    batch: GivenBatch | None,
    proxies: ProxyLike | Iterable[ProxyLike] | None = None,
    *,
    seed: int = 42,
    dtype: str | torch.dtype | None = None,
    checkpointing: bool = False,
    micro_batch: int | None = None,
    force: bool = False,
    plugins: PluginRegistry | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    finished: Callable[[Scores], None] | None = None,
) -> Scores:
    """Score a model without training it.

    All proxies made of captured statistics share one forward and one backward pass; the others run passes
    of their own, the costly ones last. The model runs in eval mode and is left unchanged: weights, gradients, buffers,
    hooks, modes, `requires_grad` and random number generators. Of a lazy model (`load_model(..., lazy=True)`) only
    what the proxies need is made, and freed again. Where memory is short, blocks are checkpointed, then the minibatch
    is split into micro-batches; proxies for which that is not enough are left out.

    Args:
        model: any `PreTrainedModel`, on any device; also compiled, in (distributed) data parallelism, averaged, with
            parametrized or pruned weights, or with adapters, which are merged: the scores are those of the plain model
            that computes the same.
        batch: what a tokenizer returns: `input_ids` [B, T], optionally `attention_mask`, `labels`, ...; a `DataLoader`
            (its first batch) or rows of a dataset; what the model does not take is left out, with a note; None if no
            proxy uses it (counts, norms of weights), which are then to be named.
        proxies: names, `Proxy` objects or functions `f(model, batch) -> float`; "all" for all installed; None for the
            few that are `recommended` for the model, as `lpz score` does.
        seed: for every random number.
        dtype: precision of the shared passes, by name or as torch has it; None keeps the model's.
        checkpointing: in the shared passes, keep only the inputs of blocks and run each block a second time for its
            gradients: less memory, more time, the same scores.
        micro_batch: maximum number of sequences at a time in the shared passes: the same scores to rounding. None
            runs all, or fewer where memory asks for it (with a `MicroBatchWarning` if the device runs out of it).
        force: try even what is expected not to fit into the free memory, and only as asked.
        plugins: where names are looked up; by default everything installed.
        progress: called with (name of the next step, steps done, total number of steps).
        finished: called after every pass with the scores so far, so that an interrupted call need not lose them.

    Returns:
        One `Score` per proxy. If a proxy fails, is not applicable, gives no finite number or would not fit into the
        free memory ("left out"), its `Score` has the reason, and the others continue. Warns (`ModelWarning`) if
        gradients are not those of the model's own loss, because it has none.

    Raises:
        UsageError: a proxy is unknown, two have one name, `micro_batch` is less than 1, or a proxy uses the missing
            minibatch.
        ModelError: it is wrapped in something unknown, traced, quantized, in shards, or has no values.
        LayoutError: the model has no blocks that could be found.
        MinibatchError: the minibatch is empty or does not fit the model.

    Example:
        >>> from lpzero_hf import minibatch, score
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=2, vocab_size=4096))
        >>> score(model, minibatch(model), ["snip", "params"])["params"].require()
        427776.0
    """
    plugins = load_plugins() if plugins is None else plugins
    dtype = None if dtype is None else precision(dtype)
    scored = unwrapped(model)
    selection = chosen(proxies, [scored], plugins)
    checked = None if batch is None else check_minibatch(batch, scored)
    if checked is not None:
        selection.warn_of_minibatch(*checked["input_ids"].shape)
    if source_of(scored) is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelWarning)  # which scoring gives
            check_readable(scored, shapes_suffice=all(proxy.requires == "shapes" for proxy in single(selection)))
    with plain_layers(scored):
        plan = plan_run(
            scored, checked, selection, dtype=dtype, checkpointing=checkpointing, micro_batch=micro_batch, force=force,
            plugins=plugins,
        )  # fmt: skip
    return score_proxies(
        scored, checked, selection, plan,
        seed=seed, dtype=dtype, plugins=plugins, progress=progress, finished=finished,
    )  # fmt: skip


def score_proxies(
    model: PreTrainedModel,
    batch: Mapping[str, Any] | None,
    proxies: Sequence[Proxy],
    plan: RunPlan = AS_IT_IS,
    *,
    seed: int = 42,
    dtype: torch.dtype | None = None,
    plugins: PluginRegistry,
    progress: Callable[[str, int, int], None] | None = None,
    finished: Callable[[Scores], None] | None = None,
) -> Scores:
    """As `score`, for resolved proxies and a minibatch that fits the model (`check_minibatch`).

    Args:
        plan: how shared passes run, and which proxies are not scored although requested.
    """
    requested, wanted = proxies, single(proxy for proxy in proxies if not ranks_a_set(proxy))
    proxies = tuple(proxy for proxy in wanted if proxy.name not in plan.left_out)
    without = {p.name: _row(p, None, "left out", plan.left_out[p.name]) for p in wanted if p.name in plan.left_out}
    if plan.micro_batch is not None and plan.micro_batch < 1:
        raise UsageError(f"micro-batches of {plan.micro_batch} sequences are not possible; ask for at least 1")
    if batch is None and (using := [proxy.name for proxy in proxies if proxy.uses_minibatch]):
        raise UsageError(
            f"{', '.join(using[:3])} cannot be scored without a minibatch; give one, as `minibatch(model)` makes it, "
            "or name proxies that need none, such as 'params'"
        )
    model = _sufficient(unwrapped(model), proxies)
    given = NoMinibatch() if batch is None else dict(batch)
    if any(_differentiates(proxy) for proxy in proxies) and not has_own_loss(model, given):
        warnings.warn(projection_warning(model), ModelWarning, stacklevel=3)
    passes = _Passes(model, given, seed, dtype, plan, plugins)
    with plain_layers(model):
        captures = any(isinstance(proxy, StatisticProxy) and proxy.passes != "none" for proxy in proxies)
        layout = running_layout(model, layout_of(model, plugins), given, seed, told_later=captures)

        def tell(rows: dict[str, Score], seconds: dict[str, float]) -> None:
            if finished is not None:
                finished(made(rows, seconds))

        def made(rows: dict[str, Score], seconds: dict[str, float]) -> Scores:
            return Scores(_composed(without | rows, requested), dict(seconds), *passes.way)

        return made(*passes.scores(proxies, layout, progress, tell))


def _composed(rows: Mapping[str, Score], requested: Sequence[Proxy]) -> tuple[Score, ...]:
    """The scores of the requested proxies, from those of the proxies that read the model, as far as there are any."""
    made = {name: asdict(row) for name, row in rows.items()}
    there = [p for p in requested if ranks_a_set(p) or all(one.name in made for one in single([p]))]
    add_composite_scores({"": made}, there)
    return tuple(Score(**made[proxy.name]) for proxy in there)


def _sufficient(model: PreTrainedModel, proxies: Sequence[Proxy]) -> PreTrainedModel:
    """`model`; or the whole model, if it is lazy and `proxies` need more than shapes or one weight at a time.

    Raises:
        ModelError: it is not lazy, and its weights cannot be read.
    """
    source = source_of(model)
    if source is None:
        check_readable(model, shapes_suffice=all(proxy.requires == "shapes" for proxy in proxies))
        return model
    wanted = {proxy.requires for proxy in proxies}
    one_by_one = "model" not in wanted and ("weights" not in wanted or source.read is not None)
    return model if one_by_one else source.whole()


def _differentiates(proxy: Proxy) -> bool:
    """Whether `proxy` reads gradients of the objective."""
    if isinstance(proxy, StatisticProxy):
        return proxy.network.own_loss and "backward" in proxy.passes
    return isinstance(proxy, ModelProxy) and "backward" in proxy.passes


@dataclass
class _Passes:
    """The settings of the passes over one model, see `score`; the way of the plan that the model does not refuse."""

    model: PreTrainedModel
    batch: dict[str, Any]
    seed: int
    dtype: torch.dtype | None
    plan: RunPlan
    plugins: PluginRegistry

    def __post_init__(self) -> None:
        self.ways = [(self.plan.checkpointing, self.plan.micro_batch), *self.plan.instead]

    @property
    def way(self) -> Way:
        """Whether blocks run twice, and how many sequences run at a time."""
        return self.ways[0]

    def scores(
        self,
        proxies: Sequence[Proxy],
        layout: ModelLayout,
        progress: Callable[[str, int, int], None] | None,
        finished: Callable[[dict[str, Score], dict[str, float]], None],
    ) -> tuple[dict[str, Score], dict[str, float]]:
        """The rows by proxy, and the seconds of shared passes, from the blocks of `layout` or of those that run.

        Args:
            proxies: that read the model.
            layout: of the model.
            progress: called before each pass and at the end.
            finished: called after each pass with the rows by proxy, and the seconds of shared passes, so far; with
                none of them if all passes begin again, because blocks turned out not to run.
        """
        passes = passes_of(proxies)
        names = {} if has_own_loss(self.model, self.batch) else {p.name for p in proxies if _differentiates(p)}
        rows: dict[str, Score] = {}
        seconds: dict[str, float] = {}
        for done, one in enumerate(passes):
            if progress is not None:
                progress(one.step, done, len(passes))
            start = time.perf_counter()
            if isinstance(one, OwnPass):
                found = {one.proxy.name: self._own(one.proxy, layout)}
            else:
                found, idle = self._shared(one.network, one.proxies, layout)
                if idle:  # once more, without the blocks that turned out not to run
                    finished({}, {})
                    left = layout.only({block.name for block in layout.blocks} - idle)
                    return self.scores(proxies, left, progress, finished)
                seconds[one.network.name] = time.perf_counter() - start
            rows |= {name: row.noted(PROJECTED) if name in names else row for name, row in found.items()}
            finished(rows, seconds)
        if progress is not None:
            progress("", len(passes), len(passes))
        return rows, seconds

    def _shared(
        self, network: Network, proxies: Sequence[StatisticProxy], layout: ModelLayout
    ) -> tuple[dict[str, Score], frozenset[str]]:
        """The scores, and the names of the blocks that did not run."""
        reductions = list(dict.fromkeys(r for proxy in proxies for r in proxy.reductions))
        try:
            captured = self._captured(network, reductions, layout)
        except Exception as error:  # any error of a third-party model is reported in the rows
            LOG.debug("the %s pass failed", network.name, exc_info=True)
            return {proxy.name: _failed(proxy, error) for proxy in proxies}, frozenset()
        if captured.idle:
            return {}, captured.idle

        def combined(proxy: StatisticProxy) -> float:
            return proxy.finish([_reduced(captured, r, layout, self.plan) for r in proxy.reductions], layout)

        def note(proxy: StatisticProxy) -> str:
            return "; ".join(dict.fromkeys(captured.notes[r] for r in proxy.reductions if r in captured.notes))

        return {proxy.name: _scored(proxy, partial(combined, proxy), note(proxy)) for proxy in proxies}, frozenset()

    def _captured(self, network: Network, reductions: Sequence[Reduction], layout: ModelLayout) -> Captured:
        """What a pass captures, in the first way that the model does not refuse; it is that of later passes too."""
        # Without a minibatch only W is read, and nothing runs.
        batch = {"input_ids": torch.zeros(1, 2, dtype=torch.long)} if self._without_batch else self.batch
        while True:
            checkpointing, micro_batch = self.way
            with Survived():
                captured = capture(
                    self.model, batch, reductions, layout, network=network, dtype=self.dtype, seed=self.seed,
                    checkpointing=checkpointing, micro_batch=micro_batch,
                )  # fmt: skip
            refused = any(isinstance(error, WayRefused) for error in captured.failures.values())
            if not refused or len(self.ways) == 1:
                return captured
            del self.ways[0], captured
            gc.collect()  # free what the refused pass has left behind

    def _own(self, proxy: ModelProxy | FunctionProxy, layout: ModelLayout) -> Score:
        source = source_of(self.model)
        running = {block.name for block in layout.blocks}
        lacking = source is not None or any(parameter.is_meta for parameter in self.model.parameters())

        def evaluate(model: PreTrainedModel) -> float:
            with isolated(model, trainable=Tensor.is_floating_point, seed=self.seed):
                fed = self.batch if self._without_batch else with_labels(model, self.batch, self.seed)
                if isinstance(proxy, FunctionProxy):
                    fed = {name: fed[name] for name in self.batch}
                return proxy.evaluate(Subject(model, fed, layout_of(model, self.plugins).only(running), self.seed))

        def on_shapes() -> float:
            try:
                with ShapesOnly():
                    return evaluate(self.model)
            except (NotApplicable, InvalidScore):
                raise
            except Exception:  # a model whose control flow depends on values
                if source is None:
                    raise
                return evaluate(source.whole())

        return _scored(proxy, on_shapes if lacking else partial(evaluate, self.model), not_run(layout))

    @property
    def _without_batch(self) -> bool:
        return isinstance(self.batch, NoMinibatch)


def _reduced(captured: Captured, reduction: Reduction, layout: ModelLayout, plan: RunPlan) -> list[Reduced]:
    if (error := captured.failures.get(reduction)) is not None:
        if isinstance(error, WayRefused) and plan.refusable:
            raise _NoRoom(f"it needs more memory than is free, because {error.cause}")
        raise error
    reduced = captured.values[reduction]
    if not reduced:
        hidden = reduction.place == "attention" and any(mixer.attention and mixer.heads for mixer in layout.mixers)
        hint = "; a fused kernel may hide it: build the model with attn_implementation='sdpa' or 'eager'"
        note = f"; {captured.notes[reduction]}" if reduction in captured.notes else ""
        raise NotApplicable(f"this model shows no {WORDS[reduction.place]}{note}{hint if hidden else ''}")
    return reduced


def _scored(proxy: Proxy, evaluate: Callable[[], float], note: str) -> Score:
    start = time.perf_counter()
    try:
        with Survived(), _noting_rounding(proxy.name) as rounding:
            value = float(evaluate())
    except NotApplicable as error:
        return _row(proxy, None, "not applicable", str(error), start)
    except InvalidScore as error:
        return _row(proxy, None, "invalid", str(error), start)
    except _NoRoom as error:
        return _row(proxy, None, "left out", str(error), start)
    except torch.OutOfMemoryError:
        return _row(proxy, None, "failed", OUT_OF_MEMORY, start)
    except Exception as error:  # any error of a third-party proxy is reported in its row
        LOG.debug("proxy '%s' failed", proxy.name, exc_info=True)
        return _row(proxy, None, "failed", one_line(error), start)
    if not math.isfinite(value):
        return _row(proxy, None, "invalid", f"the score is {value}", start)
    return _row(proxy, value, "ok", "; ".join(filter(None, [note, *rounding])), start)


@contextmanager
def _noting_rounding(proxy: str) -> Iterator[list[str]]:
    """Notes the messages of `RoundingWarning`, which belong to the score; afterwards warns of them with its proxy."""
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", RoundingWarning)
        show = warnings.showwarning

        def noting(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, RoundingWarning):
                notes.append(str(message))
            else:
                show(message, category, *rest, **more)

        warnings.showwarning = noting
        yield notes
    for note in notes:
        warnings.warn(f"the score of '{proxy}' {note}", RoundingWarning, stacklevel=4)


class _NoRoom(Exception):
    """A score needs more memory than is free."""


def _failed(proxy: Proxy, error: Exception) -> Score:
    return _row(proxy, None, "failed", one_line(error))


def _row(proxy: Proxy, value: float | None, status: Status, reason: str, start: float | None = None) -> Score:
    seconds = 0.0 if start is None else time.perf_counter() - start
    return Score(proxy.name, value, status, reason, proxy.orientation, proxy.passes, seconds)
