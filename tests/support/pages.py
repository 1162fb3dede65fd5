"""Runs a page of the documentation as a reader would: its code blocks from top to bottom, in an empty folder.

- A `python` block runs in the namespace of the page; one that starts with `>>>` is a doctest.
- Each line `$ lpz ...` of a `console` block runs the command, which must succeed, and print what is shown below it:
  every line in order, where a line `...` stands for any number of lines, and `...` within a line for anything. Of a
  table, the title, the header and the first cell of each row must be the same; of other cells, numbers with a decimal
  point may be off by 10% or 0.1 (other versions and processors compute other last digits, and rank correlations jump
  by whole pairs), and text may be other text. Seconds are not compared.
- A block below `<!-- skip: next "run by FILE" -->` is run by that test or script instead: it needs another environment,
  or a server.
"""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from unittest import SkipTest

from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parents[2]
RULES = set("━─┏┓┡┩└┘┳╇┴┻┷╋┠┨├┤┼┌┐╭╮╰╯╷╵╶╴╿╽ ")
NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?([eE][-+]?\d+)?")
SECONDS = re.compile(r"\b\d+(\.\d+)? s\b")
UNTOLD = {"s/arch", "s"}  # columns of seconds
Run = Callable[..., tuple[int, str, str]]
Item = tuple[str, ...]  # a line of text, or the cells of a row of a table


def commands(block: str) -> list[tuple[list[str], str]]:
    """The arguments of every `$ lpz` of a console block, with the output shown below it."""
    found: list[tuple[list[str], str]] = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, shown = part.replace("\\\n", " ").partition("\n")
        found.append((shlex.split(line, comments=True), shown))
    assert found, f"a console block without a line that starts with '$ ': {block}"
    return found


def run_page(page: Path, lpz: Run) -> tuple[int, list[tuple[Example, str]]]:
    """Run every block of a page; how many were run here, and those that are run elsewhere with where."""

    def console(example: Example) -> None:
        for arguments, shown in commands(example.parsed):
            assert arguments[0] == "lpz", f"{page.name}: only lpz is run here, not {shlex.join(arguments)}"
            code, out, err = lpz(*arguments[1:])
            assert code == 0, f"{page.name}: {shlex.join(arguments)} ended with {code}: {err}"
            problem = differing(shown, out)
            assert not problem, f"{page.name}: {shlex.join(arguments)}: {problem}\n--- it printed\n{out}"

    parsers = [
        PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS),
        CodeBlockParser("console", console),
        SkipParser(),
    ]
    done, elsewhere = 0, []
    for example in Document.parse(str(page), *parsers).examples():
        try:
            example.evaluate()
        except SkipTest as skipped:
            elsewhere.append((example, str(skipped).removeprefix("run by ")))
        else:
            done += isinstance(example.parsed, str | doctest.Example)
    return done, elsewhere


def differing(shown: str, printed: str) -> str:
    """How what a page shows departs from what was printed, or ""."""
    if not shown.strip():
        return ""
    want, got = list(items(shown)), list(items(printed))
    headers = list(accumulate(got, lambda last, item: item if item[0] == "header" else last))
    at, anywhere = 0, False
    for item in want:
        if item == ("...",):
            anywhere = True
            continue
        places = range(at, len(got)) if anywhere else range(at, min(at + 1, len(got)))
        match = next((place for place in places if same(item, got[place], headers[place][1:])), None)
        if match is None:
            told = got[at] if at < len(got) else "the end"
            return f"the page shows {item}, there is {told}" + (" and nothing like it below" if anywhere else "")
        at, anywhere = match + 1, False
    return "" if anywhere or at == len(got) else f"the page ends before {got[at]}"


def items(text: str) -> Iterator[Item]:
    """The lines of text and rows of tables; a title, wrapped to the width of its table, is one line."""
    title: list[str] = []
    for line in text.splitlines():
        if not line.strip() or (set(line) <= RULES and not line.startswith("┏")):
            continue
        if line.startswith("┏"):
            if title:
                yield ("text", " ".join(title))
            title = []
        elif line[0] in "┃│":
            kind = "header" if line[0] == "┃" else "row"
            yield (kind, *(" ".join(cell.split()) for cell in re.split("[┃│]", line)[1:-1]))
        elif line.strip() == "...":
            yield from (("text", told) for told in title)
            title = []
            yield ("...",)
        else:
            title.append(" ".join(line.split()))
    yield from (("text", told) for told in title)


def same(shown: Item, printed: Item, header: Sequence[str]) -> bool:
    """Whether what is shown may stand for what was printed, under a table's header."""
    if shown[0] != printed[0] or len(shown) != len(printed):
        return False
    if shown[0] == "text":
        pattern = ".*".join(re.escape(part) for part in SECONDS.sub("_ s", shown[1]).split("..."))
        return re.fullmatch(pattern, SECONDS.sub("_ s", printed[1])) is not None
    if shown[0] == "header" or shown[1] != printed[1]:
        return shown == printed
    return all(
        name in UNTOLD or alike(cell, other)
        for name, cell, other in zip(header[1:], shown[2:], printed[2:], strict=True)
    )


def alike(shown: str, printed: str) -> bool:
    """Whether two cells hold the same numbers, up to the tolerance; or both are text."""
    ours, theirs = NUMBER.findall(shown), NUMBER.findall(printed)
    if not shown or not printed or not NUMBER.match(shown.lstrip("[")):
        return bool(shown) == bool(printed) and bool(NUMBER.match(shown)) == bool(NUMBER.match(printed))
    if len(ours) != len(theirs):
        return False
    for one, other in zip(NUMBER.finditer(shown), NUMBER.finditer(printed), strict=True):
        x, y = (float(found[0].replace(",", "")) for found in (one, other))
        exact = one[1] is None and one[2] is None
        if abs(x - y) > (0 if exact else max(0.1 * max(abs(x), abs(y)), 0.1 if abs(x) <= 1 else 0)):
            return False
    return True
