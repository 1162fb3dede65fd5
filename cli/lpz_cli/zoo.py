"""`lpz zoo`: named architectures and spaces; what is in a space; a file to start one from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpz_cli import options
from lpz_cli.output import print_json, print_table, refuse_existing, say, tell
from lpz_cli.unread import refuse_unread
from lpzero_hf.errors import UsageError
from lpzero_hf.plugins import load_plugins

if TYPE_CHECKING:
    from lpzero_hf.spaces.base import Count, SearchSpace

BUILT = 5  # members of a space that are built when it is shown
zoo_app = typer.Typer(name="zoo", help="Architectures by name, and spaces of them.")


@zoo_app.callback(invoke_without_command=True)
def zoo(context: typer.Context, json: options.Json = False, no_plugin: options.NoPlugin = None) -> None:
    """List the architectures that `lpz score` builds by name, and the spaces that hold more of them."""
    if context.invoked_subcommand is not None:
        inner = context.invoked_subcommand
        refuse_unread(context, ["json"], True, f"before `{inner}`; write it after, as in `lpz zoo {inner} ... --json`")
        return
    from lpzero_hf.spaces.named import installed_models, installed_spaces

    registry = load_plugins(no_plugin or [])
    models = [[name, claim.item.summary, claim.distribution] for name, claim in installed_models(registry).items()]
    spaces: list[list[Any]] = [
        [name, claim.item.count(), claim.item.summary, claim.distribution]
        for name, claim in installed_spaces(registry).items()
    ]
    of_model, of_space = ("model", "summary", "distribution"), ("space", "size", "summary", "distribution")
    if json:
        print_json(
            {
                "models": [dict(zip(of_model, row, strict=True)) for row in models],
                "spaces": [dict(zip(of_space, [name, size.value, *rest], strict=True)) for name, size, *rest in spaces],
            }
        )
        return
    print_table(f"{len(models)} models", of_model, models)
    cells = [[name, _shown(size), *rest] for name, size, *rest in spaces]
    print_table(f"{len(spaces)} spaces", of_space, cells, [1])


@zoo_app.command()
def show(
    space: options.Space,
    seed: options.Seed = 42,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Describe a space: its size, its choices, and an architecture drawn from it."""
    from lpzero_hf.spaces.named import load_space

    home = load_space(space, load_plugins(no_plugin or []))
    example = f"{space}:{home.text(home.samples(1, seed, 'choice')[0])}"
    choices, count = home.described(), home.count()
    cannot = {} if home.definition() is None else _refused(home, min(count.low, BUILT), seed)
    if json:
        print_json(
            {
                "space": space,
                "size": count.value,
                "interval": [count.low, count.high],
                "summary": home.summary,
                "citation": home.citation,
                "choices": [{key: value for key, value in row.items() if key != "shown"} for row in choices],
                "example": example,
                "refused": cannot,
            }
        )
        return
    rows = [[row["name"], f"every {row['per']}", row["shown"]] for row in choices]
    print_table(f"{space}: {_shown(count)} architectures", ["choice", "made for", "values"], rows)
    say(home.summary, home.citation, f"For example `lpz score {shlex.quote(example)}`")
    _warn_of(cannot)


def _warn_of(refused: Mapping[str, str]) -> None:
    advice = "; add a constraint, or change the values"  # which most reasons hold
    for name, reason in refused.items():
        tell(f"warning: {name} cannot be built: {reason.removesuffix(advice)}{advice}")


def _refused(space: SearchSpace, n: int, seed: int) -> dict[str, str]:
    """Which of a few members of a space cannot be built, and why."""
    from lpzero_hf.models.member_check import refused

    return refused(space, space.samples(n, seed))


def _shown(count: Count) -> str:
    """A number of architectures; an estimate as one, with its interval."""
    value, low, high = (
        f"{size:,}" if size < 10**15 else f"{size:.3e}" for size in (count.value, count.low, count.high)
    )
    return value if count.exact else f"about {value} ({low} to {high})"


@zoo_app.command(name="new-space")
def new_space(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A zoo name, config.json, folder or Hub id.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("my-space.yaml"),
    seed: options.Seed = 42,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Write a file to start a space from: choices around a model, each tried on it.

    Example: `lpz zoo new-space llama-mini --out my-space.yaml && lpz zoo show my-space.yaml`
    """
    from lpzero_hf.files import write_text
    from lpzero_hf.packaging.space_template import propose
    from lpzero_hf.spaces.named import SUFFIXES

    if out.suffix.lower() not in SUFFIXES[:2]:
        raise UsageError(f"'{out}' should end in .yaml; choose such a name with --out")
    refuse_existing(out, "--out")
    proposal = propose(out, model, load_plugins(no_plugin or ()), seed)
    write_text(out, proposal.text)
    count = proposal.space.count()
    if json:
        print_json({"file": str(out), "size": count.value, "refused": proposal.refused})
        return
    say(
        str(out), f"{_shown(count)} architectures around {model}; `lpz zoo show {shlex.quote(str(out))}` describes them"
    )
    _warn_of(proposal.refused)
