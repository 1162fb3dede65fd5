"""What `mkdocs build` adds to the Markdown pages in `docs/`: formulas, help, and parts of other files.

- A fence `math` holds LaTeX and becomes MathML, which browsers draw without a script.
- `<!-- include: FILE # HEADING -->` becomes the section with that heading of a Markdown file of this repository, and
  `<!-- include: FILE -->` a block of that file's code.
- `<!-- include: FILE.ipynb -->` becomes the cells of a notebook, but for its title, with what they show.
- `<!-- lpz: help -->` becomes the help of every command, from typer itself, so it cannot be out of date.
- `<!-- lpz: proxies -->` becomes the built-in proxies with formula and source, by what they run, from the code itself.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

ROOT = Path(__file__).parent.parent
INCLUDE = re.compile(r"^<!-- include: (?P<file>\S+)(?: # (?P<heading>.+))? -->$", re.MULTILINE)
HELP = "<!-- lpz: help -->"
PROXIES = "<!-- lpz: proxies -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the fence `math` to the Markdown parser."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "formula", "format": formula})
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the comments of a page by the parts that they name."""
    markdown = INCLUDE.sub(included, markdown)
    for comment, made in ((HELP, command_line), (PROXIES, proxies)):
        if comment in markdown:
            markdown = markdown.replace(comment, made())
    return markdown


def formula(source: str, language: str, css_class: str, *_: Any, **__: Any) -> str:
    """LaTeX to a block of MathML."""
    from latex2mathml.converter import convert

    return f'<div class="{css_class}">{convert(source, display="block")}</div>'


def included(comment: re.Match[str]) -> str:
    """The text that replaces a comment."""
    file = ROOT / comment["file"]
    if file.suffix == ".ipynb":
        return notebook(file)
    if comment["heading"]:
        return section(file, comment["heading"])
    return f"```{file.suffix.removeprefix('.').replace('py', 'python')}\n{file.read_text(encoding='utf-8')}```"


def notebook(file: Path) -> str:
    """The cells of a notebook, but for its title: Markdown, code, and what that shows."""
    parts: list[str] = []
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\A# .*\n", "", source).replace("](../docs/how-to/", "]("))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                image = "".join(data["image/png"]).replace("\n", "")
                parts.append(f'<img alt="The figure of the cell above" src="data:image/png;base64,{image}">')
            elif "text/html" in data:
                parts.append("".join(data["text/html"]))
            else:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts)


def section(file: Path, heading: str) -> str:
    """The text below a heading of a Markdown file, down to the next one of its level.

    Raises:
        ValueError: the file has no such heading.
    """
    lines: list[str] = []
    level, fenced = 0, False
    for line in file.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        depth = 0 if fenced else len(line) - len(line.lstrip("#"))
        if level and 0 < depth <= level:
            break
        if level:
            lines.append(line)
        elif depth and line[depth:].strip() == heading:
            level = depth
    if not level:
        raise ValueError(f"{file.name} has no heading '{heading}'; a page includes it")
    return "\n".join(lines).strip()


def command_line() -> str:
    """The help of `lpz` and all its commands, as Markdown with headings from the second level."""
    command = [sys.executable, "-m", "typer", "lpz_cli.main", "utils", "docs", "--name", "lpz"]
    pages = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    headings = re.sub(r"^(#+) ", r"#\1 ", pages, flags=re.MULTILINE)
    without_lists = re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+", "", headings)  # the headings list them already
    return without_lists.replace("```console\n$ ", "```text\n")  # usage is no example to run


def proxies() -> str:
    """Tables of the built-in proxies, one for each kind of pass."""
    from lpzero_hf.plugins import OWN, load_plugins
    from lpzero_hf.proxies.resolve import installed_proxies

    by_passes: dict[str, list[str]] = {}
    for name, claim in installed_proxies(load_plugins()).items():
        if claim.distribution == OWN:
            better = "higher" if claim.item.orientation > 0 else "lower"
            cells = (f"`{name}`", claim.item.formula.replace("|", "\\|"), claim.item.citation or "a count", better)
            by_passes.setdefault(claim.item.passes, []).append(f"| {' | '.join(cells)} |")
    head = "| proxy | formula | source | better |\n|---|---|---|---|\n"
    return "\n\n".join(f"## {passes}\n\n{head}" + "\n".join(rows) for passes, rows in by_passes.items())
