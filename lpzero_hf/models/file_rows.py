"""Reads one column of a table in a file, row by row: JSON Lines, JSON, CSV, TSV, Parquet, Arrow.

Nothing is read whole: a reader holds a line, an item or a small batch of rows, whatever the size of the file.
"""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from lpzero_hf.errors import LpzError, MinibatchError, UsageError, did_you_mean, one_line
from lpzero_hf.files import parse_json, regular_file

Value = tuple[str, Any]  # the place of a row, for messages, and what the column holds there
Reader = Callable[[BinaryIO, Path, str], Iterator[Value]]

COMPRESSED: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PACKED = {".zst", ".zip", ".7z", ".rar", ".tar", ".tgz", ".lz4", ".br", ".lzma", ".z"}
BROKEN = (EOFError, zlib.error, lzma.LZMAError)  # what a damaged compressed file raises
LONGEST_ROW = 2**26  # bytes of a line, characters of an item
CHUNK = 2**16
BATCH = 32  # rows of a binary format at a time: some hold whole books
UNSURE = 1000  # rows of JSON without the column, before it is said to be missing
SHOWN = 20  # columns that a message lists


def suffixes(path: str | Path) -> tuple[str, str]:
    """The suffix of a file without its compression, and that of its compression: `(".jsonl", ".gz")`."""
    path = Path(path)
    last = path.suffix.lower()
    if last in COMPRESSED or last in PACKED:
        return Path(path.stem).suffix.lower(), last
    return last, ""


def is_table(path: str | Path) -> bool:
    """Whether the name of a file says that it has columns."""
    return suffixes(path)[0] in READERS


def check_unpacked(path: Path, suffix: str) -> None:
    """Raise `UsageError` for a compression that cannot be read here."""
    if suffix in PACKED:
        raise UsageError(f"'{path}' is packed as {suffix}, which cannot be read here; unpack it, or use .gz")


def column_of(path: Path, column: str) -> Iterator[Value]:
    """The values of a column, with their places, in the order of the file.

    Args:
        path: the file; its suffix says what it is.
        column: its name.

    Raises:
        UsageError: there is no such column (the message lists those there), or the file must be unpacked first.
        MinibatchError: the file cannot be read: it is missing or damaged, or pyarrow is.
    """
    kind, compression = suffixes(path)
    check_unpacked(path, compression)
    remedy = "give a readable file with a column of text"
    try:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(regular_file(path, remedy))
            if compression:
                file = opened.enter_context(COMPRESSED[compression](file))
            yield from READERS[kind](file, path, column)
    except (UsageError, MinibatchError):
        raise
    except BROKEN as error:
        raise MinibatchError(f"'{path}' is damaged ({one_line(error)}); make or fetch it again") from error
    except LpzError as error:
        raise MinibatchError(str(error)) from error


def no_column(column: str, name: object, there: Iterable[str]) -> UsageError:
    """The error for a column that is not there."""
    known = [str(other) for other in there]
    shown = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")
    return UsageError(
        f"'{name}' has no column '{column}'{did_you_mean(column, known)}; choose with `column=`, there are {shown}"
        if known
        else f"'{name}' has no columns; give a table with a column of text"
    )


def need_pyarrow(path: object) -> Any:
    """The module pyarrow. Raises `MinibatchError`, naming the extra, if it is not installed."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise MinibatchError(
            f"reading '{path}' needs pyarrow; install it with `pip install 'lpzero-hf[tables]'`"
        ) from error
    return pyarrow


def _json_lines(file: BinaryIO, path: Path, column: str) -> Iterator[Value]:
    return _of_objects(_parsed_lines(file, path), path, column)


def _parsed_lines(file: BinaryIO, path: Path) -> Iterator[Value]:
    number = 0
    while line := file.readline(LONGEST_ROW + 1):
        number += 1
        source = f"line {number} of '{path}'"
        if len(line) > LONGEST_ROW:
            raise MinibatchError(f"{source} is longer than {LONGEST_ROW:,} bytes; JSON Lines have one object a line")
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip():
            yield source, parse_json(line, source, "correct the line, or delete it", strict=False)


def _json(file: BinaryIO, path: Path, column: str) -> Iterator[Value]:
    """Rows of a JSON array of objects, or of JSON Lines under the name of JSON."""
    buffered = io.BufferedReader(cast(io.RawIOBase, file))  # of a file, or of what unpacks it
    start = buffered.peek(CHUNK).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        return _of_objects(_items(io.TextIOWrapper(buffered, encoding="utf-8-sig"), path), path, column)
    return _of_objects(_of_one_object(_parsed_lines(buffered, path), path), path, column)


def _of_one_object(lines: Iterator[Value], path: Path) -> Iterator[Value]:
    """The lines; if the first is no JSON by itself, the error says what a `.json` file must be."""
    try:
        first = next(lines, None)
    except LpzError as error:
        raise MinibatchError(
            f"'{path}' is neither a JSON array of objects nor JSON Lines ({error}); give one object a row, as "
            "pandas writes with orient='records'"
        ) from error
    if first is not None:
        yield first
        yield from lines


def _items(text: io.TextIOWrapper, path: Path) -> Iterator[Value]:
    """The items of a JSON array, parsed one by one."""
    decoder = json.JSONDecoder()
    held, number, ended = text.read(CHUNK).lstrip()[1:], 0, False
    while True:
        held = held.lstrip()
        if held.startswith("]"):
            return
        source = f"item {number + 1} of '{path}'"
        try:
            item, end = decoder.raw_decode(held)
        except (ValueError, RecursionError) as error:
            more = "" if ended or len(held) > LONGEST_ROW else text.read(max(CHUNK, len(held)))
            if not more:
                raise MinibatchError(f"{source} is not readable JSON ({one_line(error)}); correct it") from error
            held, ended = held + more, not more
            continue
        number += 1
        yield source, item
        held = held[end:].lstrip()
        if not held:
            held = text.read(CHUNK).lstrip()
        if not held.startswith((",", "]")):
            raise MinibatchError(f"{source} is followed by neither ',' nor ']'; correct the file")
        held = held.removeprefix(",") or text.read(CHUNK)


def _of_objects(rows: Iterator[Value], path: Path, column: str) -> Iterator[Value]:
    """The column of rows that are JSON objects; a row without it holds None there."""
    others: dict[str, None] = {}
    found, count = False, 0
    for source, row in rows:
        if not isinstance(row, Mapping):
            raise MinibatchError(
                f'{source} is no object but {type(row).__name__}; a row is an object such as {{"{column}": "..."}}'
            )
        found = found or column in row
        others |= {} if found else dict.fromkeys(row)
        count += 1
        if not found and count == UNSURE:
            break
        yield source, row.get(column)
    if not found and count:
        raise no_column(column, path, others)


def _csv(file: BinaryIO, path: Path, column: str) -> Iterator[Value]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    before = csv.field_size_limit(LONGEST_ROW)  # of the whole process
    reader = csv.reader(text, delimiter="\t" if suffixes(path)[0] in (".tsv", ".tab") else ",", strict=True)
    try:
        header = next(reader, [])
        if column not in header:
            raise no_column(column, path, header)
        place = header.index(column)
        for row in reader:
            source = f"line {reader.line_num} of '{path}'"
            if row and len(row) != len(header):
                raise MinibatchError(
                    f"{source} has {len(row)} fields, the header {len(header)}; quote fields that hold commas or lines"
                )
            if row:
                yield source, row[place]
    except csv.Error as error:
        raise MinibatchError(f"line {reader.line_num} of '{path}' is not readable ({error}); correct it") from error
    except UnicodeDecodeError as error:
        raise MinibatchError(f"'{path}' is not UTF-8 text (after line {reader.line_num}); save it as UTF-8") from error
    finally:
        csv.field_size_limit(before)
        text.detach()


def _parquet(file: BinaryIO, path: Path, column: str) -> Iterator[Value]:
    arrow = need_pyarrow(path)
    with _of_arrow(path):
        table = arrow.parquet.ParquetFile(file, buffer_size=CHUNK, pre_buffer=False)  # else a row group is read whole
        _check(table.schema_arrow, column, path)
        yield from _values(table.iter_batches(BATCH, columns=[column]), path, column)


def _arrow(file: BinaryIO, path: Path, column: str) -> Iterator[Value]:
    arrow = need_pyarrow(path)
    with _of_arrow(path):
        try:
            table = arrow.ipc.open_file(file)
            batches = (table.get_batch(i) for i in range(table.num_record_batches))
        except arrow.ArrowInvalid:  # the other of the two formats, as the library `datasets` writes it
            file.seek(0)
            table = batches = arrow.ipc.open_stream(file)
        _check(table.schema, column, path)
        yield from _values(batches, path, column)


def _check(schema: Any, column: str, path: Path) -> None:
    if column not in schema.names:
        raise no_column(column, path, schema.names)
    kind = str(schema.field(column).type)
    if "string" not in kind or "<" in kind.removeprefix("dictionary<"):
        raise no_text(f"column '{column}' of '{path}'", kind)


def no_text(what: str, kind: str) -> UsageError:
    """The error for a column of something else."""
    return UsageError(f"{what} holds {kind}, not text; choose a column of strings with `column=`")


def _values(batches: Iterable[Any], path: Path, column: str) -> Iterator[Value]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            for value in batch.column(batch.schema.names.index(column)).slice(start, BATCH).to_pylist():
                number += 1
                yield f"row {number} of '{path}'", value


@contextlib.contextmanager
def _of_arrow(path: Path) -> Iterator[None]:
    """Turn errors of pyarrow about a file into ours."""
    arrow = need_pyarrow(path)
    try:
        yield
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        raise MinibatchError(f"'{path}' is damaged ({one_line(error)}); make or fetch it again") from error


READERS: dict[str, Reader] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".jsonlines": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".tab": _csv,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
}
