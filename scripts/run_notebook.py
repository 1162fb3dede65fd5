"""Runs the notebooks of `examples/` from top to bottom and stores what they show: `python scripts/run_notebook.py`.

Notebooks are changed as they are; this replaces their outputs. A cell that fails, or writes to stderr, stops it. The
test of the notebooks runs them likewise, and compares.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.])")


def executed(file: Path) -> nbformat.NotebookNode:
    """A notebook with the outputs of a fresh run, in its own folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
        ValueError: a cell writes to stderr.
    """
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=None,
        coalesce_streams=True,  # else a cell's prints are one output or several, by how fast they come
        resources={"metadata": {"path": str(file.parent)}},
    )
    client.execute(env=os.environ | {"PYTHONWARNINGS": "ignore:IProgress not found"})  # tqdm, where ipywidgets is not
    errors = []
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        errors += [output.text for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    if errors:
        raise ValueError(f"{file.name} writes to stderr: {'; '.join(errors)}")
    notebook.metadata.pop("language_info", None)  # the version of Python
    return notebook


def shown(notebook: nbformat.NotebookNode) -> list[str]:
    """The texts that a notebook shows, in order; of a table its HTML, of a figure only that there is one."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            kind = next((kind for kind in ("image/png", "text/html", "text/plain") if kind in data), "")
            texts.append("figure" if kind == "image/png" else data.get(kind, output.get("text", "")))
    return texts


def same(one: str, other: str, relative: float = 0.01) -> bool:
    """Whether two texts are equal but for numbers that differ by at most `relative`, or by 0.01."""
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    numbers = [(float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs]
    return all(abs(a - b) <= max(relative * max(abs(a), abs(b)), 0.011) for a, b in numbers)


def main() -> None:
    """Run every notebook and write it."""
    for file in sorted(EXAMPLES.glob("*.ipynb")):
        notebook = executed(file)
        temporary = file.with_suffix(".tmp")
        nbformat.write(notebook, temporary)
        temporary.replace(file)
        print(f"{file.name}: {len(shown(notebook))} outputs", file=sys.stderr)


if __name__ == "__main__":
    main()
