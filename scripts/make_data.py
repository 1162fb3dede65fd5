"""Makes the embedded text and tokenizer of `lpzero_hf/models/data`.

    apt-get install bible-kjv bible-kjv-text
    bible -f "Gen1:1-Gen50:26" | python scripts/make_data.py

The text is the book of Genesis in the King James translation of 1611 (public domain), one verse a line
without its number. The tokenizer is a byte-level BPE of 4,096 ids trained on that text; training is
deterministic, and a test repeats it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

DATA = Path(__file__).parent.parent / "lpzero_hf" / "models" / "data"
VOCABULARY = 4096
SPECIAL_TOKENS = ["<pad>", "<mask>", "<eos>"]


def train(text: str) -> Tokenizer:
    """A byte-level BPE tokenizer of `VOCABULARY` ids trained on `text`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


if __name__ == "__main__":
    verses = [line.split(" ", 1)[1].strip() for line in sys.stdin if " " in line.strip()]
    content = "\n".join(verses) + "\n"
    (DATA / "text.txt").write_text(content, encoding="utf-8")
    train(content).save(str(DATA / "tokenizer.json"))
    print(f"{len(verses)} verses, {len(content):,} characters, {VOCABULARY} ids")
