"""The documentation is true: its blocks run, show what is printed, and name a test where they cannot run here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import lpzero_hf
from tests.support.families import tiny_model
from tests.support.pages import ROOT, commands, differing, run_page

Run = Callable[..., tuple[int, str, str]]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
RUN = [page for page in PAGES if re.search(r"^```(python|console)", page.read_text(encoding="utf-8"), re.MULTILINE)]
LONG = [ROOT / "README.md", DOCS / "how-to" / "search.md"]  # minutes: pytest -m slow tests/docs/test_docs.py
SHORT = [page for page in (*RUN, ROOT / "CONTRIBUTING.md") if page not in LONG]


@pytest.mark.integration
@pytest.mark.parametrize(
    "page", [*SHORT, *(pytest.param(page, marks=pytest.mark.slow) for page in LONG)], ids=lambda page: page.stem
)
def test_every_block_of_a_page_runs(page: Path, lpz: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LPZ_DATA", raising=False)  # a reader has none
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)  # one worker: no process to start
    shutil.copy(DOCS / "assets" / "runs.csv", "runs.csv")  # that of how-to/own-table.md
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[:1]:
        Path("my-space.yaml").write_text(block, encoding="utf-8")  # that of how-to/own-space.md
    tiny_model("mamba").config.save_pretrained("path/to/mamba")  # that of the README
    done, elsewhere = run_page(page, lpz)
    assert done + len(elsewhere) > 0
    for example, place in elsewhere:
        assert_runs(ROOT / place, example.parsed if isinstance(example.parsed, str) else str(example.parsed))


def assert_runs(file: Path, block: str) -> None:
    """The test or script `file` runs, by its words, what a block shows."""
    assert file.is_file(), f"{file} is named by a page and not there"
    if file.resolve() == Path(__file__).resolve():
        return
    source = file.read_text(encoding="utf-8")
    for line in re.findall(r"^\$ (.*)", block, flags=re.MULTILINE) or block.splitlines():
        word = re.search(r"(?:lpz (\w+)|examples/(\w+\.py)|import .*(push_to_hub))", line)
        if word:
            found = next(filter(None, word.groups()))
            assert found in source, f"{file.name} does not run '{line}'"


@pytest.mark.integration
def test_the_site_is_built_without_a_warning_and_asks_nobody(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {str(path.relative_to(tmp_path)): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    assert {str(page.relative_to(DOCS).with_suffix(".html")) for page in PAGES} <= set(pages)
    for name, page in pages.items():
        assert not re.search(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//", page), name
        assert not re.search(
            r"<link\b[^>]*\brel=\"?(?:stylesheet|preconnect|icon)[^>]*\bhref=\"?(?:https?:)?//", page
        ), name
        assert "<blockquote>\n<blockquote>" not in page, f"{name} has a doctest that is not shown as code"
    style = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.css"))
    assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style)
    assert "<math" in pages["explanation/method.html"]
    assert "searching/" in pages["explanation/architecture.html"]  # of CONTRIBUTING.md
    assert "create_study" in pages["how-to/nas.html"]  # of an example
    for command in ("score", "nas", "bench train", "plugin new", "report"):
        assert f"<code>lpz {command}</code>" in pages["reference/cli.html"]


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^::: lpzero_hf\.(?:\w+\.)?(\w+)$", text, re.MULTILINE))
    assert shown | {"__version__", "hookimpl"} == set(lpzero_hf.__all__)


def test_every_hook_and_every_name_of_the_kit_is_in_the_reference() -> None:
    from lpzero_hf import hookspecs, testing

    hooks = {name for name in vars(hookspecs) if name.startswith("lpz_")}
    text = (DOCS / "reference" / "plugins.md").read_text(encoding="utf-8")
    assert hooks == set(re.findall(r"lpz_\w+", re.search(r"members: \[(.*)\]", text)[1]))
    kit = (DOCS / "reference" / "testing.md").read_text(encoding="utf-8")
    assert set(testing.__all__) - {"FAMILIES"} == set(
        re.findall(r"^::: lpzero_hf\.testing\.([A-Za-z_]+)$", kit, re.M)
    ) - {"pytest_plugin"}


def test_the_artifact_page_names_every_field() -> None:
    schema = json.loads((ROOT / "lpzero_hf" / "artifacts" / "artifact.schema.json").read_text(encoding="utf-8"))
    page = (DOCS / "reference" / "artifact.md").read_text(encoding="utf-8")
    provenance = schema["$defs"]["provenance"]
    fields = {*schema["properties"], *schema["properties"]["members"]["items"]["properties"], *provenance["properties"]}
    told = {name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert told == fields
    must = re.search(r"must have\n\n(.*?)\n\n", page, re.DOTALL)
    assert must
    assert {name for row in must[1].splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(
        provenance["required"]
    )


TABLE = """\
A title that
is wrapped
┏━━━━━━━┳━━━━━┳━━━━━━━━┓
┃ proxy ┃ rho ┃ s/arch ┃
┡━━━━━━━╇━━━━━╇━━━━━━━━┩
│ snip  │ {} │ {}  │
│ zen   │ {} │ 1.00   │
└───────┴─────┴────────┘
Took {} s.
"""


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (TABLE.format("+0.52", "9.1", "-0.20", "77"), ""),
        (TABLE.format("+0.75", "0.1", "-0.20", "3"), "snip"),
        (TABLE.format("+0.50", "0.1", "0.20", "3"), "zen"),
        (TABLE.format("+0.50", "0.1", "text", "3"), "zen"),
        (TABLE.format("+0.50", "0.1", "-0.20", "3").replace("zen", "zico"), "zico"),
        (TABLE.format("+0.50", "0.1", "-0.20", "3").replace("rho", "tau"), "tau"),
        (TABLE.format("+0.50", "0.1", "-0.20", "3").replace("wrapped", "long"), "long"),
        ("A title that is wrapped\n┏\n┃ proxy ┃ rho ┃ s/arch ┃\n...\nTook 1 s.", ""),
        ("...\n│ zen │ -0.20 │ 3 │\n...", ""),
        ("...\n│ zen │ -0.20 │ 3 │", "ends before"),
        ("...\n│ zen │ -0.20 │ 3 │\n...\n│ snip │ +0.50 │ 3 │\n...", "snip"),
        ("...\nTook ... s.", ""),
        ("...\nTook ... minutes.", "minutes"),
    ],
)
def test_what_a_page_shows_is_compared_with_what_is_printed(shown: str, why: str) -> None:
    problem = differing(shown, TABLE.format("+0.50", "0.2", "-0.20", "3"))
    assert why in problem
    assert bool(problem) == bool(why)


def test_a_console_block_is_read_as_commands() -> None:
    assert commands("$ lpz a \\\n  --b 'c d'  # why\nout\n$ lpz e\n") == [
        (["lpz", "a", "--b", "c d"], "out\n"),
        (["lpz", "e"], ""),
    ]
