"""A file to start a space from: choices around one architecture, read from its configuration and tried on its model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml  # type: ignore[import-untyped]  # it comes without types

from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.models.build import build_model
from lpzero_hf.models.member_check import refused
from lpzero_hf.spaces.arithmetic import Formula
from lpzero_hf.spaces.base_source import find_base
from lpzero_hf.spaces.config_space import ConfigSpace
from lpzero_hf.spaces.places import SpaceProblem
from lpzero_hf.spaces.space_file import name_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from lpzero_hf.plugins import PluginRegistry
    from lpzero_hf.spaces.base_config import BaseConfig

TRIED = 8  # members that are built before the file is written
Values = list[Any]


def quarters(value: int, unit: int = 1) -> Values:
    """A quarter, a half, three quarters and the whole of a number, each a multiple of `unit`."""
    return sorted({value * k // 4 // unit * unit for k in range(1, 5)} - {0} | {value})


def divisors(value: int) -> Values:
    """The divisors of a number, at most the largest four."""
    return [n for n in range(1, value + 1) if value % n == 0][-4:]


@dataclass(frozen=True)
class Role:
    """What a field of a configuration decides, and the values to try.

    Args:
        meaning: for people.
        names: the fields of transformers' configurations that have this role.
        values: proposes values from the present one and the number of heads.
    """

    meaning: str
    names: tuple[str, ...]
    values: Callable[[int, int], Values]


ROLES = (
    Role(
        "width", ("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "emb_dim"),
        lambda value, heads: quarters(value, lcm(heads, 8) if value % lcm(heads, 8) == 0 else heads),
    ),
    Role(
        "layers",
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
         "num_decoder_layers"),
        lambda value, heads: quarters(value),
    ),
    Role(
        "heads",
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"),
        lambda value, heads: divisors(value),
    ),
    Role(
        "key-value heads", ("num_key_value_heads", "num_kv_heads", "multi_query_group_num"),
        lambda value, heads: sorted({*divisors(heads), value}),
    ),
    Role(
        "feed-forward width",
        ("intermediate_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim",
         "shared_intermediate_size"),
        lambda value, heads: quarters(value, 8),
    ),
    Role(
        "experts", ("num_experts", "num_local_experts", "n_routed_experts"),
        lambda value, heads: quarters(value),
    ),
    Role("width of an expert", ("moe_intermediate_size", "expert_ffn_dim"), lambda value, heads: quarters(value, 8)),
    Role(
        "state", ("state_size", "ssm_state_size", "mamba_d_state"),
        lambda value, heads: quarters(value),
    ),
    Role("expansion", ("expand", "mamba_expand"), lambda value, heads: sorted({1, value})),
)  # fmt: skip
RELATIONS = (  # each a constraint where its fields are chosen and the given architecture satisfies it
    "{width} % {heads} == 0",
    "{heads} % {key-value heads} == 0",
    "{width} <= {feed-forward width}",
)

FOLLOWING = (  # a field that must follow others, which not every class computes; where the given architecture agrees
    ("num_heads", "expand * hidden_size // head_dim"),
    ("mamba_n_heads", "mamba_expand * hidden_size // mamba_d_head"),
)


@dataclass(frozen=True)
class Proposal:
    """A space file to be.

    Args:
        text: of the file, in YAML.
        space: what it holds.
        refused: which of a few members drawn from it the model refuses, and why.
    """

    text: str
    space: ConfigSpace
    refused: dict[str, str]


def propose(file: Path, model: str, plugins: PluginRegistry | None = None, seed: int = 42) -> Proposal:
    """Choices around an architecture.

    A value is proposed only if the model with it, and all else as given, can be built; it is built without memory, on
    torch's meta device.

    Args:
        file: where the text is to be written; its name names the space.
        model: a zoo name, the path of a configuration, or a Hub id.
        plugins: where names are looked up.
        seed: draws the members that are tried.

    Raises:
        UsageError: the model is unknown, or its configuration has no field to choose.
        ModelError: the model cannot be built as it is.
    """
    try:
        base = find_base(model, None, plugins)
    except SpaceProblem as problem:
        raise UsageError(problem.what) from problem
    _build(base.whole)
    fields = _fields(base.whole)
    derived = {field: formula for field, formula in FOLLOWING if _follows(base, field, formula)}
    for field in derived:
        fields.pop(field, None)
    heads = next((own for own, role in fields.values() if role.meaning == "heads"), 1)
    shallow: dict[str, Any] = {}  # with few layers, to try the other fields in less time
    choices: dict[str, Values] = {}
    for field, (own, role) in fields.items():
        values = [v for v in role.values(own, heads) if v == own or _builds(base, shallow | {field: v}, derived)]
        if len(values) > 1:
            choices[field] = values
            if role.meaning == "layers":
                shallow[field] = values[0]
    tied = getattr(base.whole, "tie_word_embeddings", None)
    if isinstance(tied, bool) and _builds(base, shallow | {"tie_word_embeddings": not tied}, derived):
        choices["tie_word_embeddings"] = [tied, not tied]
    if not choices:
        raise UsageError(
            f"no field of '{model}' is known here that its model takes other values of; write the file yourself"
        )
    chosen = {field: fields[field] for field in choices if field in fields}
    own_values = {field: own for field, (own, _) in chosen.items()}
    relations = _relations({field: role.meaning for field, (_, role) in chosen.items()})
    constraints = [condition for condition in relations if Formula(condition)(own_values)]
    space = ConfigSpace(name_of(file), base, choices, derived, constraints)
    cannot = refused(space, space.samples(min(TRIED, space.count().low), seed, "choice"))
    source = os.path.relpath(model, file.parent) if Path(model).exists() else model
    comments = {field: f"{role.meaning}, {own} there" for field, (own, role) in chosen.items()}
    return Proposal(_write(space, model, source, choices, comments, derived, constraints), space, cannot)


def _fields(config: PreTrainedConfig) -> dict[str, tuple[int, Role]]:
    """The fields of a configuration that have a role, with their values, those of the number of layers first."""
    part, prefix = config.get_text_config(), ""
    if part is not config:  # the language model inside a composite
        inside = [field for field in type(config).sub_configs if getattr(config, field, None) is part]
        part, prefix = (part, f"{inside[0]}.") if inside else (config, "")
    plain = part.to_dict()
    found = {
        prefix + field: (plain[field], role)
        for role in ROLES
        for field in role.names
        if isinstance(plain.get(field), int) and plain[field] > 0
    }
    return dict(sorted(found.items(), key=lambda item: item[1][1].meaning != "layers"))


def _build(config: PreTrainedConfig) -> None:
    with torch.device("meta"):
        build_model(config, device="meta")


def _follows(base: BaseConfig, field: str, formula: str) -> bool:
    """Whether the fields of a formula are there, and give the value of a field."""
    try:
        return bool(base.value(field) == Formula(formula)({name: base.value(name) for name in Formula(formula).names}))
    except SpaceProblem:
        return False


def _builds(base: BaseConfig, fields: Mapping[str, Any], derived: Mapping[str, str]) -> bool:
    rules = {field: Formula(text) for field, text in derived.items()}
    follow = {
        field: rule({name: fields.get(name, base.value(name)) for name in rule.names}) for field, rule in rules.items()
    }
    try:
        _build(base.build({**fields, **follow}))
    except LpzError:
        return False
    return True


def _relations(meanings: Mapping[str, str]) -> list[str]:
    """The relations each of whose roles one field has."""
    fields: dict[str, list[str]] = {}
    for field, meaning in meanings.items():
        fields.setdefault(meaning, []).append(field)
    names = {meaning: found[0] for meaning, found in fields.items() if len(found) == 1}
    return [
        relation.format_map(names) for relation in RELATIONS if set(re.findall("{(.*?)}", relation)) <= names.keys()
    ]


def _write(
    space: ConfigSpace,
    model: str,
    source: str,
    choices: Mapping[str, Values],
    comments: Mapping[str, str],
    derived: Mapping[str, str],
    constraints: Sequence[str],
) -> str:
    def line(key: str, value: Any, comment: str = "") -> str:
        shown = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")
        return f"{key}: {shown}" + (f"  # {comment}" if comment else "")

    return "\n".join([
        f"# A space of architectures around {model}. Change it, then look at it with `lpz zoo show`, rank its",
        "# architectures with `lpz rank`, search it with `lpz nas`, train some with `lpz bench train`.",
        line("name", space.name),
        "# All fields that are not named below are as in this model; fields that follow from others do so.",
        line("base", source),
        "# A list of values, or {from: 64, to: 512, step: 64}, or {from: 64, to: 512, times: 2}; where the model has a",
        "# list with an entry for every layer, {per_layer: [full_attention, sliding_attention]}.",
        "choices:",
        *(f"  {line(field, values, comments.get(field, ''))}" for field, values in choices.items()),
        "# Fields by formula, such as `intermediate_size: 4 * hidden_size`.",
        *(["derived:", *(f"  {line(*rule)}" for rule in derived.items())] if derived else ["derived: {}"]),
        "# Conditions that every architecture meets.",
        *(["constraints:", *(f"  - {condition}" for condition in constraints)] if constraints else ["constraints: []"]),
        "",
    ])  # fmt: skip
