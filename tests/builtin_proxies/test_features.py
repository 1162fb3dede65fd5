"""Proxies of hidden states: where they have no meaning, and what must not change them."""

from __future__ import annotations

import pytest
import torch
from lpz_proxies.activations import least_correlation, principal_components
from lpz_proxies.az_nas import spectral_entropy, trainable
from torch import Tensor

from lpzero_hf import minibatch, score
from lpzero_hf.capture.audit import Ran, left_out
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import LOSS, Reduced, Reduction
from lpzero_hf.errors import InvalidScore
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.minibatch import embedded_tokenizer
from tests.support.families import tiny_model

AZ = ["az_expressivity", "az_progressivity", "az_trainability", "az_complexity"]


def batch_of(model, samples: int = 4, length: int = 16) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    return minibatch(model, tokenizer=embedded_tokenizer(), batch_size=samples, seq_len=length)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("family", ["gpt2", "bert", "llama"])
def test_the_output_of_a_block_is_the_hidden_states_that_the_model_shows(family: str) -> None:
    model = tiny_model(family)
    batch = batch_of(model)
    read = Reduction("block", ("A", "mask"), lambda A, mask: A.clone())
    found = capture(model, batch, [read], layout_of(model)).values[read]
    with torch.no_grad():
        states = model(**batch, output_hidden_states=True).hidden_states
    assert [block for block, _, _ in found] == [0, 1]
    torch.testing.assert_close(found[0].value, states[1])  # behind the last one GPT-2 and Llama have a norm


def test_a_block_that_is_applied_again_is_read_again() -> None:
    model = tiny_model("albert", num_hidden_layers=3)
    read = Reduction("block", ("A",), lambda A: A.mean())
    assert len(capture(model, batch_of(model), [read], layout_of(model)).values[read]) == 3


def test_a_block_offers_no_gradient() -> None:
    with pytest.raises(ValueError, match="do not appear together"):
        Reduction("block", ("A", "J"), lambda A, J: A.sum())


# Expressivity, progressivity ------------------------------------------------------------------------------


def test_the_entropy_counts_equally_strong_directions() -> None:
    A = torch.zeros(1, 6, 9, dtype=torch.float64)  # six tokens, in three pairs of opposite directions
    for token in range(6):
        A[0, token, token // 2] = (-1) ** token
    mask = torch.ones(1, 6, dtype=torch.bool)
    assert float(spectral_entropy(A, mask)) == pytest.approx(torch.tensor(3.0).log().item())
    assert float(spectral_entropy(A * 7 + 5, mask)) == pytest.approx(torch.tensor(3.0).log().item())


def test_one_block_has_no_progress() -> None:
    model = tiny_model("gpt2", n_layer=1)
    rows = score(model, batch_of(model), AZ)
    assert (rows["az_progressivity"].status, rows["az_expressivity"].status) == ("not applicable", "ok")
    assert "only one" in rows["az_progressivity"].reason


# Trainability ----------------------------------------------------------------------------------------------


def test_a_spectral_norm_of_one_is_best() -> None:
    assert trainable(torch.eye(3).double()) == pytest.approx(0.0, abs=1e-12)
    assert trainable(torch.eye(3).double() * 2) == trainable(torch.eye(3).double() / 2) == pytest.approx(-0.5)
    with pytest.raises(InvalidScore, match="no gradient"):
        trainable(torch.zeros(2, 2).double())
    with pytest.raises(InvalidScore, match="not finite"):
        trainable(torch.full((2, 2), torch.nan).double())


def test_blocks_are_differentiated_one_by_one() -> None:
    """Were they not cut apart, a block that multiplies by 100 would show in the gradients of those before it."""
    model = tiny_model("gpt2", n_layer=3).double()
    batch = batch_of(model)
    once = score(model, batch, ["az_trainability"])["az_trainability"].require()

    forward = type(model.transformer.h[2]).forward
    model.transformer.h[2].forward = lambda *args, **kwargs: 100 * forward(model.transformer.h[2], *args, **kwargs)
    louder = score(model, batch, ["az_trainability"])["az_trainability"].require()
    # Only s of the last block is 100 times as large: 100 s + 1 / (100 s) instead of s + 1 / s.
    assert 10 < once - louder < 100


@pytest.mark.parametrize("family", ["t5", "albert", "xlnet", "mixtral", "mamba", "bart"])
def test_every_part_has_a_number_on_unlike_families(family: str) -> None:
    model = tiny_model(family)
    rows = score(model, batch_of(model), AZ)
    assert {row.status for row in rows.rows} == {"ok"}


def test_complexity_is_flops() -> None:
    model = tiny_model("bert")
    rows = score(model, batch_of(model), ["az_complexity", "flops"])
    assert rows["az_complexity"].value == rows["flops"].value


# MeCo ------------------------------------------------------------------------------------------------------


def test_channels_that_depend_on_each_other_have_a_smallest_eigenvalue_of_exactly_zero() -> None:
    mask = torch.ones(2, 20, dtype=torch.bool)
    A = draw(2, 20, 8)
    free = float(least_correlation(A, mask))
    assert 0.05 < free < 1
    assert float(least_correlation(3 * A + 5, mask)) == pytest.approx(free)  # correlations, not covariances
    for tied in (A - A.mean(-1, keepdim=True), torch.cat((A, A[..., :1]), -1), torch.cat((A, A[..., :1] * 0 + 3), -1)):
        for dtype in (torch.float64, torch.float32):
            assert float(least_correlation(tied.to(dtype), mask)) == 0.0
    rounded = (A - A.mean(-1, keepdim=True)).bfloat16().float()  # as a model in half precision gives them
    assert float(least_correlation(rounded, mask)) == 0.0
    assert float(least_correlation(A[:, :4], mask[:, :4])) == 0.0  # 8 tokens, 8 channels


def test_padding_is_no_token() -> None:
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, 10:] = False
    A = draw(2, 20, 8)
    other = A.masked_fill(~mask.unsqueeze(-1), 100.0)
    assert float(least_correlation(A, mask)) == float(least_correlation(other, mask))


def test_a_minibatch_with_too_few_tokens_is_said() -> None:
    model = tiny_model("gpt2")
    row = score(model, batch_of(model, samples=1, length=16), ["meco"])["meco"]
    assert (row.value, row.status) == (None, "not applicable")
    assert "larger minibatch" in row.reason


# W-PCA -----------------------------------------------------------------------------------------------------


def test_a_share_of_the_rank_is_at_most_one_and_is_of_the_parameters() -> None:
    model = tiny_model("gpt2")
    value = score(model, batch_of(model), ["w_pca_code", "params"])
    assert 0 < value["w_pca_code"].require() <= value["params"].require()


def test_a_component_more_is_counted_where_the_variance_needs_it() -> None:
    mask = torch.ones(1, 40, dtype=torch.bool)
    assert [int(principal_components(draw(1, 40, k), mask, 0.99)) for k in (2, 5)] == [2, 5]


def test_experts_have_no_weight_of_one_pre_activation() -> None:
    model = tiny_model("mixtral")
    assert score(model, batch_of(model), ["w_pca_code"])["w_pca_code"].status == "not applicable"


def test_dss_is_the_sum_of_its_parts() -> None:
    model = tiny_model("llama")
    rows = score(model, batch_of(model), ["dss", "synaptic_diversity", "synaptic_saliency"])
    assert rows["dss"].require() == rows["synaptic_diversity"].require() + rows["synaptic_saliency"].require()


def test_blocks_whose_output_is_not_read_are_said() -> None:
    model = tiny_model("gpt2")
    layout, read = layout_of(model), Reduction("block", ("A",), lambda A: A.mean())
    ran, values = Ran(blocks={0, 1}), [Reduced(0, "transformer.h.0", torch.ones(()))]
    assert left_out(read, values, layout, ran, LOSS) == "the output of 1 of 2 blocks could not be read"
    assert left_out(read, [*values, Reduced(1, "transformer.h.1", torch.ones(()))], layout, ran, LOSS) == ""
