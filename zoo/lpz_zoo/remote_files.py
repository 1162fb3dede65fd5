"""The files of a published benchmark: in a folder of the user's, or in the cache after a download.

The environment's LPZ_DATA names a folder that already holds them, LPZ_CACHE another cache, and LPZ_MIRROR a
server that serves the same paths as https://raw.githubusercontent.com, for use behind a firewall.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lpzero_hf.errors import LpzError, one_line

if TYPE_CHECKING:
    import pooch  # type: ignore[import-untyped]  # it comes without types
    import requests

    from lpzero_hf.benchmarks.benchmark import Progress

SERVER = "https://raw.githubusercontent.com"
THREADS = 8
ATTEMPTS = 3
TIMEOUT = (10, 30)  # seconds: to connect, and without a byte
CHUNK = 1 << 16


class DownloadError(LpzError):
    """The files of a benchmark are missing, damaged, or cannot be downloaded; the message names the remedy."""


@dataclass(frozen=True, kw_only=True)
class RemoteFiles:
    """The files of a benchmark, as in one commit of a GitHub repository.

    A file is in place only after its SHA-256 has been checked, and is checked again by every `path()`.

    Args:
        benchmark: whose files they are, as users type it.
        folder: their folder's name in LPZ_DATA and in the cache.
        source: owner, repository and commit: "owner/name/0123abc".
        strip: prefix of the upstream paths that the local ones lack: "data/" or "".
        registry: a text file with a line per file: upstream path, a space, "sha256:" and 64 hexadecimal digits.
        size: bytes of all files together, for the progress of a download.
    """

    benchmark: str
    folder: str
    source: str
    strip: str = ""
    registry: Path
    size: int

    @property
    def base_url(self) -> str:
        """The address to which a local path is appended.

        Raises:
            DownloadError: LPZ_MIRROR is no web address.
        """
        server = os.environ.get("LPZ_MIRROR") or SERVER
        if not server.startswith(("https://", "http://")):
            raise DownloadError(f"LPZ_MIRROR is '{server}'; give an address like {SERVER}, or unset it")
        return f"{server.rstrip('/')}/{self.source}/{self.strip}"

    def files(self) -> dict[str, str]:
        """The SHA-256 of each file, in hexadecimal, by its path below the folder."""
        lines = self.registry.read_text(encoding="utf-8").splitlines()
        pairs = (line.rsplit(" sha256:", 1) for line in lines if line)
        return {path.removeprefix(self.strip): digest for path, digest in pairs}

    def path(self) -> Path:
        """The folder that holds the files: the one in LPZ_DATA if all are there, else the cache's.

        Raises:
            DownloadError: neither holds all files, or one has been changed.
        """
        given = self._given()
        if given is not None:
            return given
        folder = self._cached()
        missing, damaged = self._check(folder)
        if missing:
            raise DownloadError(
                f"the files of benchmark '{self.benchmark}' are not here; download them with "
                f"`lpz bench get {self.benchmark}`, or set LPZ_DATA to a folder that holds '{self.folder}'"
            )
        if damaged:
            raise DownloadError(
                f"'{folder / damaged[0]}' is not the published file; download it again with "
                f"`lpz bench get {self.benchmark}`"
            )
        return folder

    def here(self) -> bool:
        """Whether `path` finds them."""
        try:
            self.path()
        except DownloadError:
            return False
        return True

    def fetch(self, progress: Progress) -> Path:
        """Download missing or damaged files into the cache; nothing if LPZ_DATA has all files.

        Several processes may do so at the same time: one downloads and the others wait for it.

        Args:
            progress: called with (file, bytes done, total bytes) by one thread at a time. The bytes are those of all
                files together, including those that existed before.

        Returns:
            The folder that holds the files.

        Raises:
            DownloadError: no network, an answer other than the published file, or the cache cannot be written. Files
                already downloaded are kept.
        """
        given = self._given()
        if given is not None:
            return given
        from filelock import FileLock

        folder = self._cached()
        if not any(self._check(folder)):
            return folder  # which may be read-only
        with self._writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".lock"):
                _clear({(folder / name).parent for name in self.files()})
                missing, damaged = self._check(folder)  # again: another process may have been first
                self._download([*missing, *damaged], folder, progress)
        return folder

    def _given(self) -> Path | None:
        """The folder in LPZ_DATA if it has all files, else None."""
        root = os.environ.get("LPZ_DATA")
        if not root:
            return None
        if not Path(root).expanduser().is_dir():
            raise DownloadError(f"LPZ_DATA is '{root}', which is no folder; correct it, or unset it")
        folder = Path(root).expanduser() / self.folder
        missing, damaged = self._check(folder)
        if missing:
            return None
        if damaged:
            raise DownloadError(
                f"'{folder / damaged[0]}' is not the published file; restore it, or unset LPZ_DATA "
                f"and run `lpz bench get {self.benchmark}`"
            )
        return folder

    def _cached(self) -> Path:
        from lpzero_hf.scoring.cache import cache_folder

        return cache_folder() / "data" / self.folder

    def _check(self, folder: Path) -> tuple[list[str], list[str]]:
        """The files that are missing in a folder, and those with another content than published."""
        missing, damaged = [], []
        for name, digest in self.files().items():
            try:
                odd = (folder / name).exists() and not (folder / name).is_file()  # reading a pipe would wait for ever
                if odd or hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                    damaged.append(name)
            except (FileNotFoundError, NotADirectoryError):
                missing.append(name)
            except OSError as error:
                reason = error.strerror or one_line(error)
                raise DownloadError(
                    f"cannot read '{folder / name}': {reason}; correct its permissions, or delete it and run "
                    f"`lpz bench get {self.benchmark}`"
                ) from error
        return missing, damaged

    def _download(self, names: list[str], folder: Path, progress: Progress) -> None:
        """Download some of the files, a few at a time."""
        files, base_url = self.files(), self.base_url
        if not names:
            return
        import pooch
        import requests

        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        there = sum((folder / name).stat().st_size for name in files.keys() - set(names))
        count = _Count(progress, there, self.size)
        registry = {name: f"sha256:{files[name]}" for name in names}
        fetcher = pooch.create(path=folder, base_url=base_url, registry=registry)
        with requests.Session() as session, _quiet(), ThreadPoolExecutor(THREADS) as pool:
            for scheme in ("https://", "http://"):
                session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=THREADS))
            over = threading.Event()  # keeps the threads from beginning another file after a failure

            def download(name: str) -> None:
                if not over.is_set():
                    try:
                        self._download_one(name, fetcher, session, count)
                    except BaseException:
                        over.set()
                        raise

            running = [pool.submit(download, name) for name in names]
            try:
                for done in as_completed(running):
                    done.result()
            finally:
                over.set()

    def _download_one(self, name: str, fetcher: pooch.Pooch, session: requests.Session, count: _Count) -> None:
        """Put one file in place; try again if the network may be at fault."""
        import requests

        def download(url: str, output: str, _: object) -> None:
            with session.get(url, stream=True, timeout=TIMEOUT) as response, Path(output).open("wb") as file:
                response.raise_for_status()
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    count.add(name, len(chunk))
            Path(output).chmod(0o644)  # a temporary file is readable by its owner alone

        for attempt in range(1, ATTEMPTS + 1):
            count.restart(name)
            try:
                fetcher.fetch(name, downloader=download)
                return
            except (requests.RequestException, ValueError) as error:
                if attempt < ATTEMPTS and _may_pass(error):
                    time.sleep(attempt / 2)
                    continue
                raise DownloadError(
                    f"cannot download '{fetcher.get_url(name)}': {_reason(error)}; check the network and try again, "
                    "or set LPZ_MIRROR to a server that has the same files or LPZ_DATA to a folder that holds "
                    f"'{self.folder}'"
                ) from error

    @contextmanager
    def _writing(self, folder: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, NotImplementedError) as error:  # a file system without locks raises the latter
            reason = getattr(error, "strerror", None) or one_line(error)
            raise DownloadError(
                f"cannot write to '{folder}': {reason}; free disk space or correct its permissions, "
                "or set LPZ_CACHE to another folder"
            ) from error


class _Count:
    """Bytes downloaded, over all threads."""

    def __init__(self, progress: Progress, there: int, size: int) -> None:
        self._progress, self._there, self._size = progress, there, size
        self._lock, self._come = threading.Lock(), dict[str, int]()

    def restart(self, name: str) -> None:
        """No byte of a file has been downloaded yet."""
        with self._lock:
            self._come[name] = 0

    def add(self, name: str, n: int) -> None:
        """`n` more bytes of a file have been downloaded."""
        with self._lock:
            self._come[name] += n
            self._progress(name, self._there + sum(self._come.values()), self._size)


def _clear(folders: set[Path]) -> None:
    """Delete what a killed download has left; pooch writes to files with such names before it renames them."""
    for folder in folders:
        for leftover in folder.glob("tmp*"):
            leftover.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pooch from writing a line per file to stderr."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed a moment later."""
    import requests

    if isinstance(error, requests.ConnectTimeout):  # has been waited for long enough
        return False
    status = getattr(getattr(error, "response", None), "status_code", None)  # only an HTTPError has a response
    return status is None or status >= 500 or status in (408, 429)


def _reason(error: Exception) -> str:
    """Why a download failed, in words."""
    import requests

    if isinstance(error, requests.Timeout):
        return "the server does not answer in time"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, requests.ConnectionError):
        return f"no connection ({_innermost(error)})"
    if isinstance(error, requests.RequestException):
        return one_line(error)
    return "the answer is not the published file (its SHA-256 differs)"


def _innermost(error: BaseException) -> str:
    """The operating system's message, without those of the libraries around it."""
    words = one_line(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            words = str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return words
