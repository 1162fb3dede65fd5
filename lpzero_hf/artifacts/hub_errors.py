"""Errors of the Hub as one-line messages that name the remedy and never show a token."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from lpzero_hf.errors import LpzError, UsageError, one_line

AGAIN = "holds either the old state or the new one, never a mixture; push again"


@contextmanager
def explaining(name: str, token: str | None, pushing: bool = False) -> Iterator[None]:
    """Convert errors of the Hub's client to ours; a cause that would show the token is left out.

    Args:
        name: the repository, `user/name`.
        token: the token that is sent.
        pushing: whether the action is a push, not a pull.

    Raises:
        UsageError: there is no such repository or revision.
        LpzError: any other error of the Hub, the connection to it or its cache.
    """
    try:
        yield
    except LpzError:
        raise
    except Exception as error:
        explained = _explained(error, name, pushing)
        if explained is None:
            raise
        if token and token in "".join(traceback.format_exception(error)):
            raise type(explained)(str(explained).replace(token, "...")) from None
        raise explained from error


def _explained(error: Exception, name: str, pushing: bool) -> LpzError | None:
    """The error to raise for an error of the Hub's client; None for other errors."""
    from huggingface_hub import errors

    what = f"push to '{name}'" if pushing else f"pull '{name}'"
    after = f"'{name}' {AGAIN}" if pushing else "pull again"
    match error:
        case errors.GatedRepoError():
            return LpzError(f"'{name}' is gated; ask for access on its Hub page and log in with `hf auth login`")
        case errors.RepositoryNotFoundError():
            return UsageError(
                f"no repository '{name}' on the Hub, or it is private and this login may not see it; check the name, "
                "or log in with `hf auth login` or HF_TOKEN"
            )
        case errors.RevisionNotFoundError():
            return UsageError(f"'{name}' has no such revision; its page lists branches, tags and commits")
        case errors.HfHubHTTPError():
            status = error.response.status_code
            if status == 401:
                return LpzError(
                    f"the Hub refused the login (401), cannot {what}; run `hf auth login`, or set HF_TOKEN to a "
                    "token that is valid"
                )
            if status == 403:
                return LpzError(f"this login may not {what} (403); use a token that may, or a repository of your own")
            if status in (409, 412):
                return LpzError(f"'{name}' was changed by someone else meanwhile ({status}); look at it and push again")
            if status == 429:
                return LpzError(f"the Hub asks to slow down (429), cannot {what}; wait a few minutes")
            if status >= 500:
                return LpzError(f"the Hub failed ({status}), cannot {what}; {after} later")
            return LpzError(f"the Hub refused to {what}: {one_line(error)}")
        case errors.OfflineModeIsEnabled():
            return LpzError(f"HF_HUB_OFFLINE is set, cannot {what}; unset it")
        case errors.LocalEntryNotFoundError() if isinstance(error.__cause__, Exception):
            return _explained(error.__cause__, name, pushing)
    if out_of_reach(error):
        return LpzError(f"the connection to the Hub failed, cannot {what} ({one_line(error)}); {after}")
    if isinstance(error, OSError):
        return LpzError(
            f"cannot store files of the Hub: {error.strerror or one_line(error)}; free disk space, or set HF_HOME"
        )
    if isinstance(error, ValueError | KeyError):
        return LpzError(f"cannot {what}: what answers is no Hub ({one_line(error)}); check HF_ENDPOINT")
    return None


def out_of_reach(error: Exception) -> str:
    """Why the Hub cannot be reached at all now, or an empty string for any other error."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):
        return f"it fails with {error.response.status_code}" if error.response.status_code >= 500 else ""
    http_error = HfHubHTTPError.__bases__[0]  # of httpx or a successor, as the version of the client has it
    return one_line(error) if isinstance(error, http_error | ConnectionError | TimeoutError) else ""
