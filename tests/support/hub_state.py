"""What a Hub on loopback holds: repositories with branches and commits; and how its answers fail."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

TOKEN = "hf_secretOfSomeoneDoNotShow"
OWNER = "someone"


def blob_id(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A state of a repository: every file's content by its path."""

    files: Mapping[str, bytes]
    message: str
    parent: str = ""

    @property
    def oid(self) -> str:
        tree = "".join(f"{path} {blob_id(content)}\n" for path, content in sorted(self.files.items()))
        return hashlib.sha1(f"{self.parent}\n{self.message}\n{tree}".encode()).hexdigest()


class Repository:
    """A model repository; its state changes only by whole commits."""

    def __init__(self, owner: str, private: bool = False, files: Mapping[str, bytes] | None = None) -> None:
        self.owner, self.private = owner, private
        first = Commit(files or {".gitattributes": b""}, "initial commit")
        self.branches = {"main": first.oid}
        self.commits = {first.oid: first}

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch or hash."""
        return self.commits.get(self.branches.get(revision, revision))

    def history(self, branch: str = "main") -> list[Commit]:
        """The commits of a branch, newest first."""
        commits, commit = [], self.find(branch)
        while commit is not None:
            commits.append(commit)
            commit = self.commits.get(commit.parent)
        return commits

    def commit(self, changed: Mapping[str, bytes], message: str = "changed", branch: str = "main") -> str:
        """Put files into the newest state of a branch; returns the hash of the new commit."""
        parent = self.branches[branch]
        commit = Commit({**self.commits[parent].files, **changed}, message, parent)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit.oid


@dataclass
class Hub:
    """A running Hub.

    Args:
        url: its endpoint.
        repositories: by their names, `user/name`.
        tokens: who each token belongs to.
        faults: by kind of request (`create`, `info`, `branch`, `preupload`, `commit`, `resolve`, ...), how the next
            ones fail: a status, `"500"`; `"cut 100"`, the connection ends after 100 bytes of what the client sends;
            `"deaf"`, it ends when all was read and nothing done; `"mute"`, it ends when all was done, before the
            answer; `"stall 100"`, after 100 bytes the server waits for `resume`; `"text"`, the answer is no JSON;
            `"echo"`, the answer is an error that repeats the token; and for files that are read, `"half"`, the
            connection ends in the middle, and `"other"`, other bytes of the same number.
        asked: the kind and path of every request so far.
        stalled: set once a request has stalled.
        resume: lets it go on.
        settled: set once it was answered or given up.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=lambda: {TOKEN: OWNER})
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    asked: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    stalled: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)
    settled: threading.Event = field(default_factory=threading.Event)

    def files(self, name: str, revision: str = "main") -> Mapping[str, bytes]:
        """The files of a repository at a revision."""
        commit = self.repositories[name].find(revision)
        assert commit is not None
        return commit.files
