"""Listings answer at once: they import neither torch nor transformers, whatever command is added."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest
from lpz_cli.main import app
from typer import main

HEAVY = ("torch", "transformers")
BARE = {"json", "no_plugin", "help"}  # the options of a command that only lists
RUN = f"""
import sys
from lpz_cli.entry import main
try:
    main()
finally:
    print(*[name for name in {HEAVY} if name in sys.modules], sep=",", file=sys.stderr)
"""


def commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    yield path, group
    for name, command in vars(group).get("commands", {}).items():
        yield from commands(command, (*path, name))


def lists(command: object) -> bool:
    """Whether a command runs with no argument and no option but those of every listing."""
    options = {p.name for p in command.params if p.param_type_name == "option"}  # type: ignore[attr-defined]
    needs = any(p.required for p in command.params)  # type: ignore[attr-defined]
    runs = not vars(command).get("commands") or command.invoke_without_command  # type: ignore[attr-defined]
    return runs and not needs and options <= BARE


EVERY = list(commands(main.get_command(app)))
LISTINGS = [path for path, command in EVERY if path and lists(command)]


def imported(*arguments: str, **environment: str) -> str:
    """What of the heavy libraries a command imports."""
    strangers = [p.name for p in entry_points(group="lpzero_hf") if p.dist is None or p.dist.name != "lpzero-hf"]
    environment |= {"LPZ_NO_PLUGINS": ",".join(strangers)}
    run = [sys.executable, "-c", RUN, *arguments]
    done = subprocess.run(run, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout, done.stderr
    return done.stderr.splitlines()[-1]


def test_the_walk_finds_the_listings() -> None:
    assert {("zoo",), ("plugins",), ("proxies",), ("bench", "list")} <= set(LISTINGS)


@pytest.mark.integration
@pytest.mark.parametrize("path", LISTINGS, ids=" ".join)
def test_a_listing_imports_no_heavy_library(path: tuple[str, ...]) -> None:
    assert imported(*path) == ""
    assert imported(*path, "--json") == ""


@pytest.mark.integration
@pytest.mark.parametrize("path", [path for path, _ in EVERY], ids=lambda path: " ".join(path) or "lpz")
def test_help_imports_no_heavy_library(path: tuple[str, ...]) -> None:
    assert imported(*path, "--help") == ""


@pytest.mark.integration
def test_version_proxies_in_full_and_completion_import_no_heavy_library() -> None:
    assert imported("--version") == ""
    assert imported("proxies", "snip", "lpzero-any", "synflow", "zico") == ""
    assert imported(_LPZ_COMPLETE="complete_bash", COMP_WORDS="lpz be", COMP_CWORD="1") == ""
