"""Costs that passes without values tell: operations, memory, and what is kept of each token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from lpz_costs.peak import FusedAttention, PeakMemory
from lpz_costs.serving import CACHES, cache_of, cached, prefill, prompts, step, tensors_in
from lpzero_hf.errors import NotApplicable
from lpzero_hf.models.block_counts import KindsCounted
from lpzero_hf.models.flop_count import forward_flops, shapes_of
from lpzero_hf.models.kernels import plain_kernels
from lpzero_hf.models.objective import head_kind
from lpzero_hf.scoring.costs import Cost, CostSubject, Passes
from lpzero_hf.scoring.quantities import BYTES, FLOPS


def flops(subject: CostSubject) -> float:
    """Operations of the forward pass over the prompts."""

    def one(model: PreTrainedModel, passes: Passes) -> int:
        return forward_flops(model, prompts(model, 1, subject.prompt, subject.deployment.seed), subject.layout)

    return subject.without_values(one) * subject.deployment.batch_size


def decode_flops(subject: CostSubject) -> float:
    """Operations for one more token of each prompt."""

    def one(model: PreTrainedModel, passes: Passes) -> int:
        inputs, counter = prompts(model, 1, subject.prompt, subject.deployment.seed), FlopCounterMode(display=False)
        before, kinds = KindsCounted(counter), KindsCounted(counter)
        blocks = _once(subject, model)
        with passes(model), plain_kernels(model, _experts(model)):
            with before.watching(blocks):
                output = prefill(model, inputs)
            cache = cached(model, output)
            with kinds.watching(blocks), counter:
                step(model, inputs, output, cache)
        return kinds.total

    return subject.without_values(one) * subject.deployment.batch_size


def memory(subject: CostSubject) -> float:
    """Bytes of the weights, and at most at a time of all else, in the prefill and one decoding step."""

    def peak(model: PreTrainedModel, passes: Passes) -> int:
        inputs = prompts(model, subject.deployment.batch_size, subject.prompt, subject.deployment.seed)
        fused = FusedAttention() if passes is shapes_of else nullcontext()
        with passes(model), fused:
            known = [*model.parameters(), *model.buffers(), *inputs.values()]
            with PeakMemory(known) as followed:
                output = prefill(model, inputs)
                found = None if head_kind(model) == "masked" else cache_of(output)
                if found is not None:
                    step(model, inputs, output, found)
        return followed.peak

    return subject.weights + subject.without_values(peak)


class KeptBytes:
    """The bytes in the caches that the blocks of a model are handed.

    Attributes:
        caches: by `id`.
    """

    def __init__(self) -> None:
        self.caches: dict[int, Any] = {}

    def get_total_flops(self) -> int:
        """The bytes, under the name that `KindsCounted` asks for."""
        return sum(t.numel() * t.element_size() for t in tensors_in(list(self.caches.values())))

    @contextmanager
    def seeing(self, model: PreTrainedModel) -> Iterator[None]:
        """Look at what the modules of `model` are handed inside the context."""

        def see(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for name, value in kwargs.items():
                if name in CACHES and value is not None:
                    self.caches[id(value)] = value
            self.caches |= {id(value): value for value in args if "Cache" in type(value).__name__}

        hooks = [module.register_forward_pre_hook(see, with_kwargs=True) for module in model.modules()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def kept(subject: CostSubject, model: PreTrainedModel, passes: Passes, tokens: int) -> int:
    """Bytes that a model keeps of one prompt with so many tokens."""
    inputs, counter = prompts(model, 1, tokens, subject.deployment.seed), KeptBytes()
    kinds = KindsCounted(counter)
    with passes(model), plain_kernels(model, _experts(model)):
        with kinds.watching(_once(subject, model)), counter.seeing(model):  # in this order: a hook makes another kind
            output = prefill(model, inputs)
        cache = cached(model, output)[1]
        if id(cache) in counter.caches:
            return kinds.total
        counter.caches = {}  # the blocks were not handed it
        cache = cached(model, prefill(model, inputs))[1]
        counter.caches[id(cache)] = cache
        return counter.get_total_flops()


def kv_cache(subject: CostSubject) -> float:
    """Bytes kept of each further token of a sequence; what does not grow with it, as the state of a recurrent layer or
    a full window, does not count."""
    tokens = subject.prompt
    if tokens < 2:
        raise NotApplicable("a prompt of one token does not tell how a cache grows; use `prompt=128`")
    few = tokens // 2
    grown = subject.without_values(
        lambda model, passes: kept(subject, model, passes, tokens) - kept(subject, model, passes, few)
    )
    return grown / (tokens - few)


def _once(subject: CostSubject, model: PreTrainedModel) -> list[Any]:
    """The blocks that run once for each kind: all, where passes have no values."""
    return [block.module for block in subject.layout.blocks] if model is subject.model else []


def _experts(model: PreTrainedModel) -> str:
    return "batched_mm" if any(parameter.is_meta for parameter in model.parameters()) else "eager"


COSTS = [
    Cost(name="flops", unit=FLOPS, summary="operations of the prefill", measure=flops, stage="pass"),
    Cost(name="kv_cache", unit=BYTES, summary="cache of each further token", measure=kv_cache, stage="pass"),
    Cost(name="decode_flops", unit=FLOPS, summary="operations for one more token", measure=decode_flops, stage="pass"),
    Cost(name="memory", unit=BYTES, summary="peak memory of prefill and decoding", measure=memory, stage="pass"),
]
