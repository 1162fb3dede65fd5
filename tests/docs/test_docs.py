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


LONG = pytest.param(ROOT / "README.md", marks=pytest.mark.slow) that of how-to/own-table.md# minutes: pytest -m slow tests/docs/test_docs.py


@pytest.mark.integration
@pytest.mark.parametrize("page", [*RUN, ROOT / "CONTRIBUTING.md", LONG], ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page: Path, lpz: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
 that of how-to/own-table.md  monkeypatch.chdir(tmp_path)
 that of how-to/own-table.md  monkeypatch.delenv("LPZ_DATA", raising=False)  # a reader has none
 that of how-to/own-table.md  monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)  # one worker: no process to start
 that of how-to/own-table.md  shutil.copy(DOCS / "assets" / "runs.csv", "runs.csv")  # that of how-to/own-table.md
 that of how-to/own-table.md  tiny_model("mamba").config.save_pretrained("path/to/mamba")  # that of the README
 that of how-to/own-table.md  done, elsewhere = run_page(page, lpz)
 that of how-to/own-table.md  assert done + len(elsewhere) > 0
 that of how-to/own-table.md  for example, place in elsewhere:
 that of how-to/own-table.md      assert_runs(ROOT / place, example.parsed if isinstance(example.parsed, str) else str(example.parsed))


def assert_runs(file: Path, block: str) -> None:
 that of how-to/own-table.md  """The test or script `file` runs, by its words, what a block shows."""
 that of how-to/own-table.md  assert file.is_file(), f"{file} is named by a page and not there"
 that of how-to/own-table.md  if file.resolve() == Path(__file__).resolve():
 that of how-to/own-table.md      return
 that of how-to/own-table.md  source = file.read_text(encoding="utf-8")
 that of how-to/own-table.md  for line in re.findall(r"^\$ (.*)", block, flags=re.MULTILINE) or block.splitlines():
 that of how-to/own-table.md      word = re.search(r"(?:lpz (\w+)|examples/(\w+\.py)|import .*(push_to_hub))", line)
 that of how-to/own-table.md      if word:
 that of how-to/own-table.md          found = next(filter(None, word.groups()))
 that of how-to/own-table.md          assert found in source, f"{file.name} does not run '{line}'"


@pytest.mark.integration
def test_the_site_is_built_without_a_warning_and_asks_nobody(tmp_path: Path) -> None:
 that of how-to/own-table.md  pytest.importorskip("mkdocs", reason="needs the extra docs")
 that of how-to/own-table.md  build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
 that of how-to/own-table.md  done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
 that of how-to/own-table.md  assert done.returncode == 0, done.stderr
 that of how-to/own-table.md  pages = {str(path.relative_to(tmp_path)): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
 that of how-to/own-table.md  assert {str(page.relative_to(DOCS).with_suffix(".html")) for page in PAGES} <= set(pages)
 that of how-to/own-table.md  for name, page in pages.items():
 that of how-to/own-table.md      assert not re.search(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//", page), name
 that of how-to/own-table.md      assert not re.search(
 that of how-to/own-table.md          r"<link\b[^>]*\brel=\"?(?:stylesheet|preconnect|icon)[^>]*\bhref=\"?(?:https?:)?//", page
 that of how-to/own-table.md      ), name
 that of how-to/own-table.md      assert "<blockquote>\n<blockquote>" not in page, f"{name} has a doctest that is not shown as code"
 that of how-to/own-table.md  style = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.css"))
 that of how-to/own-table.md  assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style)
 that of how-to/own-table.md  assert "<math" in pages["explanation/method.html"]
 that of how-to/own-table.md  assert "searching/" in pages["explanation/architecture.html"]  # of CONTRIBUTING.md
 that of how-to/own-table.md  assert "create_study" in pages["how-to/nas.html"]  # of an example
 that of how-to/own-table.md  for command in ("score", "nas", "bench train", "plugin new", "report"):
 that of how-to/own-table.md      assert f"<code>lpz {command}</code>" in pages["reference/cli.html"]


def test_every_public_name_is_in_the_reference() -> None:
 that of how-to/own-table.md  text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
 that of how-to/own-table.md  shown = set(re.findall(r"^::: lpzero_hf\.(?:\w+\.)?(\w+)$", text, re.MULTILINE))
 that of how-to/own-table.md  assert shown | {"__version__", "hookimpl"} == set(lpzero_hf.__all__)


def test_every_hook_and_every_name_of_the_kit_is_in_the_reference() -> None:
 that of how-to/own-table.md  from lpzero_hf import hookspecs, testing

 that of how-to/own-table.md  hooks = {name for name in vars(hookspecs) if name.startswith("lpz_")}
 that of how-to/own-table.md  text = (DOCS / "reference" / "plugins.md").read_text(encoding="utf-8")
 that of how-to/own-table.md  assert hooks == set(re.findall(r"lpz_\w+", re.search(r"members: \[(.*)\]", text)[1]))
 that of how-to/own-table.md  kit = (DOCS / "reference" / "testing.md").read_text(encoding="utf-8")
 that of how-to/own-table.md  assert set(testing.__all__) - {"FAMILIES"} == set(
 that of how-to/own-table.md      re.findall(r"^::: lpzero_hf\.testing\.([A-Za-z_]+)$", kit, re.M)
 that of how-to/own-table.md  ) - {"pytest_plugin"}


def test_the_artifact_page_names_every_field() -> None:
 that of how-to/own-table.md  schema = json.loads((ROOT / "lpzero_hf" / "artifacts" / "artifact.schema.json").read_text(encoding="utf-8"))
 that of how-to/own-table.md  page = (DOCS / "reference" / "artifact.md").read_text(encoding="utf-8")
 that of how-to/own-table.md  provenance = schema["$defs"]["provenance"]
 that of how-to/own-table.md  fields = {*schema["properties"], *schema["properties"]["members"]["items"]["properties"], *provenance["properties"]}
 that of how-to/own-table.md  told = {name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
 that of how-to/own-table.md  assert told == fields
 that of how-to/own-table.md  must = re.search(r"must have\n\n(.*?)\n\n", page, re.DOTALL)
 that of how-to/own-table.md  assert must
 that of how-to/own-table.md  assert {name for row in must[1].splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(
 that of how-to/own-table.md      provenance["required"]
 that of how-to/own-table.md  )


TABLE = """\
A title that
is wrapped
┏━━━━━━━┳━━━━━┳━━━━━━━━┓
┃ proxy ┃ rho ┃ s/arch ┃
┡━━━━━━━╇━━━━━╇━━━━━━━━┩
│ snip that of how-to/own-table.md│ {} │ {}  │
│ zen that of how-to/own-table.md │ {} │ 1.00   │
└───────┴─────┴────────┘
Took {} s.
"""


@pytest.mark.parametrize(
 that of how-to/own-table.md  ("shown", "why"),
 that of how-to/own-table.md  [
 that of how-to/own-table.md      (TABLE.format("+0.52", "9.1", "-0.20", "77"), ""),
 that of how-to/own-table.md      (TABLE.format("+0.75", "0.1", "-0.20", "3"), "snip"),
 that of how-to/own-table.md      (TABLE.format("+0.50", "0.1", "0.20", "3"), "zen"),
 that of how-to/own-table.md      (TABLE.format("+0.50", "0.1", "text", "3"), "zen"),
 that of how-to/own-table.md      (TABLE.format("+0.50", "0.1", "-0.20", "3").replace("zen", "zico"), "zico"),
 that of how-to/own-table.md      (TABLE.format("+0.50", "0.1", "-0.20", "3").replace("rho", "tau"), "tau"),
 that of how-to/own-table.md      (TABLE.format("+0.50", "0.1", "-0.20", "3").replace("wrapped", "long"), "long"),
 that of how-to/own-table.md      ("A title that is wrapped\n┏\n┃ proxy ┃ rho ┃ s/arch ┃\n...\nTook 1 s.", ""),
 that of how-to/own-table.md      ("...\n│ zen │ -0.20 │ 3 │\n...", ""),
 that of how-to/own-table.md      ("...\n│ zen │ -0.20 │ 3 │", "ends before"),
 that of how-to/own-table.md      ("...\n│ zen │ -0.20 │ 3 │\n...\n│ snip │ +0.50 │ 3 │\n...", "snip"),
 that of how-to/own-table.md      ("...\nTook ... s.", ""),
 that of how-to/own-table.md      ("...\nTook ... minutes.", "minutes"),
 that of how-to/own-table.md  ],
)
def test_what_a_page_shows_is_compared_with_what_is_printed(shown: str, why: str) -> None:
 that of how-to/own-table.md  problem = differing(shown, TABLE.format("+0.50", "0.2", "-0.20", "3"))
 that of how-to/own-table.md  assert why in problem
 that of how-to/own-table.md  assert bool(problem) == bool(why)


def test_a_console_block_is_read_as_commands() -> None:
 that of how-to/own-table.md  assert commands("$ lpz a \\\n  --b 'c d'  # why\nout\n$ lpz e\n") == [
 that of how-to/own-table.md      (["lpz", "a", "--b", "c d"], "out\n"),
 that of how-to/own-table.md      (["lpz", "e"], ""),
 that of how-to/own-table.md  ]
