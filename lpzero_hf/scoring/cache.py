"""A local cache of scores in one SQLite file that many processes share."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import platformdirs

from lpzero_hf.errors import LpzError, one_line
from lpzero_hf.files import parse_json

Row = dict[str, Any]

SCHEMA = 1
BUSY_SECONDS = 60
TABLE = """
CREATE TABLE scores (
    subject TEXT NOT NULL, proxy TEXT NOT NULL, row TEXT NOT NULL, PRIMARY KEY (subject, proxy)
) WITHOUT ROWID
"""
FOUND = """
SELECT subject, proxy, row FROM scores
WHERE subject IN (SELECT value FROM json_each(?)) AND proxy IN (SELECT value FROM json_each(?))
"""


COLUMNS = ["subject", "proxy", "row"]


class CacheError(LpzError):
    """The score cache cannot be used; the message names the file and the remedy."""


def cache_folder() -> Path:
    """The folder of the score cache: the environment's LPZ_CACHE, else the user's cache folder for lpzero-hf."""
    chosen = os.environ.get("LPZ_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("lpzero-hf")


def digest(*parts: object) -> str:
    """A name for `parts`: the first 32 hexadecimal digits of the SHA-256 of their canonical JSON.

    Dicts count without regard to order, tuples as lists, whole-number keys as strings (as after a round trip
    through JSON) and floats exactly, so that 1 and 1.0 differ. Bytes are hashed by their content: give a
    tensor as the bytes of its array, with its dtype and shape.

    Args:
        parts: None, bools, ints, floats, strings and bytes, and lists, tuples and dicts of these.

    Raises:
        TypeError: a part has no canonical form.

    Example:
        >>> digest({"layers": 2, "width": 64.0}, 42) == digest({"width": 64.0, "layers": 2}, 42)
        True
    """
    text = json.dumps(_canonical(parts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class ScoreCache:
    """Scores by subject and proxy; existing rows are never overwritten.

    Any number of threads may share one cache, and any number of processes one file. Each process opens its
    own: a pickled cache opens the file again when it is unpickled, and one inherited by a fork raises an error.
    The journal is SQLite's rollback journal and not WAL, which needs memory shared between all processes and
    so would corrupt a cache in a home folder that several machines of a cluster mount.

    Args:
        path: the file; by default `scores.sqlite` in `cache_folder()`. It and its folder are made if missing.

    Raises:
        CacheError: the file or its folder cannot be used, or the file is no score cache of this version.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, ScoreCache(Path(folder) / "scores.sqlite") as cache:
        ...     cache.put("a subject", {"snip@1": {"value": 0.5, "status": "ok"}})
        ...     cache.get("a subject", ["snip@1", "synflow@1"])
        {'snip@1': {'value': 0.5, 'status': 'ok'}}
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = cache_folder() / "scores.sqlite" if path is None else Path(path)
        self._lock = threading.Lock()
        self._process = os.getpid()
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.path.is_file():
                raise CacheError(f"{self.path} is no file; delete it or set LPZ_CACHE to another folder")
            # autocommit: every transaction below is an explicit one
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.text_factory = lambda text: text.decode("utf-8", "replace")
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def get(self, subject: str, proxies: Iterable[str]) -> dict[str, Row]:
        """The known rows of one subject.

        Args:
            subject: what was scored: a `digest` of everything that determines a score except the proxy.
            proxies: keys such as "snip@1", in which a new version makes old rows unknown.

        Returns:
            The cached rows, by proxy.

        Raises:
            CacheError: the file cannot be read.
        """
        return {proxy: row for (_, proxy), row in self.get_many([subject], proxies).items()}

    def get_many(
        self, subjects: Iterable[str], proxies: Iterable[str], sound: Callable[[Row], bool] | None = None
    ) -> dict[tuple[str, str], Row]:
        """The known rows of many subjects, in one query; what is no row is removed, so that it is computed again.

        Args:
            subjects: see `get`.
            proxies: see `get`.
            sound: whether a row is one; by default, any is.

        Returns:
            The cached rows, by (subject, proxy).

        Raises:
            CacheError: the file cannot be read.
        """
        wanted = (json.dumps(list(subjects)), json.dumps(list(proxies)))
        with self._errors(), self._own() as connection:
            found = {(subject, proxy): text for subject, proxy, text in connection.execute(FOUND, wanted).fetchall()}
            rows = {key: row for key, text in found.items() if (row := _parsed(text, sound)) is not None}
            if lost := found.keys() - rows.keys():
                with suppress(sqlite3.OperationalError), _transaction(connection):  # it may only be read, for example
                    connection.executemany("DELETE FROM scores WHERE subject = ? AND proxy = ?", lost)
            return rows

    def put(self, subject: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Store the rows of one subject, all or none of them; existing rows stay unchanged.

        Args:
            subject: see `get`.
            rows: by proxy, data that JSON can hold; floats come back exactly.

        Raises:
            CacheError: the file cannot be written.
            ValueError: a row holds NaN or infinity, which are no valid scores.
            TypeError: a row holds a value that JSON cannot represent.
        """
        encoded = [(subject, proxy, json.dumps(dict(row), allow_nan=False)) for proxy, row in rows.items()]
        with self._errors(), self._own() as connection, _transaction(connection):
            connection.executemany("INSERT INTO scores VALUES (?, ?, ?) ON CONFLICT DO NOTHING", encoded)

    def close(self) -> None:
        """Close the file; the cache cannot be used afterwards."""
        with self._own() as connection:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path,)

    def _prepare(self) -> None:
        """Make the table in a new file; refuse a file of another version or purpose."""
        if self._version() == SCHEMA:
            columns = [name for _, name, *_ in self._connection.execute("PRAGMA table_info(scores)")]
            if columns != COLUMNS:
                raise CacheError(f"{self.path} is not a score cache; delete it or set LPZ_CACHE to another folder")
            return
        with _transaction(self._connection):
            version = self._version()  # another process may have been first
            if version == SCHEMA:
                return
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version or tables:
                raise CacheError(
                    f"{self.path} is not a score cache of version {SCHEMA} (it says {version}); "
                    "delete it or set LPZ_CACHE to another folder"
                )
            self._connection.execute(TABLE)
            self._connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _own(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time and only in the process that opened it."""
        if os.getpid() != self._process:  # SQLite's locks do not survive a fork
            raise CacheError(f"the score cache {self.path} was opened before a fork; open it again in each process")
        with self._lock:
            yield self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        remedy = "or set LPZ_CACHE to another folder"
        try:
            yield
        except sqlite3.ProgrammingError:  # used after close(): a bug of the caller's
            raise
        except sqlite3.OperationalError as error:
            raise CacheError(
                f"cannot use the score cache {self.path} ({error}); check its permissions and the space left, {remedy}"
            ) from error
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            raise CacheError(f"{self.path} is not a score cache, or damaged ({error}); delete it {remedy}") from error
        except OSError as error:
            raise CacheError(
                f"cannot make the folder of the score cache {self.path} ({one_line(error)}); set LPZ_CACHE to another"
            ) from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; waits for its turn to write before it begins."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _parsed(text: object, sound: Callable[[Row], bool] | None) -> Row | None:
    """The row in a column; None if it is something else."""
    try:
        row = parse_json(text, "a row", "compute it again") if isinstance(text, str) else None
    except LpzError:
        return None
    return row if isinstance(row, dict) and (sound is None or sound(row)) else None


def _canonical(part: object) -> object:
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, list | tuple):
        return [_canonical(item) for item in part]
    if isinstance(part, bytes | bytearray | memoryview):
        return {"sha256": hashlib.sha256(part).hexdigest()}
    if isinstance(part, Mapping):
        # the dot keeps a dict apart from bytes
        keyed = {f".{_key(key)}": _canonical(value) for key, value in part.items()}
        if len(keyed) == len(part):
            return keyed
        raise TypeError("a dict with the same key as a number and as a string has no canonical form")
    raise TypeError(f"{type(part).__name__} has no canonical form; give None, numbers, strings, bytes, lists or dicts")


def _key(key: object) -> object:
    if isinstance(key, str) or (isinstance(key, int) and not isinstance(key, bool)):
        return key
    raise TypeError(f"a dict with a key of type {type(key).__name__} has no canonical form")
