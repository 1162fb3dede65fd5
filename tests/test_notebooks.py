"""The notebooks of `examples/` run from top to bottom, and show what is stored in them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from scripts.docs_hooks import notebook as as_markdown

nbformat = pytest.importorskip("nbformat", reason="needs the extra test")
ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.integration
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_shows_what_is_stored_in_it(file: Path) -> None:
    from scripts.run_notebook import executed, same, shown

    stored, fresh = shown(nbformat.read(file, as_version=4)), shown(executed(file))
    assert len(stored) == len(fresh)
    for one, other in zip(stored, fresh, strict=True):
        assert same(one, other), f"{file.name} stores\n{one}\nand a run shows\n{other}; run scripts/run_notebook.py"
    (told,) = (re.search(r"the winner is (\S+) below the median", text) for text in fresh if "below the median" in text)
    assert told
    assert float(told[1]) > 0


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_stored_with_small_figures_and_no_path_of_a_machine(file: Path) -> None:
    stored = nbformat.read(file, as_version=4)
    nbformat.validate(stored)
    cells = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    figures = [
        base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})
    ]
    assert len(figures) >= 3
    assert max(map(len, figures)) < 60_000
    assert file.stat().st_size < 250_000
    for output in outputs:
        texts = [
            output.get("text", ""),
            *(text for kind, text in output.get("data", {}).items() if kind != "image/png"),
        ]
        assert not re.search(r"/(?:home|root|tmp|usr|Users|var|work)/", "".join(texts))


def test_a_page_shows_the_cells_and_outputs_of_a_notebook() -> None:
    (file,) = NOTEBOOKS
    page = as_markdown(file)
    assert page.count("```python") == len(re.findall(r'"cell_type": "code"', file.read_text(encoding="utf-8")))
    assert page.count("<img alt") >= 3
    assert "<table" in page
    assert "below the median" in page
    assert not re.search(r"^# ", page.split("```python")[0], re.MULTILINE)
    assert "](own-space.md)" in page


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("loss 8.13 of a", "loss 8.14 of a", True),
        ("loss 8.13 of a", "loss 8.33 of a", False),
        ("loss 8.13 of a", "loss 8.13 of b", False),
        ("1,235,814 words", "1,235,900 words", True),
        ("0.5 and 2", "0.5", False),
        ("-3.2e+10", "3.2e+10", False),
        ("h16 x", "h64 x", False),
    ],
)
def test_numbers_of_two_runs_are_compared_and_words_are_equal(one: str, other: str, equal: bool) -> None:
    pytest.importorskip("nbclient", reason="needs the extra test")
    from scripts.run_notebook import same

    assert same(one, other) == equal
