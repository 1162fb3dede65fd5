"""Makes a tokenised minibatch that fits a model, from a text or a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lpzero_hf.errors import MinibatchError
from lpzero_hf.models.embeddings import token_embedding
from lpzero_hf.models.given_batch import SHAPE, GivenBatch, as_batch
from lpzero_hf.models.objective import head_kind, masked_positions
from lpzero_hf.models.padding import without_padding
from lpzero_hf.models.text_source import DatasetText, DrawnRows, Source, source_of
from lpzero_hf.models.text_tokens import draw_rows, row_stream, token_stream, tokenizer_for
from lpzero_hf.models.text_tokens import embedded_tokenizer as embedded_tokenizer
from lpzero_hf.models.unwrap import unwrapped

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE = 16
SEQUENCE_LENGTH = 128
POSITION_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")
RELATIVE_POSITIONS = {"t5", "mt5", "umt5", "longt5", "bloom", "mpt", "xlnet", "mamba", "mamba2", "transfo-xl"}


def minibatch(
    model: nn.Module | None = None,
    *,
    text: str | Source | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    batch_size: int = BATCH_SIZE,
    seq_len: int | None = None,
    seed: int = 42,
    random_tokens: bool = False,
) -> dict[str, Tensor]:
    """A minibatch of windows at random (seeded) positions of a text, or of the first rows, by seed, of a dataset.

    Of a dataset or a file with columns, rows with text are shuffled by seed in blocks of 1,000 (or of 64 Mi characters,
    if those are fewer), and read one after the other until the minibatch is full: of each its first T tokens, or all
    and the tokenizer's token for the end of a text, packed into B sequences. Only if the whole dataset cannot fill the
    minibatch are windows drawn at random positions of all its rows, as of a text.

    For a masked language model, a seeded 15% of the tokens are replaced by the tokenizer's mask token
    and become the `labels`; other models take their labels from the input when they are scored.

    Args:
        model: the model that the minibatch must fit: vocabulary, positions, kind of head. None for no checks.
        text: the path of a file (UTF-8), or a `Text` with what it holds; a `DatasetText`, or the path of a file with a
            column "text" (JSON Lines, JSON, CSV, TSV, Parquet, Arrow); None for the embedded public-domain text.
        tokenizer: None for the embedded byte-level BPE tokenizer, of which a model with a small vocabulary gets the
            first merges only.
        batch_size: number of sequences B.
        seq_len: tokens per sequence T; by default 128, or the model's positions if those are fewer.
        seed: chooses the windows.
        random_tokens: uniformly random ids over the model's vocabulary instead of text.

    Returns:
        `input_ids` and `attention_mask`, int64 [B, T], and for masked language models `labels` [B, T].

    Raises:
        MinibatchError: the text is missing, empty or too short; the sequence is longer than the model's
            positions; the vocabulary is too small; a dataset cannot be read.
        UsageError: a dataset, its split or its column is unknown.
        ModelError: the model is wrapped in something unknown.

    Example:
        >>> from lpzero_hf import minibatch
        >>> minibatch(batch_size=2, seq_len=8)["input_ids"].shape
        torch.Size([2, 8])
    """
    if batch_size < 1:
        raise MinibatchError(f"batch size {batch_size} is less than 1; ask for at least one sequence")
    inner = None if model is None else unwrapped(model)
    limit = None if inner is None else position_limit(inner)
    if seq_len is None:
        seq_len = SEQUENCE_LENGTH if limit is None else min(SEQUENCE_LENGTH, limit)
    if seq_len < 2:
        raise MinibatchError(f"sequence length {seq_len} is less than 2; a language model needs a next token")
    generator = torch.Generator().manual_seed(seed)
    mask_id = None
    if random_tokens:
        if text is not None:
            raise MinibatchError(f"'{text}' and random tokens are two sources of one minibatch; choose one")
        if inner is None:
            raise MinibatchError("random tokens need a model, for its vocabulary")
        ids = torch.randint(vocabulary_size(inner), (batch_size, seq_len), generator=generator)
    else:
        tokenizer = tokenizer or (embedded_tokenizer() if inner is None else tokenizer_for(vocabulary_size(inner)))
        mask_id = tokenizer.mask_token_id
        ids = _drawn(source_of(text), tokenizer, batch_size, seq_len, seed, generator)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if inner is not None:
        check_minibatch(batch, inner)
        if mask_id is not None and mask_id < vocabulary_size(inner) and head_kind(inner) == "masked":
            chosen = masked_positions(batch, seed)
            batch["labels"] = ids.masked_fill(~chosen, -100)
            batch["input_ids"] = ids.masked_fill(chosen, mask_id)
    return batch


def _drawn(
    text: Source | None,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    seq_len: int,
    seed: int,
    generator: torch.Generator,
) -> Tensor:
    """The token ids [B, T] of a minibatch from a text or a dataset."""
    if isinstance(text, DatasetText):
        text = draw_rows(text, tokenizer, batch_size, seq_len, seed)
    if isinstance(text, DrawnRows) and not text.whole:
        return row_stream(text, tokenizer, seq_len)[: batch_size * seq_len].view(batch_size, seq_len)
    stream = token_stream(text, tokenizer)
    if len(stream) <= seq_len:
        where = "the embedded text" if text is None else f"'{text}'"
        raise MinibatchError(
            f"{where} has {len(stream)} tokens, too few for one sequence of {seq_len}; "
            "give a longer text or a smaller `seq_len=`"
        )
    starts = torch.randint(len(stream) - seq_len, (batch_size,), generator=generator)
    return torch.stack([stream[i : i + seq_len] for i in starts.tolist()])


class NoMinibatch(dict[str, Any]):
    """The minibatch of proxies that use none: empty, and whoever reads it all the same is told."""

    def __missing__(self, key: str) -> Any:
        raise MinibatchError(f"it reads '{key}' of the minibatch, but declares no pass; declare it with needs=")


def check_minibatch(given: GivenBatch, model: PreTrainedModel) -> dict[str, Any]:
    """What is given as a minibatch (see `as_batch`) as a plain dict of what `model` takes, if it can be scored on that.

    Raises:
        MinibatchError: it has no `input_ids` [B, T], is empty, holds ids outside the vocabulary, a
            sequence longer than the model's positions, or a mask of another shape.
    """
    batch = as_batch(given, model)
    ids = batch.get("input_ids")
    if not isinstance(ids, Tensor):
        raise MinibatchError(SHAPE)
    if ids.dim() != 2 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise MinibatchError(f"'input_ids' must be integers [batch, tokens], not {ids.dtype} {list(ids.shape)}")
    if ids.is_meta:
        raise MinibatchError("the minibatch is on the meta device, which holds no values; make it on a CPU or a GPU")
    if ids.dtype not in (torch.int32, torch.int64):  # an embedding takes no other
        ids = batch["input_ids"] = ids.long()
    if ids.numel() == 0:
        raise MinibatchError(f"the minibatch is empty: 'input_ids' is {list(ids.shape)}")
    for name, sizes in (("attention_mask", 2), ("labels", 1)):
        other = batch.get(name)
        if isinstance(other, Tensor) and other.shape[:sizes] != ids.shape[:sizes]:
            raise MinibatchError(f"'{name}' {list(other.shape)} does not match 'input_ids' {list(ids.shape)}")
    mask = batch.get("attention_mask")
    if isinstance(mask, Tensor) and not mask.any():
        raise MinibatchError("the minibatch is empty: every token is masked by 'attention_mask'")
    ids = without_padding(dict(batch), token=0)["input_ids"]
    vocabulary, limit = vocabulary_size(model), position_limit(model)
    if vocabulary == 0:
        raise MinibatchError(f"{type(model).__name__} has no vocabulary; score a language model that takes token ids")
    if int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
        worst = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        raise MinibatchError(
            f"token id {worst} is outside the model's vocabulary of {vocabulary}; "
            "use the model's own tokenizer or `random_tokens=True`"
        )
    if limit is not None and ids.shape[1] > limit:
        raise MinibatchError(
            f"a sequence of {ids.shape[1]} tokens is longer than the model's {limit} positions; "
            f"use `seq_len={limit}` or less"
        )
    return batch


def vocabulary_size(model: PreTrainedModel) -> int:
    """The number of token ids of the model's input embedding."""
    embedding = token_embedding(model)
    size = getattr(embedding, "num_embeddings", None) or getattr(model.config.get_text_config(), "vocab_size", 0)
    return int(size or 0)


def position_limit(model: PreTrainedModel) -> int | None:
    """The number of positions of the model, or None if its positions are relative and unbounded."""
    config = model.config.get_text_config()
    if config.model_type in RELATIVE_POSITIONS:
        return None
    limits = [value for name in POSITION_LIMITS if isinstance(value := getattr(config, name, None), int)]
    limits = [value for value in limits if value > 0]
    if not limits:
        return None
    limit = min(limits)
    embedding = next((m for n, m in model.named_modules() if n.endswith("embeddings.position_embeddings")), None)
    padding = getattr(embedding, "padding_idx", None)
    return limit - padding - 1 if isinstance(padding, int) else limit  # RoBERTa counts from after the padding id
