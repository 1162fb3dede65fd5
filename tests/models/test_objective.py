"""The objective is the model's own loss wherever it has one for text; where it has none, that is said."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    BartConfig,
    BertConfig,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    CLIPVisionConfig,
    CohereConfig,
    ElectraConfig,
    ElectraForPreTraining,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPT2DoubleHeadsModel,
    GPT2LMHeadModel,
    GPT2PreTrainedModel,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2AudioForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SiglipVisionConfig,
    T5ForQuestionAnswering,
)

from lpzero_hf import minibatch, score
from lpzero_hf.errors import ModelWarning
from lpzero_hf.models.build import build_model
from lpzero_hf.models.objective import (
    finite_output,
    head_kind,
    masked_positions,
    objective,
    run_model,
    with_labels,
)
from tests.support.families import FAMILIES, VOCABULARY, tiny_model
from tests.support.small_configs import small_config

TEXT = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, max_position_embeddings=64, head_dim=8, pad_token_id=0, bos_token_id=2, eos_token_id=2,
)  # fmt: skip
VISION = dict(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, image_size=28, patch_size=14
)
QWEN_TEXT = TEXT | {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
ENCODER = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=80, pad_token_id=0,
)  # fmt: skip
GPT2 = dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=2, eos_token_id=2)
IMAGE = VOCABULARY - 1  # the id of an image's place, which no text has


def florence() -> PreTrainedModel:
    text = BartConfig(
        vocab_size=VOCABULARY, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64,
    )  # fmt: skip
    stages = dict(depths=[1] * 4, embed_dim=[8] * 4, num_heads=[2] * 4, num_groups=[2] * 4, projection_dim=32)
    return Florence2ForConditionalGeneration(
        Florence2Config(text_config=text, vision_config=stages, image_token_id=IMAGE)
    )


def llava(settings: Any, made: Any) -> PreTrainedModel:
    return made(
        settings(vision_config=CLIPVisionConfig(**VISION), text_config=LlamaConfig(**TEXT), image_token_index=IMAGE)
    )


# Models of images and text, of which a text alone makes language models.
IMAGE_AND_TEXT: dict[str, Callable[[], PreTrainedModel]] = {
    "llava": lambda: llava(LlavaConfig, LlavaForConditionalGeneration),
    "llava_next": lambda: llava(LlavaNextConfig, LlavaNextForConditionalGeneration),
    "qwen2_vl": lambda: Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config=QWEN_TEXT, vision_config=dict(depth=1, embed_dim=32, hidden_size=32, num_heads=2, mlp_ratio=2)
        )
    ),
    "qwen2_5_vl": lambda: Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=QWEN_TEXT,
            vision_config=dict(depth=1, hidden_size=32, num_heads=2, intermediate_size=48, out_hidden_size=32),
        )
    ),
    "gemma3": lambda: Gemma3ForConditionalGeneration(
        Gemma3Config(
            text_config=Gemma3TextConfig(**TEXT),
            vision_config=SiglipVisionConfig(**VISION),
            mm_tokens_per_image=4,
            image_token_index=IMAGE,
        )
    ),
    "paligemma": lambda: PaliGemmaForConditionalGeneration(
        PaliGemmaConfig(
            vision_config=SiglipVisionConfig(**VISION),
            text_config=GemmaConfig(**TEXT),
            image_token_index=IMAGE,
            projection_dim=32,
        )
    ),
    "idefics3": lambda: Idefics3ForConditionalGeneration(
        Idefics3Config(text_config=LlamaConfig(**TEXT), vision_config=VISION, image_token_id=IMAGE)
    ),
    "internvl": lambda: InternVLForConditionalGeneration(
        InternVLConfig(
            vision_config=VISION | dict(image_size=[28, 28], patch_size=[14, 14]),
            text_config=Qwen2Config(**TEXT),
            image_token_id=IMAGE,
        )
    ),
    "aya_vision": lambda: AyaVisionForConditionalGeneration(
        AyaVisionConfig(
            vision_config=SiglipVisionConfig(**VISION), text_config=CohereConfig(**TEXT), image_token_index=IMAGE
        )
    ),
    "florence2": florence,
}


def messages(model: PreTrainedModel, batch: dict[str, Tensor], proxies: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score(model, batch, proxies)
    return [str(one.message) for one in caught if one.category is ModelWarning]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_a_language_model_of_its_kind(family: str) -> None:
    seq2seq, masked = {"t5", "bart", "pegasus"}, list(FAMILIES)[list(FAMILIES).index("bert") :]
    masked = [name for name in masked if name not in {*seq2seq, "xlnet", "rwkv", "mamba", "mamba2"}]
    expected = "seq2seq" if family in seq2seq else "masked" if family in masked else "causal"
    assert head_kind(tiny_model(family)) == expected


@pytest.mark.parametrize("family", IMAGE_AND_TEXT)
def test_text_alone_is_scored_by_the_models_own_loss(family: str, batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    model = IMAGE_AND_TEXT[family]().eval()
    own = model(**with_labels(model, batch, 42)).loss
    assert torch.equal(objective(model, with_labels(model, batch, 42), 42), own)
    names = ["snip", "grad_norm", "zico", "decoder_params"]
    rows = score(model, batch, names)
    given = score(model, batch | {"labels": batch["input_ids"]}, names)
    assert {name: row.require() for name, row in rows.items()} == {name: row.require() for name, row in given.items()}
    assert messages(model, batch, names) == []
    whole, parts = (score(model, batch, ["snip"], micro_batch=size)["snip"].require() for size in (None, 2))
    assert parts == pytest.approx(whole, rel=1e-4)


def test_padding_is_no_target_of_a_model_of_images_and_text(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    model = IMAGE_AND_TEXT["llava"]().eval()
    batch["attention_mask"][1, 5:] = 0
    labels = with_labels(model, batch, 42)["labels"]
    assert labels.eq(-100).equal(batch["attention_mask"].eq(0))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: BertForPreTraining(BertConfig(**ENCODER)), "masked"),
        (lambda: AlbertForPreTraining(AlbertConfig(**ENCODER, embedding_size=16)), "masked"),
        (lambda: GPT2DoubleHeadsModel(GPT2Config(**GPT2, num_labels=1)), "causal"),
    ],
)
def test_a_model_with_a_further_head_has_its_own_loss(
    make: Callable[[], PreTrainedModel], kind: str, batch: dict[str, Tensor]
) -> None:
    model = make().eval()
    assert head_kind(model) == kind
    fed = with_labels(model, batch, 42)
    loss = objective(model, fed, 42)
    assert loss.equal(model(**fed).loss)
    assert float(loss.detach()) > 6  # of tokens, of which there are e^8.3
    assert messages(model, batch, ["snip", "grasp"]) == []


OTHERS: dict[str, Callable[[], PreTrainedModel]] = {
    "next sentence": lambda: BertForNextSentencePrediction(BertConfig(**ENCODER)),
    "token classification": lambda: BertForTokenClassification(BertConfig(**ENCODER)),
    "sequence classification": lambda: BertForSequenceClassification(BertConfig(**ENCODER)),
    "question answering": lambda: BertForQuestionAnswering(BertConfig(**ENCODER)),
    "replaced tokens": lambda: ElectraForPreTraining(ElectraConfig(**ENCODER)),
    "no head": lambda: BertModel(BertConfig(**ENCODER)),
}


@pytest.mark.parametrize("head", OTHERS)
def test_a_projection_is_said_once_and_only_where_gradients_are_read(head: str, batch: dict[str, Tensor]) -> None:
    model = OTHERS[head]().eval()
    assert head_kind(model) == "other"
    said = messages(model, batch, "all")
    assert len(said) == 1
    assert type(model).__name__ in said[0]
    assert "projection" in said[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        assert score(model, batch, "snip")["snip"].status == "ok"
    assert messages(model, batch, ["params", "l2_norm", "synflow", "zen", "attention_confidence"]) == []


def test_choices_that_are_not_given_are_said_to_fail(batch: dict[str, Tensor]) -> None:
    model = BertForMultipleChoice(BertConfig(**ENCODER)).eval()
    row = score(model, batch, "snip")["snip"]
    assert row.status == "failed"
    assert "does not run on this minibatch" in row.reason


def test_given_targets_are_the_objective_of_any_head(batch: dict[str, Tensor]) -> None:
    tokens = OTHERS["token classification"]().eval()
    targets = batch | {"labels": batch["input_ids"] % 2}
    assert messages(tokens, targets, "snip") == []
    assert objective(tokens, with_labels(tokens, targets, 42), 42).equal(tokens(**targets).loss)
    for made in (OTHERS["question answering"](), T5ForQuestionAnswering(tiny_model("t5").config)):
        spans = batch | {"start_positions": torch.ones(4).long(), "end_positions": torch.full((4,), 3)}
        assert messages(made.eval(), spans, "snip") == []
        assert messages(made, {name: v for name, v in spans.items() if name != "end_positions"}, "snip")


class TokenModel(GPT2PreTrainedModel):
    """A language model whose name says nothing."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        inner = GPT2LMHeadModel(config)
        self.transformer, self.lm_head = inner.transformer, inner.lm_head

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, return_dict: bool = True) -> Any:
        logits = self.lm_head(self.transformer(input_ids).last_hidden_state)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits[:, :-1].mT, labels[:, 1:])
        return type("Output", (dict,), {})(loss=loss, logits=logits)


class ScorerForCausalLM(TokenModel):
    """A name of a language model on a model without a loss."""

    def forward(self, input_ids: Tensor, return_dict: bool = True) -> Any:
        return super().forward(input_ids)


class QuietModel(TokenModel):
    """It takes labels and gives no loss."""

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, return_dict: bool = True) -> Any:
        return super().forward(input_ids)


def test_what_the_forward_takes_decides_not_the_name(batch: dict[str, Tensor]) -> None:
    models = {made: made(GPT2Config(**GPT2)).eval() for made in (TokenModel, ScorerForCausalLM, QuietModel)}
    assert {made: head_kind(model) for made, model in models.items()} == {
        TokenModel: "causal",
        ScorerForCausalLM: "other",
        QuietModel: "causal",
    }
    assert messages(models[TokenModel], batch, "snip") == []
    assert len(messages(models[ScorerForCausalLM], batch, "snip")) == 1
    assert len(messages(models[QuietModel], batch, "snip")) == 1
    twin = GPT2LMHeadModel(GPT2Config(**GPT2)).eval()
    twin.load_state_dict(models[TokenModel].state_dict())
    values = [score(model, batch, "snip")["snip"].require() for model in (models[TokenModel], twin)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_a_seventh_of_the_real_tokens_is_predicted_and_at_least_one() -> None:
    real = torch.tensor([40, 20, 6, 1])
    mask = (torch.arange(40) < real[:, None]).long()
    positions = masked_positions({"input_ids": torch.ones_like(mask), "attention_mask": mask}, 3)
    assert positions.sum(1).tolist() == [6, 3, 1, 1]  # 15%, rounded down
    assert not (positions & ~mask.bool()).any()
    assert not torch.equal(positions[0], positions[1])


def test_minibatches_of_pretraining_models_are_masked() -> None:
    from lpzero_hf.models.minibatch import embedded_tokenizer

    batch = minibatch(BertForPreTraining(BertConfig(**ENCODER)), batch_size=2, seq_len=16)
    masked = batch["input_ids"] == embedded_tokenizer().mask_token_id
    assert masked.any()
    assert batch["labels"].ne(-100).equal(masked)


def test_a_configuration_alone_gets_the_head_for_text(batch: dict[str, Tensor]) -> None:
    config = IMAGE_AND_TEXT["llava"]().config
    config.architectures = None
    model = build_model(config)
    assert isinstance(model, LlavaForConditionalGeneration)
    assert messages(model, batch, "snip") == []


def test_a_model_that_hears_and_has_no_decoder_apart_is_causal() -> None:
    """transformers lists it among the sequence-to-sequence models; its labels are those of its own tokens."""
    model = Qwen2AudioForConditionalGeneration(small_config("qwen2_audio")).eval()
    assert head_kind(model) == "causal"
    batch = minibatch(model, batch_size=2, seq_len=12)
    batch["attention_mask"][0, :3] = 0
    assert score(model, batch, "zico")["zico"].status == "ok"


def test_an_output_is_checked_without_a_copy_in_double(gpt2: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    fed = with_labels(gpt2, batch, 42)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as plain:
        logits = run_model(gpt2, fed)["logits"]
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as checked:
        finite_output(gpt2, fed)
    more = {event.self_cpu_memory_usage for event in checked.events()} - {
        event.self_cpu_memory_usage for event in plain.events()
    }
    assert len(logits) > 2
    assert max(more, default=0) < logits.nbytes
