"""`lpz report`: runs as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpz_cli import options
from lpz_cli.output import print_json, say


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folder of `lpz search --out`, or JSON file of `lpz bench eval --json`."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write; an earlier report is replaced.")] = Path(
        "report.html"
    ),
    title: Annotated[str | None, typer.Option("--title", help="Of the page; else it names the runs.")] = None,
    json: options.Json = False,
    no_plugin: options.NoPlugin = None,
) -> None:
    """Make one HTML page of runs: numbers, sortable tables, interactive plots, expressions drawn as trees.

    The page is one file and needs no network; it can be read on a phone, in the dark and on paper.

    Example: `lpz report runs/mine -o report.html`
    """
    from lpz_report import report as make

    from lpzero_hf.errors import UsageError
    from lpzero_hf.files import refuse_unwritable, write_text
    from lpzero_hf.plugins import load_plugins

    if out.is_dir():
        raise UsageError(f"'{out}' is a folder; name the file to write, such as {out / 'report.html'}")
    if out.exists() and not _is_report(out):
        raise UsageError(f"'{out}' exists already and is no report; choose another --out, or remove it")
    refuse_unwritable(out)
    page, facts = make(runs, title=title, plugins=load_plugins(no_plugin or ()))
    write_text(out, page)
    if json:
        print_json({"report": str(out), "bytes": out.stat().st_size, "runs": facts})
    else:
        say(str(out))


def _is_report(file: Path) -> bool:
    """Whether an earlier `lpz report` wrote a file."""
    with file.open("rb") as opened:
        return b'<meta name="generator" content="lpzero-hf' in opened.read(2048)
