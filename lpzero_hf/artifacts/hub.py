"""Artifacts on the Hugging Face Hub: pushed in one commit with their card, pulled by commit hash and verified.

The server is the one that `HF_ENDPOINT` names, the login that of `hf auth login` or `HF_TOKEN`, the cache that of
`HF_HOME`; `HF_HUB_OFFLINE=1` keeps to the cache.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lpzero_hf.artifacts.artifact import ARTIFACT_FILE, LARGEST, Artifact, parse_artifact, read_artifact
from lpzero_hf.artifacts.card import card
from lpzero_hf.artifacts.hub_errors import explaining, out_of_reach
from lpzero_hf.artifacts.versions import __version__
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.expressions.expression import BUILT_IN, Operations
from lpzero_hf.files import write_text

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

TAGS = ["lpzero-hf", "zero-cost-proxy", "neural-architecture-search"]
TIMEOUT = 10.0  # seconds until the Hub counts as unreachable
NAME = re.compile(r"(?!.*(--|\.\.))\w([\w.-]*\w)?/\w([\w.-]{0,94}\w)?(?<!\.git)", re.ASCII)
REVISION = re.compile(r"(?!.*(\.\.|//))[A-Za-z0-9][\w./-]{0,199}", re.ASCII)
HASH = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Pushed:
    """The location of a pushed artifact.

    Args:
        repo: `user/name`.
        commit: the hash of the commit that holds it.
        url: the page of that state.
        changed: False if the Hub already had identical files, so that no commit was made.
    """

    repo: str
    commit: str
    url: str
    changed: bool

    @property
    def pinned(self) -> str:
        """`user/name@HASH`, which always names this state."""
        return f"{self.repo}@{self.commit}"


@dataclass(frozen=True)
class Pulled:
    """A verified artifact of the Hub.

    Args:
        artifact: the content of the file.
        path: the file in the local cache.
        repo: `user/name`.
        commit: the hash of the commit it is from.
        unreachable: why the Hub could not be reached, so that the copy in the cache is returned; empty if it was
            reached, or was not needed because a full hash was given and its file is cached.
    """

    artifact: Artifact
    path: Path
    repo: str
    commit: str
    unreachable: str = ""

    @property
    def pinned(self) -> str:
        """`user/name@HASH`, which always names this state."""
        return f"{self.repo}@{self.commit}"


def push_to_hub(
    artifact: Artifact | Path | str,
    repo: str,
    *,
    private: bool = False,
    token: str | None = None,
    message: str = "",
    branch: str | None = None,
    operations: Operations = BUILT_IN,
) -> Pushed:
    """Put an artifact and its model card into a model repository of the Hub, in one commit.

    A missing repository is created. Identical files are not committed again.

    Args:
        artifact: the artifact, or the path of its file.
        repo: `user/name`.
        private: make the repository private; an existing public one is refused.
        token: instead of the login of `hf auth login` or `HF_TOKEN`. It is never shown.
        message: of the commit.
        branch: where to put the commit, created from `main` if missing; default: `main`.
        operations: the unary operations that expressions may use.

    Raises:
        UsageError: `repo` or `branch` cannot be a name of the Hub.
        LpzError: the artifact is not valid, the login is missing or refused, or the Hub cannot be reached or fails.

    Example:
        >>> push_to_hub("lpzero-any.json", "user/lpzero-any").pinned  # doctest: +SKIP
        'user/lpzero-any@0c5a1e3f6d4b2a7988f0e1d2c3b4a5968778695a'
    """
    name, revision = reference(repo)
    if revision is not None:
        raise UsageError(f"a push makes a commit, so '{repo}' cannot name one; give '{name}', or a branch: `branch=`")
    if branch is not None and not REVISION.fullmatch(branch):
        raise UsageError(f"'{branch}' can be no branch of a repository; use letters, digits, '-', '_', '.' and '/'")
    if not isinstance(artifact, Artifact):
        artifact = read_artifact(artifact, operations)
    artifact = parse_artifact(artifact.text, f"artifact '{artifact.name}'", operations)
    token = _token(token)
    if token is None:
        raise LpzError("not logged in to the Hub; run `hf auth login`, or set HF_TOKEN to a token that may write")
    with explaining(name, token, pushing=True):
        from huggingface_hub import CommitOperationAdd

        api = _api(token)
        head = _create_missing(api, name, private, branch)
        commit = api.create_commit(
            name,
            [
                CommitOperationAdd(ARTIFACT_FILE, artifact.text.encode("utf-8")),
                CommitOperationAdd("README.md", _readme(artifact, name).encode("utf-8")),
            ],
            commit_message=message or f"{artifact.name}, a proxy of lpzero-hf",
            revision=branch,
            parent_commit=head,
        )
        return Pushed(name, commit.oid, f"{api.endpoint}/{name}/tree/{commit.oid}", commit.oid != head)


def pull(repo: str, *, token: str | None = None, offline: bool = False, operations: Operations = BUILT_IN) -> Pulled:
    """The artifact of a model repository of the Hub, verified.

    Args:
        repo: `user/name`, or `user/name@REVISION` with a branch, a tag or a commit hash.
        token: instead of the login of `hf auth login` or `HF_TOKEN`. It is never shown.
        offline: use only the local cache. A Hub that cannot be reached has the same effect, and `unreachable` says so.
        operations: the unary operations that its expressions may use.

    Raises:
        UsageError: there is no such repository or revision, or `repo` cannot be a name of the Hub.
        LpzError: the repository holds no artifact, or one that is not valid; the login is refused; the Hub cannot be
            reached or fails and no copy is in the cache.

    Example:
        >>> pulled = pull("user/lpzero-any@main")  # doctest: +SKIP
        >>> pulled.artifact.name, pulled.pinned  # doctest: +SKIP
        ('lpzero-any', 'user/lpzero-any@0c5a1e3f6d4b2a7988f0e1d2c3b4a5968778695a')
    """
    name, revision = reference(repo)
    token = None if offline else _token(token)
    with explaining(name, token):
        api = _api(token)
        path, unreachable = _fetched(api, name, revision, offline)
        commit = path.parent.name
        source = f"'{name}@{commit[:12]}'"
        try:
            artifact = _verified(path, source, operations)
        except LpzError as invalid:
            if unreachable:
                raise
            try:  # perhaps only the copy in the cache is damaged
                path = Path(api.hf_hub_download(name, ARTIFACT_FILE, revision=commit, force_download=True))
            except Exception:
                raise invalid from None
            artifact = _verified(path, source, operations)
        return Pulled(artifact, path, name, commit, unreachable)


def reference(repo: str) -> tuple[str, str | None]:
    """The name and the revision in `user/name` or `user/name@REVISION`.

    Raises:
        UsageError: it cannot be one.

    Example:
        >>> reference("user/name"), reference("user/name@v1.0")
        (('user/name', None), ('user/name', 'v1.0'))
    """
    name, at, revision = repo.partition("@")
    if not NAME.fullmatch(name) or (at and not REVISION.fullmatch(revision)):
        raise UsageError(
            f"'{repo}' can be no repository of the Hub; write user/name, or user/name@REVISION with a branch, a tag or "
            "a commit hash"
        )
    return name, revision if at else None


def _api(token: str | None) -> HfApi:
    from huggingface_hub import HfApi

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    return HfApi(endpoint=endpoint, token=token, library_name="lpzero-hf", library_version=__version__)


def _token(given: str | None) -> str | None:
    """The token to send: the one given, or else that of the login."""
    from huggingface_hub import constants, get_token

    token = (given or "").strip() or ("" if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token() or "")
    if not re.fullmatch(r"[!-~]*", token):  # the HTTP library would quote it when it refuses the header
        raise UsageError("the token has characters that no token has; copy it again from the Hub's settings page")
    return token or None


def _create_missing(api: HfApi, name: str, private: bool, branch: str | None) -> str:
    """The newest commit of the branch of a repository; both are created if they are missing."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.model_info(name, timeout=TIMEOUT)
    except RepositoryNotFoundError:
        api.create_repo(name, private=private or None, exist_ok=True)  # None: as the user's settings say
        info = api.model_info(name, timeout=TIMEOUT)
    if private and info.private is False:
        raise LpzError(f"'{name}' is public already; make it private on its settings page, or push to another one")
    if branch is not None and branch != "main":
        api.create_branch(name, branch=branch, exist_ok=True)
        info = api.model_info(name, revision=branch, timeout=TIMEOUT)
    return str(info.sha)


def _readme(artifact: Artifact, name: str) -> str:
    from huggingface_hub import ModelCardData

    metadata = ModelCardData(library_name="lpzero-hf", tags=TAGS)
    return f"---\n{metadata.to_yaml()}\n---\n\n{card(artifact, name)}"


def _fetched(api: HfApi, name: str, revision: str | None, offline: bool) -> tuple[Path, str]:
    """The file in the cache, in the folder of its commit; and why the Hub could not be reached for it."""
    from huggingface_hub import try_to_load_from_cache

    if offline:
        reason = "asked to stay offline"
        return _cached(name, revision, reason), reason
    if revision and HASH.fullmatch(revision):
        cached = try_to_load_from_cache(name, ARTIFACT_FILE, revision=revision)
        if isinstance(cached, str):
            return Path(cached), ""
    try:
        commit = _commit_of(api, name, revision)
    except Exception as error:
        reason = out_of_reach(error)
        if not reason:
            raise
        return _cached(name, revision, reason), reason
    path = Path(api.hf_hub_download(name, ARTIFACT_FILE, revision=commit))
    _remember(path, revision or "main")
    return path, ""


def _commit_of(api: HfApi, name: str, revision: str | None) -> str:
    """The commit hash that a revision stands for, of a repository that can hold an artifact."""
    info: ModelInfo = api.model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT)
    file = next((file for file in info.siblings or [] if file.rfilename == ARTIFACT_FILE), None)
    if file is None:
        raise LpzError(
            f"'{name}' holds no proxy at {revision or 'main'} (no {ARTIFACT_FILE}); `lpz push` puts one there"
        )
    if (file.size or 0) > LARGEST:
        raise LpzError(
            f"the {ARTIFACT_FILE} of '{name}' is larger than an artifact can be ({LARGEST} bytes); use another"
        )
    return str(info.sha)


def _cached(name: str, revision: str | None, reason: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, ARTIFACT_FILE, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        shown = f"{name}@{revision}" if revision else name
        raise LpzError(
            f"the Hub cannot be reached ({reason}), and the cache has no copy of '{shown}'; pull it once while online"
        ) from error


def _remember(path: Path, revision: str) -> None:
    """Record the commit of a branch or tag where the Hub's client looks it up when it is offline."""
    if not HASH.fullmatch(revision) and path.parents[1].name == "snapshots":
        with suppress(LpzError):  # a read-only cache still works
            write_text(path.parents[2] / "refs" / revision, path.parent.name)


def _verified(path: Path, source: str, operations: Operations) -> Artifact:
    with path.open("rb") as file:
        return parse_artifact(file.read(LARGEST + 1), source, operations)
