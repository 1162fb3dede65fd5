"""Makes the corpus of the benchmark `tiny-lm`: the entries of WordNet 3.0, split by page.

    apt-get download wordnet-base
    dpkg-deb -x wordnet-base_*.deb wordnet
    python scripts/make_wordnet_text.py wordnet/usr/share/wordnet FOLDER

WordNet 3.0 is copyright 2006 by Princeton University, whose licence (https://wordnet.princeton.edu/license-and-commercial-use)
permits to use, copy, modify and distribute it for any purpose and without fee. One set of synonyms a line: its words,
its definition, and its examples. 64 consecutive ones, which are of one subject, are a page; every sixteenth page is in
`validation.txt`, the others are in `train.txt`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
PAGE, HELD_OUT = 64, 16
MARKER = re.compile(r"\((?:a|p|ip)\)$")  # where an adjective stands in a sentence


def entry(line: str) -> str:
    """One line of a data file (see wndb(5WN)) as a line of text: `physical object, object: a tangible thing; "..."`."""
    facts, _, gloss = line.partition(" | ")
    fields = facts.split()
    words = [MARKER.sub("", word).replace("_", " ") for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
    return f"{', '.join(words)}: {' '.join(gloss.split())}"


if __name__ == "__main__":
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    texts: dict[str, list[str]] = {"train.txt": [], "validation.txt": []}
    for name in FILES:
        lines = (source / name).read_text(encoding="utf-8").splitlines()
        entries = [entry(line) for line in lines if not line.startswith("  ")]  # the licence is indented
        for number, text in enumerate(entries):
            page = number // PAGE
            texts["validation.txt" if page % HELD_OUT == HELD_OUT - 1 else "train.txt"].append(text)
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in texts.items():
        (folder / name).write_text("\n".join(entries) + "\n", encoding="utf-8")
        print(f"{name}: {len(entries):,} entries, {sum(map(len, entries)):,} characters")
