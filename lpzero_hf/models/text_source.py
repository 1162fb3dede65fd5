"""The sources of a minibatch's text: a text file, a file with columns, a dataset."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lpzero_hf import files
from lpzero_hf.errors import LpzError, MinibatchError, UsageError, one_line
from lpzero_hf.models.dataset_rows import dataset_column
from lpzero_hf.models.file_rows import BROKEN, COMPRESSED, Value, check_unpacked, column_of, is_table, no_text, suffixes

LARGEST_TEXT = 2**30  # bytes
LARGEST_JSON = 2**26  # characters of what may be one document of JSON
HOPELESS = 100_000  # rows without text, after which none is expected
PLAIN = "give a file of UTF-8 text"


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


@dataclass(frozen=True)
class DatasetText:
    """A column of text: of a dataset of the Hub, of a dataset in a folder, or of a file.

    Args:
        name: a Hub id, a folder, or a file (JSON Lines, JSON, CSV, TSV, Parquet, Arrow; also with .gz, .bz2 or .xz).
        split: of a dataset; a file has only "train".
        column: its name.
        config: the configuration, for a dataset that has several.

    Example:
        >>> str(DatasetText("my/dataset", column="story"))
        "my/dataset (split 'train', column 'story')"
    """

    name: str
    split: str = "train"
    column: str = "text"
    config: str | None = None

    def __str__(self) -> str:
        config = "" if self.config is None else f"configuration '{self.config}', "
        return f"{self.name} ({config}split '{self.split}', column '{self.column}')"


@dataclass(frozen=True)
class DrawnRows:
    """The rows that a minibatch of some size takes from a dataset, for a process that cannot read it.

    Args:
        source: where they were drawn.
        rows: their texts, in the order drawn; of a long one the beginning.
        whole: whether these are all rows of the dataset, because they are too few for the minibatch.
    """

    source: DatasetText
    rows: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return str(self.source)


Source = Path | Text | DatasetText | DrawnRows


def source_of(text: str | Source | None) -> Source | None:
    """What names a text, as one of its kinds: a file with columns is a `DatasetText`, whoever names it."""
    if isinstance(text, str | Path):
        return DatasetText(str(text)) if is_table(text) else Path(text)
    return text


def source_to_json(source: Source | None) -> Any:
    """As plain data: the path of a text, the fields of a dataset."""
    if isinstance(source, DrawnRows):
        source = source.source
    return asdict(source) if isinstance(source, DatasetText) else None if source is None else str(source)


def source_from_json(data: Any) -> Source | None:
    """The source from the result of `source_to_json`."""
    return DatasetText(**data) if isinstance(data, dict) else source_of(data)


def read_text(text: str | Path | Text | None) -> str:
    """The content of a text file, also of one with .gz, .bz2 or .xz, or the embedded text for None.

    Raises:
        MinibatchError: the file is missing, empty, too large, or not UTF-8.
        UsageError: it must be unpacked first.
    """
    if isinstance(text, Text):
        return text.content
    path = Path(text) if text is not None else Path(str(resources.files("lpzero_hf.models") / "data" / "text.txt"))
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder, not a file of text; give a folder of a dataset as `text=DatasetText`")
    compression = suffixes(path)[1]
    check_unpacked(path, compression)
    try:
        if compression:
            content = _unpacked(path, compression).decode("utf-8")
        else:
            content = files.read_text(path, PLAIN, LARGEST_TEXT)
    except UnicodeDecodeError as error:
        raise MinibatchError(f"'{path}' is not UTF-8 text (byte {error.start}); {PLAIN}") from error
    except LpzError as error:
        raise MinibatchError(str(error)) from error
    if not content.strip():
        raise MinibatchError(f"the text '{path}' is empty; give a file with text in it")
    if _is_json(content):
        raise UsageError(
            f"'{path}' holds JSON, whose braces and names would be scored as text; call it .jsonl or .json if it has "
            "an object for each row, and name the field with `column=`"
        )
    return content


def _is_json(content: str) -> bool:
    """Whether a text is one JSON object, an array of objects, or begins with a line that is an object."""
    begins = content.lstrip("\ufeff \t\r\n")
    if not begins.startswith(("{", "[")):
        return False
    for part in (begins.partition("\n")[0], begins if len(begins) <= LARGEST_JSON else ""):
        try:
            found = json.loads(part)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) or (isinstance(found, list) and found and isinstance(found[0], dict)):
            return True
    return False


def _unpacked(path: Path, compression: str) -> bytes:
    packed = files.read_bytes(path, PLAIN, LARGEST_TEXT)
    try:
        content: bytes = COMPRESSED[compression](io.BytesIO(packed)).read(LARGEST_TEXT + 1)
    except (*BROKEN, OSError) as error:
        raise MinibatchError(f"'{path}' is damaged ({one_line(error)}); make or fetch it again") from error
    if len(content) > LARGEST_TEXT:
        raise MinibatchError(f"'{path}' is too large unpacked (at most {LARGEST_TEXT:,} bytes); {PLAIN}")
    return content


def content_digest(source: Text | Path | DrawnRows | None) -> str:
    """SHA-256 of the content of a text, or of the rows drawn."""
    if isinstance(source, DrawnRows):
        return hashlib.sha256(json.dumps(["rows", source.whole, *source.rows]).encode()).hexdigest()
    return hashlib.sha256(read_text(source).encode()).hexdigest()


def texts_of(source: DatasetText) -> Iterator[str]:
    """The texts of a column in the order of its rows; empty ones are left out.

    Raises:
        UsageError: the dataset, the split, the column or the configuration is unknown, or the column holds no text.
        MinibatchError: the data cannot be read, or hold no text.
    """
    count, found = 0, False
    for place, value in _column(source):
        count += 1
        if isinstance(value, str) and value.strip():
            found = True
            yield _encodable(value, place)
        elif value is not None and not isinstance(value, str):
            raise no_text(f"{place}, column '{source.column}',", type(value).__name__)
        elif not found and count == HOPELESS:
            break
    if not found:
        what = f"no text in {'its' if count < HOPELESS else 'the first'} {count:,} rows" if count else "no rows"
        raise MinibatchError(f"{source} has {what}; choose another with `column=` or `split=`")


def _column(source: DatasetText) -> Iterator[Value]:
    path = Path(source.name)
    if not is_table(path) or path.is_dir():
        return dataset_column(source.name, source.config, source.split, source.column)
    if source.split != "train":
        raise UsageError(f"'{path}' is a file, without splits; leave out `split=`")
    if source.config is not None:
        raise UsageError(f"'{path}' is a file, without configurations; leave out `config=`")
    return column_of(path, source.column)


def _encodable(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MinibatchError(f"{place} holds half of a surrogate pair, which is no text; correct the row") from error
    return text
