"""Makes one self-contained HTML page of runs."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from lpz_report.document import COMPARED, Chapter, ReportTable
from lpz_report.graded import grading_chapter
from lpz_report.searched import search_chapter
from lpz_report.summary import listed
from lpzero_hf.artifacts.versions import __version__
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.files import reading
from lpzero_hf.plugins import PluginRegistry, load_plugins
from lpzero_hf.spaces.misplaced import refuse_misplaced


def report(
    runs: Sequence[Path | str], *, title: str | None = None, plugins: PluginRegistry | None = None
) -> tuple[str, list[dict[str, Any]]]:
    """One self-contained HTML page about runs. The same runs give the same page.

    Args:
        runs: folders of `lpz search --out`, or files with the output of `lpz bench eval --json`.
        title: of the page; else it names the runs.
        plugins: where operations and benchmarks are looked up; by default everything installed.

    Returns:
        The page, and the main numbers of each run as plain data.

    Raises:
        UsageError: a run does not exist, or is not finished.
        LpzError: a run is damaged; plotly or jinja2 is missing.

    Example:
        >>> from lpz_report import report
        >>> page, facts = report(["runs/mine"])  # doctest: +SKIP
    """
    environment, script = _extras()
    if not runs:
        raise UsageError("a report needs at least one run")
    plugins = load_plugins() if plugins is None else plugins
    chapters = [_chapter(Path(run), number, plugins) for number, run in enumerate(runs)]
    comparison = None
    if len(chapters) > 1:
        comparison = ReportTable("All runs", COMPARED, [row for chapter in chapters for row in chapter.comparison])
    specs = [figure.spec for chapter in chapters for part in chapter.parts for figure in part.figures]
    here = files("lpz_report")
    page = environment.from_string((here / "page.html").read_text(encoding="utf-8")).render(
        title=title or _title(chapters),
        chapters=chapters,
        comparison=comparison,
        figures=json.dumps(specs, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
        plotly=script,
        version=__version__,
    )
    return page, [chapter.facts for chapter in chapters]


def _title(chapters: Sequence[Chapter]) -> str:
    if len(chapters) == 1:
        return chapters[0].title
    names = dict.fromkeys(name for chapter in chapters for name in chapter.facts["benchmarks"])
    return f"{len(chapters)} runs on {listed(list(names))}"


def _extras() -> tuple[Any, str]:
    """A template environment that escapes all text, and plotly's script: packed, a third of its size, since every page
    holds it."""
    try:
        from jinja2 import Environment, StrictUndefined
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # plotly ships no types
    except ImportError as error:
        raise LpzError(f"a report needs {error.name}; install it with `pip install 'lpzero-hf[report]'`") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment, b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _chapter(run: Path, number: int, plugins: PluginRegistry) -> Chapter:
    refuse_misplaced(run, "run", plugins)
    if not run.exists():
        raise UsageError(f"there is no run '{run}'; `lpz search BENCH --out {run}` makes one")
    with reading(f"the run '{run}'", "make it again"):
        return search_chapter(run, number, plugins) if run.is_dir() else grading_chapter(run, plugins)
