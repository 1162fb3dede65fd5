"""Models of third parties: blocks that share parts, are left out or run again, and linear layers of other kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from lpzero_hf import minibatch, score
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.models.layout import layout_of


class Config(PreTrainedConfig):
    model_type = "unusual"
    vocab_size, hidden_size, num_hidden_layers = 4200, 32, 4


class Attention(nn.Module):
    num_heads = 4

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, up: nn.Module | None = None) -> None:
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(32), Attention()
        self.up, self.down = up or nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm(x))
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Unusual(PreTrainedModel):
    config_class = Config

    def __init__(self, make: Callable[[], nn.Module] = Block) -> None:
        super().__init__(Config())
        self.embed, self.head = nn.Embedding(4200, 32), nn.Linear(32, 4200)
        self.blocks = nn.ModuleList(make() for _ in range(4))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def run(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, input_ids: Tensor, labels: Any = None, **_: Any) -> CausalLMOutput:
        logits = self.head(self.run(self.embed(input_ids)))
        loss = None if labels is None else F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)


def built(kind: type[Unusual], **keywords: Any) -> Unusual:
    torch.manual_seed(0)
    return kind(**keywords).eval()


def one(*_: Tensor) -> Tensor:
    return torch.tensor(1.0)


W, A = (Reduction("linear", (letter,), one) for letter in "WA")
H, S = Reduction("mixer", ("H",), one), Reduction("attention", ("S",), one)
NAMES = [
    "snip",
    "fisher",
    "nwot",
    "l2_norm",
    "attention_confidence",
    "head_importance",
    "num_layers",
    "lpzero-any-0.1.0",
]


@pytest.mark.parametrize("part", ["attn", "up"])
def test_a_part_that_blocks_share_is_read_for_the_block_that_runs(part: str) -> None:
    model = built(Unusual)
    for block in model.blocks:
        setattr(block, part, getattr(model.blocks[0], part))
    batch = minibatch(model, batch_size=2, seq_len=8)
    made = capture(model, batch, [A, H, S], layout_of(model))
    assert not made.failures
    for reduction, per_block in ((A, 4), (H, 1), (S, 1)):
        found = [(value.site.split(".")[1], value.block) for value in made.values[reduction]]
        assert found == [(str(index), index) for index in range(4) for _ in range(per_block)]
    assert not any(row.reason for row in score(model, batch, NAMES[:-1]).rows)


class Skipping(Unusual):
    def run(self, x: Tensor) -> Tensor:
        for index in (0, 3, 2):
            x = self.blocks[index](x)
        return x


def test_a_block_that_is_left_out_is_told_and_counted_nowhere() -> None:
    skipping, short = built(Skipping), built(Unusual)
    order = nn.ModuleList(short.blocks[index] for index in (0, 3, 2))
    short.blocks = order
    batch = minibatch(short, batch_size=3, seq_len=8)
    here, there = score(skipping, batch, NAMES), score(short, batch, NAMES)
    assert {n: row.value for n, row in here.items()} == {
        n: pytest.approx(row.require(), rel=1e-4) for n, row in there.items()
    }
    assert all("1 block of blocks was not run" in row.reason for row in here.rows)
    for name in ("num_layers", "l2_norm", "snip"):  # the same alone
        assert score(skipping, batch, name)[name].value == here[name].value


class Checkpointing(Unusual):
    reentrant = False

    def run(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


class Reentrant(Checkpointing):
    reentrant = True


@pytest.mark.parametrize("kind", [Checkpointing, Reentrant])
def test_what_the_model_itself_runs_again_in_the_backward_pass_is_read_once(kind: type[Unusual]) -> None:
    batch = minibatch(built(Unusual), batch_size=2, seq_len=8)
    again, plain = score(built(kind), batch, NAMES), score(built(Unusual), batch, NAMES)
    assert {n: row.value for n, row in again.items()} == {
        n: pytest.approx(row.require(), rel=1e-5) for n, row in plain.items()
    }
    assert {row.reason for row in again.rows} == {row.reason for row in plain.rows}
    assert score(built(kind), batch, "snip")["snip"].value == pytest.approx(plain["snip"].value)


class TimeFirst(Attention):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1)).transpose(0, 1)


class TimeMajor(Unusual):
    def __init__(self) -> None:
        super().__init__()
        for block in self.blocks:
            block.attn.__class__ = TimeFirst

    def run(self, x: Tensor) -> Tensor:
        return super().run(x.transpose(0, 1)).transpose(0, 1)


def test_context_inside_a_mixer_may_lie_in_another_order_than_its_output() -> None:
    batch = minibatch(built(Unusual), batch_size=9, seq_len=8)
    here, there = (score(built(kind), batch, "head_importance") for kind in (TimeMajor, Unusual))
    assert here["head_importance"].value == pytest.approx(there["head_importance"].require(), rel=1e-5)


class Dense(nn.Module):
    """A linear layer of a class of its own, that computes `compute(x, weight)`."""

    def __init__(self, compute: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.kernel, self.compute = nn.Parameter(0.1 * torch.randn(64, 32)), compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x, self.kernel)


COMPUTED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mv": lambda x, w: torch.stack([torch.mv(w, row) for row in x.flatten(0, 1)]).view(*x.shape[:2], -1),
    "tensordot": lambda x, w: torch.tensordot(x, w, dims=([2], [1])),
    "inner": torch.inner,
    "multi_dot": lambda x, w: torch.linalg.multi_dot([x.flatten(0, 1), w.T]).view(*x.shape[:2], -1),
    "scaled": lambda x, w: F.linear(x, 0.5 * w),
    "cloned": lambda x, w: F.linear(x, w.clone()),
    "normalized": lambda x, w: F.linear(x, F.normalize(w, dim=1)),
    "cast": lambda x, w: x @ w.double().float().T,
    "convolved": lambda x, w: F.conv2d(x.mT[..., None], w[..., None, None])[..., 0].mT,
}


@pytest.mark.parametrize("way", COMPUTED)
def test_a_layer_that_computes_its_weight_or_multiplies_otherwise_is_said_to_be_unread(way: str) -> None:
    model = built(Unusual, make=lambda: Block(Dense(COMPUTED[way])))
    scores = score(model, minibatch(model, batch_size=2, seq_len=8), ["snip", "fisher", "head_importance"])
    for name in ("snip", "fisher"):
        assert "4 of 16 linear layers" in scores[name].reason
    assert scores["head_importance"].reason == ""


def test_an_output_that_no_gradient_reaches_is_said_to_have_none() -> None:
    model = built(Unusual)
    first = model.blocks[0]
    first.register_forward_hook(lambda _, __, output: output.detach())
    row = score(model, minibatch(model, batch_size=2, seq_len=8), "fisher")["fisher"]
    assert "A and J of 4 of 16" in row.reason
    assert "no gradient reaches them" in row.reason
