"""Makes the corpus of the benchmark `tiny-gpt2`: the King James Bible (public domain), split by book.

    apt-get install bible-kjv bible-kjv-text
    bible -f "Gen1:1-Rev22:21" | python scripts/make_corpus.py FOLDER

One verse a line without its number. Seven whole books, of every kind of text in it, are `validation.txt`;
the others are `train.txt`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HELD_OUT = {"Ruth", "2Ki", "Eccl", "Dan", "Amos", "Mark", "Gal"}
VERSE = re.compile(r"(\w+?)\d+:\d+ (.*)")

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    texts: dict[str, list[str]] = {"train.txt": [], "validation.txt": []}
    for line in sys.stdin:
        if found := VERSE.fullmatch(line.strip()):
            texts["validation.txt" if found[1] in HELD_OUT else "train.txt"].append(found[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name, verses in texts.items():
        (folder / name).write_text("\n".join(verses) + "\n", encoding="utf-8")
        print(f"{name}: {len(verses)} verses")
