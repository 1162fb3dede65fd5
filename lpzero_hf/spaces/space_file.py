"""Reads a space from a YAML or JSON file, as plain data alone: no tags, no aliases, nothing that is run.

Values are those of YAML 1.2: `1e-3` is a number, `no` a text. Every part keeps its line, so that messages name it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it comes without types

from lpzero_hf.errors import UsageError, did_you_mean, one_line
from lpzero_hf.files import parse_json, read_text
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.spaces.base_source import find_base
from lpzero_hf.spaces.config_space import FORMAT, VERSION, ConfigSpace
from lpzero_hf.spaces.named import SUFFIXES
from lpzero_hf.spaces.places import Path as Place
from lpzero_hf.spaces.places import Places, SpaceProblem

KEYS = ("name", "summary", "citation", "base", "choices", "derived", "constraints")
STORED = ("format", "version")  # in a definition
MOST = 2**20  # bytes of a file
DEEPEST = 30  # levels
REMEDY = "give a space as YAML or JSON"
INTEGER = re.compile(r"[-+]?[0-9]+")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    spelled(word): word == "true" for word in ("true", "false") for spelled in (str.lower, str.title, str.upper)
}
LONGEST = 300  # digits of a number


def space_from_file(path: Path, plugins: PluginRegistry | None = None) -> ConfigSpace:
    """The space in a file.

    Args:
        path: ends in `.yaml`, `.yml` or `.json`. A base that is a path is relative to its folder.
        plugins: where the name of a base is looked up.

    Raises:
        LpzError: it cannot be read.
        UsageError: it describes no space; the message begins with the line.
    """
    if path.is_dir():
        raise UsageError(f"'{path}' is a folder; give the file of a space in it")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"'{path}' is no file of a space by its name; it should end in {', '.join(SUFFIXES)}")
    text = read_text(path, REMEDY, MOST).removeprefix("\ufeff")
    document, lines = read_document(text, str(path), path.suffix.lower() == ".json")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip(".-") or "space"
    return space_from(document, Places(str(path), lines), name, path.parent, plugins)


def space_from(
    document: Any,
    places: Places,
    name: str = "",
    folder: Path | None = None,
    plugins: PluginRegistry | None = None,
) -> ConfigSpace:
    """The space that a document describes.

    Args:
        document: plain data, with the keys of a file, or those that `ConfigSpace.definition` gives.
        places: of its parts.
        name: for a document that has none.
        folder: that a path of a base is relative to.
        plugins: where the name of a base is looked up.

    Raises:
        UsageError: it describes no space.
    """
    try:
        if not isinstance(document, Mapping):
            raise SpaceProblem((), "it holds no space; begin with `base:` and `choices:`")
        for key in document:
            if key not in (*KEYS, *STORED):
                raise SpaceProblem(
                    (str(key),), f"unknown key{did_you_mean(str(key), KEYS)} (there are {', '.join(KEYS)})"
                )
        if (document.get("format", FORMAT), document.get("version", VERSION)) != (FORMAT, VERSION):
            raise SpaceProblem((), f"it is no space of version {VERSION}, which this release reads")
        for key in ("base", "choices"):
            if document.get(key) is None:
                raise SpaceProblem((), f"it lacks '{key}'")
        given = {key: value for key, value in document.items() if key in KEYS and value is not None}
        given.setdefault("name", name)
        try:
            given["base"] = find_base(given["base"], folder, plugins)
        except SpaceProblem as problem:
            raise problem.within("base") from problem
    except SpaceProblem as problem:
        raise places.error(problem) from problem
    return ConfigSpace(**given, places=places)


def read_document(text: str, source: str, is_json: bool) -> tuple[Any, dict[Place, int]]:
    """The plain data in a text of YAML or JSON, and the line of each part.

    Raises:
        LpzError: it is neither, or nested too deeply.
        UsageError: a key stands twice, or YAML does more than describe data; the message begins with the line.
    """
    lines: dict[Place, int] = {}
    if is_json:
        document = _json(text, source)
        text = text.replace("\t", " ")  # in no text of JSON, and YAML does not take them
    try:
        _check_events(text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = None if node is None else _plain(node, (), lines, source)
        return (document if is_json else found), lines
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if is_json:  # valid, but not the YAML that this library reads
            return document, {}
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        what = getattr(error, "problem", None) or one_line(error)
        raise UsageError(f"{place}: it is no YAML ({what}); correct the line") from error


def _json(text: str, source: str) -> Any:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{source}:{error.lineno}: it is no JSON ({error.msg}); correct the line") from error
    except (ValueError, RecursionError):
        pass  # `parse_json` says why
    return (
        parse_json(text, f"'{source}'", REMEDY, strict=False)
        if _twice(text)
        else parse_json(text, f"'{source}'", REMEDY)
    )


def _twice(text: str) -> bool:
    """Whether a key stands twice in a text of JSON; its line is found with those of YAML."""
    twice = False

    def pairs(items: list[tuple[str, Any]]) -> None:
        nonlocal twice
        twice = twice or len({key for key, _ in items}) < len(items)

    with suppress(ValueError, RecursionError):
        json.loads(text, object_pairs_hook=pairs)
    return twice


def _check_events(text: str, source: str) -> None:
    """Refuse what makes a document more than a tree of plain data, before anything is built of it."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = f"{source}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise UsageError(
                f"{place}: anchors and aliases (& and *) are not read; write the value again, or quote a text"
            )
        if (tag := getattr(event, "tag", None)) is not None and tag != "!":
            raise UsageError(f"{place}: tags such as '{tag[:60]}' are not read; write plain values")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        if documents > 1:
            raise UsageError(f"{place}: a second document begins; a file holds one space")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UsageError(f"{place}: it is nested more than {DEEPEST} deep")


def _plain(node: yaml.Node, path: Place, lines: dict[Place, int], source: str) -> Any:
    """The data of a part, whose line is noted."""
    lines.setdefault(path, node.start_mark.line + 1)
    place = f"{source}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.SequenceNode):
        return [_plain(inner, (*path, number), lines, source) for number, inner in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style is not None else _scalar(node.value, place)
    found: dict[Any, Any] = {}
    for key_node, inner in node.value:
        place = f"{source}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise UsageError(f"{place}: a list or mapping is no key; write names")
        key = _plain(key_node, (), {}, source)
        key = key if isinstance(key, str | int) and not isinstance(key, bool) else key_node.value
        if key in found:
            raise UsageError(f"{place}: '{key}' stands twice; remove one")
        lines[(*path, key)] = key_node.start_mark.line + 1
        found[key] = _plain(inner, (*path, key), lines, source)
    return found


def _scalar(text: str, place: str) -> Any:
    """The value of a plain word of YAML 1.2."""
    if text in WORDS:
        return WORDS[text]
    if NUMBER.fullmatch(text):
        if len(text) > LONGEST:
            raise UsageError(f"{place}: a number of {len(text):,} digits is too long")
        value = int(text) if INTEGER.fullmatch(text) else float(text)
        if value in (float("inf"), float("-inf")):
            raise UsageError(f"{place}: {text} is too large")
        return value
    return text
