"""Reads the architectures of a table's rows: from a column of configurations, a column a field, or ids of a space."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lpzero_hf.benchmarks.held_out import MARK
from lpzero_hf.benchmarks.table_cells import canonical, column_of, fitting, json_cell, listing, missing, shown
from lpzero_hf.benchmarks.table_files import REMEDY, BadCell, BadRows
from lpzero_hf.errors import LpzError, ModelError, UsageError, did_you_mean, one_line
from lpzero_hf.files import parse_json
from lpzero_hf.models.load import load_config
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.scoring.cache_key import NOT_ARCHITECTURE
from lpzero_hf.spaces.base import Architecture, SearchSpace
from lpzero_hf.spaces.base_config import BaseConfig, plain_config
from lpzero_hf.spaces.base_source import find_base
from lpzero_hf.spaces.config_keys import nearest_key, warn_of_unknown_keys
from lpzero_hf.spaces.config_space import ConfigSpace
from lpzero_hf.spaces.hub_id import possible_hub_id
from lpzero_hf.spaces.listed import ListedMember
from lpzero_hf.spaces.model_types import model_types
from lpzero_hf.spaces.named import IN_FILE, installed_models, installed_spaces, load_space
from lpzero_hf.spaces.places import SpaceProblem
from lpzero_hf.spaces.size_limits import check_sizes
from lpzero_hf.spaces.space_file import name_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

NO_FIELDS = frozenset({"dtype", "torch_dtype", "name_or_path", "model_type"})  # known to every class
NEAR = 0.85  # how alike the names of a column and of a field are where one is probably meant to be the other
LONGEST = 160  # letters of a name that spells out its fields
Row = Mapping[str, Any]


class ArchitectureReader(Protocol):
    """Reads the architecture of a row.

    Attributes:
        columns: that it reads.
        members: the architectures found so far, by name; empty where the space has them.
    """

    columns: tuple[str, ...]
    members: dict[str, ListedMember]

    def read(self, row: Row, place: int) -> Architecture:
        """The architecture of a row. Raises `BadCell`."""


class SpaceIds:
    """A column with text ids of a space, with or without its name, or that of its file, and a colon before them.

    Args:
        column: its name.
        space: of the ids.
    """

    def __init__(self, column: str, space: SearchSpace) -> None:
        self.columns: tuple[str, ...] = (column,)
        self.members: dict[str, ListedMember] = {}
        self.space = space
        self._known: dict[str, Architecture] = {}

    def read(self, row: Row, place: int) -> Architecture:
        """The architecture of a row. Raises `BadCell` if the space has none with that id."""
        cell = row.get(self.columns[0])
        if isinstance(cell, Architecture):
            return self.space.check(cell)
        if missing(cell):
            raise BadCell(
                "without an architecture", f"'{self.columns[0]}' is empty; it holds an id of {self.space.name}"
            )
        text = without_space(str(cell).strip(), self.space)
        if text not in self._known:
            try:
                self._known[text] = self.space.parse(text)
            except LpzError as error:
                raise BadCell(f"with no id of space {self.space.name}", str(error)) from None
        return self._known[text]


def without_space(text: str, space: SearchSpace) -> str:
    """A text id without the name of its space, or of the file of it, and the colon: commands print ids with them."""
    if (in_file := IN_FILE.match(text)) is None:
        return text.removeprefix(f"{space.name}:")
    file, member = in_file.groups()
    source = space.places.source if isinstance(space, ConfigSpace) else ""
    return member if name_of(Path(file)) in (space.name, name_of(Path(source))) else text


class ConfigCells:
    """A column with a whole configuration in each cell.

    A cell is an object with a `model_type`, or its JSON text; the path of a `config.json` or of a folder with one; a
    zoo name, `SPACE:ID`, or a Hub id.

    Args:
        column: its name.
        folder: that relative paths start from.
        bad: names the places of rows.
        plugins: where names are looked up.
    """

    def __init__(self, column: str, folder: Path, bad: BadRows, plugins: PluginRegistry) -> None:
        self.columns: tuple[str, ...] = (column,)
        self.members: dict[str, ListedMember] = {}
        self._folder, self._bad, self._plugins = folder, bad, plugins
        self._known: dict[str, Architecture] = {}

    def read(self, row: Row, place: int) -> Architecture:
        """The architecture of a row. Raises `BadCell` if its cell is no configuration."""
        cell: Any = row.get(self.columns[0])
        if missing(cell):
            raise BadCell("without a configuration", f"'{self.columns[0]}' is empty; it holds a configuration")
        if hasattr(cell, "to_dict"):  # a configuration of transformers
            cell = cell.to_dict()
        if isinstance(cell, Mapping):
            return self._of_data(cell, place)
        if not isinstance(cell, str):
            raise BadCell("with no configuration", f"'{self.columns[0]}' is {shown(cell)}, and no configuration")
        if cell not in self._known:
            self._known[cell] = self._of_text(cell.strip(), place)
        return self._known[cell]

    def _of_text(self, text: str, place: int) -> Architecture:
        if text.startswith(("{", "[")):
            return self._of_data(json_cell(text, self.columns[0]), place)
        source = self._source(text)
        where = self._bad.at(place)
        self.members.setdefault(text, ListedMember(partial(_found, source, where, self._plugins)))
        return Architecture((text,))

    def _source(self, text: str) -> str:
        """What `load_config` takes for a cell. Raises `BadCell` if there can be no such thing."""
        models, spaces = installed_models(self._plugins), installed_spaces(self._plugins)
        name, _, member = text.partition(":")
        if text in models:
            return text
        if member and name in spaces:
            try:
                load_space(name, self._plugins).parse(member)
            except LpzError as error:
                raise BadCell(f"with no id of space {name}", str(error)) from None
            return text
        path = self._folder / Path(text).expanduser()
        try:
            there = path.exists()
        except (OSError, ValueError):  # too long for a path, or a NUL in it
            there = False
        if there:
            return str(path)
        if text.endswith(".json") or text.startswith((".", "/", "~")) or text.count("/") > 1:
            raise BadCell(
                "with a path that is not there", f"'{self.columns[0]}' names the file '{path}', which is not there"
            )
        if not possible_hub_id(text):
            near = did_you_mean(text, models)
            raise BadCell(
                "with no configuration",
                f"'{self.columns[0]}' is {shown(text)}: no JSON, no file, no zoo model{near}, and no possible Hub id",
            )
        return text

    def _of_data(self, data: Any, place: int) -> Architecture:
        if not isinstance(data, Mapping):
            raise BadCell("with no configuration", f"'{self.columns[0]}' holds no object")
        family = data.get("model_type")
        if not isinstance(family, str) or not family:
            raise BadCell(
                "without a model_type", f"the configuration in '{self.columns[0]}' names no 'model_type'; add it"
            )
        if family not in (types := model_types(self._plugins)):
            near = did_you_mean(family, types)
            raise BadCell("with an unknown model_type", f"transformers knows no model_type {shown(family)}{near}")
        content = canonical(data, self.columns[0])
        name = f"{family}-{hashlib.sha256(content.encode()).hexdigest()[:MARK]}"
        if name not in self.members:
            self.members[name] = ListedMember(partial(config_of, data, self._bad.at(place)), content)
        return Architecture((name,))


class FieldCells:
    """Columns that are each a field of a configuration, over a base that sets others.

    An empty cell leaves the field as the base has it. What the class of the configuration computes from other fields
    follows them, unless the base really sets it; see `BaseConfig`.

    Args:
        base: what all architectures have in common.
        fields: by column, the path of its field.
        bad: names the places of rows.
    """

    def __init__(self, base: BaseConfig, fields: Mapping[str, str], bad: BadRows) -> None:
        self.columns: tuple[str, ...] = tuple(fields)
        self.members: dict[str, ListedMember] = {}
        self._base, self._fields, self._bad = base, fields, bad
        self._definition = json.dumps(base.definition(), sort_keys=True)
        self._usual = {column: _value_of(base.whole, path) for column, path in fields.items()}
        self._checked: dict[Hashable, tuple[Any, str]] = {}

    def read(self, row: Row, place: int) -> Architecture:
        """The architecture of a row. Raises `BadCell` if a value has another type than the field."""
        given: dict[str, Any] = {}
        words = []
        for column, path in self._fields.items():
            cell = row.get(column)
            key = (column, cell.__class__, repr(cell) if isinstance(cell, list | dict) else cell)
            if key not in self._checked:
                self._checked[key] = self._check(column, path, cell)
            value, word = self._checked[key]
            if word:
                given[path] = value
                words.append(word)
        name = ",".join(words) or "base"
        if len(name) > LONGEST:
            name = f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:MARK]}"
        if name not in self.members:
            build = partial(_over, self._base, given, self._bad.at(place))
            self.members[name] = ListedMember(build, [self._definition, given])
        return Architecture((name,))

    def _check(self, column: str, path: str, cell: Any) -> tuple[Any, str]:
        """The value of a field, and how it stands in the name of an architecture: not at all if the cell is empty."""
        if missing(cell):
            return None, ""
        value = fitting(column, cell, self._usual[column])
        return value, f"{path}={value if isinstance(value, str) else json.dumps(value)}"


def reader_of(
    columns: Sequence[str],
    others: Sequence[str],
    *,
    architecture: str | None,
    base: Any,
    space: SearchSpace | None,
    folder: Path,
    bad: BadRows,
    plugins: PluginRegistry,
) -> ArchitectureReader:
    """What reads the architectures of a table.

    Args:
        columns: of the table.
        others: those of them that are known to be no part of an architecture: the metric, for example.
        architecture: the column that holds it; None where its name says so.
        base: a configuration, as an object, plain data, JSON text, a path, a Hub id or a zoo name, for columns that are
            fields; None for none.
        space: of ids.
        folder: that relative paths in cells start from.
        bad: names the places of rows.
        plugins: where names are looked up.

    Raises:
        UsageError: it cannot be told which columns hold the architectures; the message lists the columns.
        LpzError: the base cannot be read.
    """
    left = [name for name in columns if name not in others]
    if base is not None and (space is not None or architecture is not None):
        one = "`space=`" if space is not None else "`architecture=`"
        raise UsageError(f"`base=` is for columns that are fields, and {one} for one that holds all; give one of them")
    if base is not None:
        found = base_of_table(base, plugins)
        return FieldCells(found, _fields(left, found, bad.source), bad)
    column = _architecture_column(left, columns, architecture, bad.source)
    if space is not None:
        return SpaceIds(column, space)
    return ConfigCells(column, folder, bad, plugins)


NAMES = ("config", "architecture", "model", "arch")  # of a column that holds architectures


def _architecture_column(left: Sequence[str], columns: Sequence[str], wanted: str | None, source: str) -> str:
    if wanted is not None:
        return column_of(wanted, columns, source)
    found = [name for name in left if name.lower() in NAMES]
    if len(found) == 1:
        return found[0]
    why = f"columns {listing(found)} may all hold the architectures" if found else "no column is called config or so"
    raise UsageError(
        f"{why} of {source} ({listing(columns)}); name the one with `architecture=`, or give `base=MODEL` if the "
        "columns are fields of its configuration"
    )


def _fields(left: Sequence[str], base: BaseConfig, source: str) -> dict[str, str]:
    """By column, the path of the field that it is, for all columns that are fields."""
    fields: dict[str, str] = {}
    misspelled: dict[str, str] = {}
    for name in left:
        if name in NO_FIELDS:
            continue
        try:
            fields[name] = base.resolve(name)
        except SpaceProblem:
            near = base.deeper(name) if name not in NOT_ARCHITECTURE else ""
            near = near or nearest_key(name, known_fields(base), NEAR)
            if near:
                misspelled[name] = near
    if misspelled:
        several = [f"'{name}', did you mean '{near}'" for name, near in misspelled.items()]
        raise UsageError(
            f"no field of {base.kind.__name__} is called as these columns of {source}: {'; '.join(several)}? Rename "
            "them, or say of each that it is something else, with " + ", ".join(
                f"`extra_columns={name}`" for name in misspelled
            )
        )  # fmt: skip
    paths = list(fields.values())
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        names = [name for name in fields if fields[name] == twice[0]]
        raise UsageError(f"columns {listing(names)} of {source} are the same field '{twice[0]}'; keep one")
    if not fields:
        raise UsageError(
            f"no column of {source} is a field of {base.kind.__name__} ({listing(left)}); rename them as its fields"
        )
    return fields


def known_fields(base: BaseConfig) -> frozenset[str]:
    """The fields of a configuration that decide its architecture."""
    return frozenset(plain_config(base.whole)) - NOT_ARCHITECTURE


def base_of_table(base: Any, plugins: PluginRegistry) -> BaseConfig:
    """A base as users give it: a configuration, plain data, JSON text, a path, a Hub id or a zoo name.

    Raises:
        UsageError: it is none of these.
        LpzError: it is no readable JSON.
    """
    if isinstance(base, str) and base.lstrip().startswith("{"):
        base = parse_json(base, "`base=`", "give an object with a 'model_type'", strict=False)
    try:
        return find_base(base, plugins=plugins)
    except SpaceProblem as problem:
        part = ".".join(map(str, problem.path))
        raise UsageError(f"`base=`: {f'{part}: ' if part else ''}{problem.what}") from problem


# Configurations --------------------------------------------------------------------------------------------


def config_of(data: Mapping[str, Any], where: str) -> PreTrainedConfig:
    """The configuration that plain data describe.

    Args:
        data: with a `model_type`.
        where: they stand, for messages.

    Raises:
        ModelError: its class refuses it.
    """

    def make() -> PreTrainedConfig:
        config: PreTrainedConfig = model_types()[data["model_type"]].from_dict(dict(data))
        warn_of_unknown_keys(data, config, where)
        return config

    return _made(make, data, where)


def _over(base: BaseConfig, given: Mapping[str, Any], where: str) -> PreTrainedConfig:
    """The base with other values of some fields."""
    return _made(lambda: base.build(given), {}, where)


def _found(source: str, where: str, plugins: PluginRegistry) -> PreTrainedConfig:
    """The configuration of a path, a name or a Hub id."""
    return _made(lambda: load_config(source, plugins=plugins)[0], {}, where)


def _made(make: Callable[[], PreTrainedConfig], data: Mapping[str, Any], where: str) -> PreTrainedConfig:
    try:
        check_sizes(data, "it has no possible size")
        return make()
    except LpzError as error:
        raise ModelError(f"{where}: {error}; {REMEDY}") from error
    except Exception as error:  # classes of configurations raise anything
        raise ModelError(f"{where}: its configuration cannot be built ({one_line(error)}); {REMEDY}") from error


def _value_of(base: PreTrainedConfig, field: str) -> Any:
    """The value of a field, of a nested configuration with dots; None if it has none."""
    value: Any = base
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value
