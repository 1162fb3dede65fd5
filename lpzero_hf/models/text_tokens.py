"""Tokens of a text, and of the rows that a seed draws from a dataset."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpzero_hf.errors import MinibatchError
from lpzero_hf.models.panics import reported
from lpzero_hf.models.text_source import LARGEST_TEXT, DatasetText, DrawnRows, Text, read_text, texts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLOCK_ROWS = 1000  # rows with text that are shuffled together,
BLOCK_CHARACTERS = 2**26  # or fewer, if their texts are longer together
FEWEST_IDS = 259  # three special tokens and 256 bytes
LONGEST = 64  # characters of a row for each token that may be wanted of it
REMEDY = "remove the tokenizer's files to use the embedded one, or use `random_tokens=True`"


def shuffled(texts: Iterator[str], seed: int, longest: int) -> Iterator[str]:
    """The texts, shuffled block by block: first those of the first `BLOCK_ROWS`, and further ones only when asked for.

    Args:
        texts: in their order.
        seed: of the shuffling.
        longest: characters of a text that are kept.
    """
    generator = torch.Generator().manual_seed(seed)
    block: list[str] = []
    characters = 0
    for text in texts:
        block.append(text[:longest])
        characters += len(text)
        if len(block) == BLOCK_ROWS or characters >= BLOCK_CHARACTERS:
            yield from (block[i] for i in torch.randperm(len(block), generator=generator).tolist())
            block, characters = [], 0
    yield from (block[i] for i in torch.randperm(len(block), generator=generator).tolist())


def draw_rows(
    source: DatasetText, tokenizer: PreTrainedTokenizerBase, batch_size: int, seq_len: int, seed: int
) -> DrawnRows:
    """The rows that fill a minibatch, no more of them being read than their block.

    Args:
        source: where to draw.
        tokenizer: says how many tokens a row has.
        batch_size: sequences B.
        seq_len: tokens of each, T.
        seed: of the shuffling.

    Raises:
        UsageError: as `texts_of`.
        MinibatchError: as `texts_of`.
    """
    rows: list[str] = []
    tokens, wanted = 0, batch_size * seq_len
    for row in shuffled(texts_of(source), seed, LONGEST * wanted):
        rows.append(row)
        tokens += min(len(_encoded_row(row[: LONGEST * seq_len], tokenizer)), seq_len)
        if tokens >= wanted:
            return DrawnRows(source, tuple(row[: LONGEST * seq_len] for row in rows), whole=False)
    return DrawnRows(source, tuple(rows), whole=True)


def row_stream(drawn: DrawnRows, tokenizer: PreTrainedTokenizerBase, most: int | None = None) -> Tensor:
    """The token ids [N] of rows one after the other.

    Args:
        drawn: the rows.
        tokenizer: what makes them tokens; its token for the end of a text, where it has one, follows each row.
        most: tokens of each row; None for all.
    """
    if _is_embedded(tokenizer):
        return torch.cat([ids[:most] for ids in _embedded_rows(drawn.rows, len(tokenizer))])
    return torch.cat([_encoded_row(row, tokenizer)[:most] for row in drawn.rows])


def read_rows(source: DatasetText, tokenizer: PreTrainedTokenizerBase, tokens: int, seed: int) -> Tensor:
    """The token ids [N] of as many rows, shuffled as for a minibatch, as have `tokens` tokens; or of all rows."""
    parts: list[Tensor] = []
    found = 0
    for row in shuffled(texts_of(source), seed, LARGEST_TEXT):
        parts.append(_encoded_row(row, tokenizer))
        found += len(parts[-1])
        if found >= tokens:
            break
    return torch.cat(parts)


def token_stream(text: Text | Path | DrawnRows | None, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The token ids [N] of a text file, of rows, or of the embedded text for None. Raises as `read_text` does."""
    if isinstance(text, DrawnRows):
        return row_stream(text, tokenizer)
    content = read_text(text)
    if _is_embedded(tokenizer):
        return _embedded_stream(content, len(tokenizer))
    return _encoded(content, tokenizer)


@functools.cache
def embedded_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer that ships with this library: byte-level BPE, 4,096 ids (see `lpzero_hf/models/data`)."""
    return _made(json.loads(_embedded_file()))


def tokenizer_for(vocabulary: int) -> PreTrainedTokenizerBase:
    """The embedded tokenizer for a model of that vocabulary.

    A smaller vocabulary than its own gets the first merges only, which is the tokenizer that training would have given
    at that size (Sennrich et al. 2016, arXiv:1508.07909: merges are found one after the other). One that has not even
    the ids of all bytes gets the whole tokenizer, whose tokens do not fit it.

    Args:
        vocabulary: ids of the model.
    """
    whole = embedded_tokenizer()
    return _first_merges(vocabulary) if FEWEST_IDS <= vocabulary < len(whole) else whole


@functools.cache
def _first_merges(vocabulary: int) -> PreTrainedTokenizerBase:
    data = json.loads(_embedded_file())
    model = data["model"]
    ids = model["vocab"]
    model["merges"] = [pair for pair in model["merges"] if ids["".join(pair)] < vocabulary]
    model["vocab"] = {token: i for token, i in ids.items() if i < vocabulary}
    return _made(data)


def _embedded_file() -> str:
    return (resources.files("lpzero_hf.models") / "data" / "tokenizer.json").read_text(encoding="utf-8")


def _made(data: dict[str, Any]) -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(data)),
        pad_token="<pad>",
        mask_token="<mask>",
        eos_token="<eos>",
    )


def _is_embedded(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer is tokenizer_for(len(tokenizer))


@functools.lru_cache(maxsize=4)
def _embedded_stream(content: str, vocabulary: int) -> Tensor:
    """Cached, because every architecture of a benchmark is scored on the same text."""
    return _encoded(content, tokenizer_for(vocabulary))


@functools.lru_cache(maxsize=4)
def _embedded_rows(rows: tuple[str, ...], vocabulary: int) -> list[Tensor]:
    """Cached as `_embedded_stream` is."""
    return [_encoded_row(row, tokenizer_for(vocabulary)) for row in rows]


def _encoded_row(row: str, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    ids, end = _encoded(row, tokenizer), tokenizer.eos_token_id
    return ids if end is None else torch.cat([ids, torch.tensor([end])])


def _encoded(content: str, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    with reported("the tokenizer cannot read the text", REMEDY, MinibatchError):
        encoded = tokenizer(content, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return torch.tensor(encoded["input_ids"], dtype=torch.long)
