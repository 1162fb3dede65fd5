"""Seeds that are trained at once end where they end one at a time, and one that diverges leaves the others alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import BertConfig, LlamaConfig, PreTrainedConfig

from lpzero_hf.benchmarks.train import Recipe, train
from lpzero_hf.benchmarks.train_stack import train_stack
from lpzero_hf.errors import MinibatchError, UsageError
from lpzero_hf.models.text_tokens import token_stream, tokenizer_for

VOCABULARY = 384
RECIPE = Recipe(steps=12, batch_size=4, seq_len=16, learning_rate=1e-2, warmup=2, windows=40, evaluations=2)
LLAMA = LlamaConfig(
    vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=64, tie_word_embeddings=True,
)  # fmt: skip
BERT = BertConfig(
    vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
TOKENIZER = tokenizer_for(VOCABULARY)


@pytest.fixture(scope="module")
def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """The embedded text, to train on and to measure on."""
    ids = token_stream(None, TOKENIZER)
    return ids[4000:], ids[:4000]


@pytest.mark.parametrize("config", [LLAMA, BERT], ids=["causal", "masked"])
def test_a_stack_trains_as_one_at_a_time(config: PreTrainedConfig, texts: tuple[torch.Tensor, torch.Tensor]) -> None:
    seeds = [7, 8, 9]
    stacked = train_stack(config, *texts, RECIPE, seeds=seeds, mask_id=TOKENIZER.mask_token_id)
    for seed, outcome in zip(seeds, stacked, strict=True):
        alone = train(config, *texts, RECIPE, seed=seed, mask_id=TOKENIZER.mask_token_id)
        assert outcome.loss == pytest.approx(alone.loss, abs=1e-4)
        assert [step for step, _ in outcome.curve] == [step for step, _ in alone.curve]
        assert (outcome.parameters, outcome.body_parameters) == (alone.parameters, alone.body_parameters)
    losses = [outcome.loss for outcome in stacked]
    assert max(losses) - min(losses) > 0.01  # seeds that differ, or the comparison would show nothing


def test_gradients_are_clipped_for_each_model(texts: tuple[torch.Tensor, torch.Tensor]) -> None:
    tight = replace(RECIPE, clip=0.05)
    stacked = train_stack(LLAMA, *texts, tight, seeds=[1, 2])
    assert [outcome.loss for outcome in stacked] == pytest.approx(
        [train(LLAMA, *texts, tight, seed=seed).loss for seed in (1, 2)], abs=1e-4
    )


def test_one_that_diverges_leaves_the_others_alone(
    texts: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lpzero_hf.benchmarks import train_stack as module

    built = module.build_model

    def broken(config: PreTrainedConfig, *, seed: int, **rest: object) -> torch.nn.Module:
        model = built(config, seed=seed, **rest)
        if seed == 8:
            model.get_input_embeddings().weight.data[:] = float("nan")
        return model

    monkeypatch.setattr(module, "build_model", broken)
    first, second, third = train_stack(LLAMA, *texts, RECIPE, seeds=[7, 8, 9])
    assert (second.loss, second.curve) == (None, ())
    for seed, outcome in ((7, first), (9, third)):
        assert outcome.loss == pytest.approx(train(LLAMA, *texts, RECIPE, seed=seed).loss, abs=1e-4)


def test_bad_input_is_refused(texts: tuple[torch.Tensor, torch.Tensor]) -> None:
    for seeds in ([], [1, 1]):
        with pytest.raises(UsageError, match="once"):
            train_stack(LLAMA, *texts, RECIPE, seeds=seeds)
    with pytest.raises(UsageError, match="longer"):
        train_stack(LLAMA, texts[0][:9], texts[1], RECIPE, seeds=[1])
    with pytest.raises(UsageError, match="mask token"):
        train_stack(BERT, *texts, RECIPE, seeds=[1])
    with pytest.raises(MinibatchError, match="vocabulary"):
        train_stack(LLAMA, texts[0] + VOCABULARY, texts[1], RECIPE, seeds=[1])
