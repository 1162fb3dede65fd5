"""Makes a tokenised minibatch that fits a model, from a text."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lpzero_hf import files
from lpzero_hf.errors import LpzError, MinibatchError
from lpzero_hf.models.embeddings import token_embedding
from lpzero_hf.models.objective import head_kind, masked_positions
from lpzero_hf.models.padding import without_padding
from lpzero_hf.models.panics import reported
from lpzero_hf.models.unwrap import unwrapped

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE = 16
SEQUENCE_LENGTH = 128
LARGEST_TEXT = 2**30  # bytes
POSITION_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")
RELATIVE_POSITIONS = {"t5", "mt5", "umt5", "longt5", "bloom", "mpt", "xlnet", "mamba", "mamba2", "transfo-xl"}
REMEDY = "remove the tokenizer's files to use the embedded one, or use --random-tokens"


@dataclass(frozen=True)
class Text:
    """The content of a text file, for a process on a machine that does not have the file.

    Args:
        path: of the file.
        content: its text.
    """

    path: Path
    content: str

    def __str__(self) -> str:
        return str(self.path)


def minibatch(
    model: nn.Module | None = None,
    *,
    text: str | Path | Text | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    batch_size: int = BATCH_SIZE,
    seq_len: int | None = None,
    seed: int = 42,
    random_tokens: bool = False,
) -> dict[str, Tensor]:
    """A minibatch of windows drawn at random (seeded) positions of a text.

    For a masked language model, a seeded 15% of the tokens are replaced by the tokenizer's mask token
    and become the `labels`; other models take their labels from the input when they are scored.

    Args:
        model: the model that the minibatch must fit: vocabulary, positions, kind of head. None for no checks.
        text: the path of a file (UTF-8), or a `Text` with what it holds; None for the embedded public-domain text.
        tokenizer: None for the embedded byte-level BPE tokenizer.
        batch_size: number of sequences B.
        seq_len: tokens per sequence T; by default 128, or the model's positions if those are fewer.
        seed: chooses the windows.
        random_tokens: uniformly random ids over the model's vocabulary instead of text.

    Returns:
        `input_ids` and `attention_mask`, int64 [B, T], and for masked language models `labels` [B, T].

    Raises:
        MinibatchError: the text is missing, empty or too short; the sequence is longer than the model's
            positions; the vocabulary is too small.
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
        if inner is None:
            raise MinibatchError("random tokens need a model, for its vocabulary")
        ids = torch.randint(vocabulary_size(inner), (batch_size, seq_len), generator=generator)
    else:
        tokenizer = tokenizer or embedded_tokenizer()
        mask_id = tokenizer.mask_token_id
        stream = token_stream(text, tokenizer)
        if len(stream) <= seq_len:
            where = "the embedded text" if text is None else f"'{text}'"
            raise MinibatchError(
                f"{where} has {len(stream)} tokens, too few for one sequence of {seq_len}; "
                "give a longer text or a smaller --seq-len"
            )
        starts = torch.randint(len(stream) - seq_len, (batch_size,), generator=generator)
        ids = torch.stack([stream[i : i + seq_len] for i in starts.tolist()])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if inner is not None:
        check_minibatch(batch, inner)
        if mask_id is not None and mask_id < vocabulary_size(inner) and head_kind(inner) == "masked":
            chosen = masked_positions(batch, seed)
            batch["labels"] = ids.masked_fill(~chosen, -100)
            batch["input_ids"] = ids.masked_fill(chosen, mask_id)
    return batch


class NoMinibatch(dict[str, Any]):
    """The minibatch of proxies that use none: empty, and whoever reads it all the same is told."""

    def __missing__(self, key: str) -> Any:
        raise MinibatchError(f"it reads '{key}' of the minibatch, but declares no pass; declare it with needs=")


def check_minibatch(batch: Mapping[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """`batch` as a plain dict, if `model` can take it.

    Raises:
        MinibatchError: it has no `input_ids` [B, T], is empty, holds ids outside the vocabulary, a
            sequence longer than the model's positions, or a mask of another shape.
    """
    if not isinstance(batch, Mapping) or not isinstance(batch.get("input_ids"), Tensor):
        raise MinibatchError("a minibatch is a dict with a tensor 'input_ids' [batch, tokens]")
    ids = batch["input_ids"]
    if ids.dim() != 2 or ids.is_floating_point():
        raise MinibatchError(f"'input_ids' must be integers [batch, tokens], not {ids.dtype} {list(ids.shape)}")
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
            "use the model's own tokenizer or --random-tokens"
        )
    if limit is not None and ids.shape[1] > limit:
        raise MinibatchError(
            f"a sequence of {ids.shape[1]} tokens is longer than the model's {limit} positions; "
            f"use --seq-len {limit} or less"
        )
    return dict(batch)


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


@functools.cache
def embedded_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer that ships with this library: byte-level BPE, 4,096 ids (see `lpzero_hf/models/data`)."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_file=str(resources.files("lpzero_hf.models") / "data" / "tokenizer.json"),
        pad_token="<pad>",
        mask_token="<mask>",
        eos_token="<eos>",
    )


def read_text(text: str | Path | Text | None) -> str:
    """The content of a text file, or the embedded text for None. Raises `MinibatchError` as `token_stream` does."""
    if isinstance(text, Text):
        return text.content
    path = Path(text) if text is not None else Path(str(resources.files("lpzero_hf.models") / "data" / "text.txt"))
    try:
        content = files.read_text(path, "give a file of UTF-8 text", LARGEST_TEXT)
    except LpzError as error:
        raise MinibatchError(str(error)) from error
    if not content.strip():
        raise MinibatchError(f"the text '{path}' is empty; give a file with text in it")
    return content


def token_stream(text: str | Path | Text | None, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The token ids [N] of a text file, or of the embedded text for None.

    Raises:
        MinibatchError: the file is missing, empty, or not UTF-8.
    """
    content = read_text(text)
    if tokenizer is embedded_tokenizer():
        return _embedded_stream(content)
    return _encoded(content, tokenizer)


@functools.lru_cache(maxsize=4)
def _embedded_stream(content: str) -> Tensor:
    """Cached, because every architecture of a benchmark is scored on the same text."""
    return _encoded(content, embedded_tokenizer())


def _encoded(content: str, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    with reported("the tokenizer cannot read the text", REMEDY, MinibatchError):
        encoded = tokenizer(content, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return torch.tensor(encoded["input_ids"], dtype=torch.long)
