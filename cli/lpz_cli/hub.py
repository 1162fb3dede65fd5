"""`lpz push` and `lpz pull`: artifacts to the Hugging Face Hub and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpz_cli import options
from lpz_cli.export import refuse_to_overwrite
from lpz_cli.output import print_json, refuse_existing, say, tell
from lpzero_hf.files import refuse_unwritable
from lpzero_hf.plugins import load_plugins


def push(
    artifact: Annotated[Path, typer.Argument(help="The file of an artifact.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="user/name; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="Of the commit.")] = "",
    branch: Annotated[str | None, typer.Option("--branch", help="Created from main if it does not exist.")] = None,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Push an artifact and its model card to the Hub, in one commit.

    The login is that of `hf auth login` or the variable HF_TOKEN.

    Example: `lpz push lpzero-any.json user/lpzero-any --private`
    """
    from lpzero_hf.artifacts.hub import push_to_hub
    from lpzero_hf.expressions.operations import installed_operations

    operations = installed_operations(load_plugins(no_plugin or ()))
    pushed = push_to_hub(
        artifact, repo, private=private, message=message, branch=branch, operations=operations
    )  # fmt: skip
    if json:
        print_json(
            {
                "repo": pushed.repo,
                "commit": pushed.commit,
                "pinned": pushed.pinned,
                "url": pushed.url,
                "changed": pushed.changed,
            }
        )
    else:
        say(f"{pushed.pinned}" if pushed.changed else f"{pushed.pinned} has it already, no commit made", pushed.url)


def pull(
    repo: Annotated[str, typer.Argument(metavar="REPO[@REVISION]", help="A branch, a tag or a commit hash.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the artifact to this file too.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use only the local cache; also HF_HUB_OFFLINE=1.")
    ] = False,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Pull an artifact from the Hub, verify it, and print its path and the commit to pin.

    Example: `lpz pull user/lpzero-any@main --out lpzero-any.json`
    """
    from lpzero_hf.artifacts.artifact import write_artifact
    from lpzero_hf.artifacts.hub import pull as pull_from_hub
    from lpzero_hf.expressions.operations import installed_operations

    operations = installed_operations(load_plugins(no_plugin or ()))
    if out is not None:
        _refuse_other(out)
    pulled = pull_from_hub(repo, offline=offline, operations=operations)
    if out is not None:
        refuse_to_overwrite(out, pulled.artifact)
        write_artifact(out, pulled.artifact, operations)
    if pulled.unreachable:
        tell(f"warning: from the cache, the Hub was not contacted ({pulled.unreachable})")
    path = out or pulled.path
    if json:
        print_json(
            {
                "repo": pulled.repo,
                "commit": pulled.commit,
                "pinned": pulled.pinned,
                "name": pulled.artifact.name,
                "sha256": pulled.artifact.digest,
                "path": str(path),
                "unreachable": pulled.unreachable,
            }
        )
    else:
        say(pulled.pinned, str(path))


def _refuse_other(file: Path) -> None:
    """Raise `LpzError` if an artifact cannot be written to a file, or something else is there; the very artifact may
    be, which only shows when it has come."""
    from lpzero_hf.spaces.misplaced import kind_on_disk

    if kind_on_disk(file) == "artifact":
        refuse_unwritable(file)
    else:
        refuse_existing(file, "--out")
