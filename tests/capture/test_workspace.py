"""Memory that a score needs is freed when it is there, or when it has failed."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lpzero_hf import score
from lpzero_hf.capture.reducer import Reducer, Where
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.capture.workspace import Workspace, buffer, once
from lpzero_hf.proxies.resolve import find_proxy

EXPRESSIONS = [
    "sum(sum(product(abs(W), abs(G))))",
    "sum(sum(matmul(abs(A), abs(J))))",
    "mean(mean(product(H, abs(H))))",
    "mean(sum(product(pow(S), S)))",
    "lpzero-flexibert",
    "lpzero-any-0.1.0",
]


def alive() -> int:
    """The number of elements of all tensors."""
    gc.collect()
    return sum({id(o): o.numel() for o in gc.get_objects() if isinstance(o, Tensor)}.values())


def llama(width: int) -> LlamaForCausalLM:
    """A tiny model whose largest weight has 3 * width^2 elements."""
    config = LlamaConfig(
        hidden_size=width, intermediate_size=3 * width, num_hidden_layers=2, num_attention_heads=2, vocab_size=40
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("works", [True, False])
def test_no_memory_is_held_after_a_score(works: bool) -> None:
    small, model = (llama(width) for width in (8, 32))
    batch = {"input_ids": torch.arange(32).view(4, 8)}
    held = [find_proxy(name) for name in EXPRESSIONS]  # as the cache of proxies does
    score(small, batch, [*held, "all"])  # what is made once and kept: constants, tables of artifacts
    if not works:
        model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    before = alive()
    rows = score(model, batch, [*held, "all"])
    assert {row.status for name, row in rows.items() if name in EXPRESSIONS} == ({"ok"} if works else {"failed"})
    del rows
    assert alive() - before < 96 * 32  # less than one weight


def test_buffers_are_reused_inside_a_workspace_and_fresh_outside() -> None:
    like, workspace = torch.zeros(1), Workspace()
    with workspace.lent():
        first = buffer("W", like, 3, 4)
        assert buffer("W", like, 2, 5).data_ptr() == first.data_ptr()
        assert buffer("G", like, 3, 4).data_ptr() != first.data_ptr()
    assert buffer("W", like, 3, 4).data_ptr() != first.data_ptr()
    workspace.clear()
    assert not workspace.buffers


def summed(tensor: Tensor) -> Tensor:
    CALLS.append(tensor)
    return tensor.sum()


CALLS: list[Tensor] = []


def test_reductions_of_one_site_share_a_result_and_those_of_two_do_not() -> None:
    CALLS.clear()
    reductions = [
        Reduction("linear", ("A",), lambda A: once(summed, A)),
        Reduction("linear", ("A", "mask"), lambda A, mask: 2 * once(summed, A)),
    ]
    reducer, mask = Reducer(reductions), torch.ones(1, 2, dtype=torch.bool)
    for size in (3, 5):
        tensors = {"A": torch.ones(1, 2, size, dtype=torch.bfloat16), "mask": mask}  # widened once for both
        reducer.reduce("forward", Where(("linear",), 0, f"layer {size}"), tensors)
    values = reducer.result().values
    assert [[float(reduced.value) for reduced in values[r]] for r in reductions] == [[6, 10], [12, 20]]
    assert len(CALLS) == 2
    assert not reducer.workspace.results  # nothing is held behind a site
    assert float(once(summed, torch.ones(3))) == 3  # outside of a pass it is a call
