"""Spaces over configurations: members are counted, drawn uniformly, named, read, built, and satisfy constraints."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from typing import Any

import pytest
from scipy.stats import chisquare
from transformers import Gemma3TextConfig, GPT2Config, LlamaConfig, PreTrainedConfig, Qwen3Config, T5Config

from lpzero_hf import Architecture, ConfigSpace, load_space
from lpzero_hf.errors import ModelError, UsageError
from lpzero_hf.models.member_check import refused
from lpzero_hf.spaces.base_config import base_of
from studies.cost import inputs
from tests.support.random_spaces import LLAMA, TYPES, Reference, materials, random_space

MATERIALS = materials()
SMALL = LlamaConfig(**LLAMA)
MOST = 1500  # combinations that are enumerated


def read(config: PreTrainedConfig, field: str) -> Any:
    found: Any = config
    for part in field.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return tuple(found) if isinstance(found, list) else found


def check_space(space: ConfigSpace, seed: int) -> bool:
    """Everything that holds for any space; returns whether its constraints are known to leave something out."""
    reference = Reference(space)
    members = reference.members(MOST)
    if members is not None:
        assert space.count().exact
        assert space.size() == len(members)
    drawn = [space.sample(random.Random(seed), by) for by in ("architecture", "choice")]
    drawn.append(space.assemble(lambda name, values: random.Random(f"{seed}{name}").choice(values)))
    for member in drawn:
        text = space.text(member)
        assert space.parse(text) == member
        assert reference.holds(member.shared)
        config = space.config(member)
        for name, value in zip(space.definition()["choices"], member.shared, strict=True):
            assert read(config, name) == value, text
    assert refused(space, dict.fromkeys(drawn)) == {}
    if members is not None and 1 < len(members) <= 40:
        assert {member.shared for member in space.samples(len(members))} == set(members)
        rng = random.Random(seed)
        counts = Counter(space.sample(rng).shared for _ in range(25 * len(members)))
        assert chisquare([counts[row] for row in members]).pvalue > 1e-5
    again = load_space(space.definition())
    assert again.count() == space.count()
    assert again.fingerprint() == space.fingerprint()
    assert again.config(drawn[0]).to_dict() == space.config(drawn[0]).to_dict()
    reference.constraints = []
    return members is not None and len(members) < len(reference.members(MOST) or ())


@pytest.mark.parametrize("block", range(3))
@pytest.mark.parametrize("name", MATERIALS)
def test_random_spaces_count_draw_name_and_build_their_members(name: str, block: int) -> None:
    seeds = range(10 * block, 10 * block + 10)
    bound = [check_space(random_space(MATERIALS[name], random.Random(f"{name} {seed}")), seed) for seed in seeds]
    assert sum(bound) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", MATERIALS)
def test_many_random_spaces(name: str) -> None:
    for seed in range(100, 200):
        check_space(random_space(MATERIALS[name], random.Random(f"{name} {seed}")), seed)


def test_a_space_of_a_billion_members_draws_valid_ones() -> None:
    space = inputs.made()
    assert space.count().exact
    assert space.size() > 10**9
    for by in ("architecture", "choice"):
        members = space.samples(1000, by=by)
        assert len(set(members)) == 1000
        for width, _, heads, groups, inner, *_ in (member.shared for member in members):
            assert width % (2 * heads) == 0
            assert heads % groups == 0
            assert 2 * width <= inner <= 8 * width


# What follows the chosen fields -----------------------------------------------------------------------------


def test_what_the_class_computes_follows_the_chosen_fields() -> None:
    space = ConfigSpace("s", SMALL, {"hidden_size": [32, 64], "num_attention_heads": [4, 8]})
    config = space.config(Architecture((64, 8)))
    assert (config.head_dim, config.num_key_value_heads) == (8, 8)
    base = LlamaConfig(**LLAMA, head_dim=4, num_key_value_heads=2)
    config = ConfigSpace("s", base, {"hidden_size": [32, 64]}).config(Architecture((64,)))
    assert (config.head_dim, config.num_key_value_heads) == (4, 2)
    types = ConfigSpace("s", Qwen3Config(**LLAMA), {"num_hidden_layers": [1, 3]}).config(Architecture((3,))).layer_types
    assert len(types) == 3
    depths = ConfigSpace("s", T5Config(d_model=32, num_layers=2), {"num_layers": [1, 3]}).config(Architecture((3,)))
    assert depths.num_decoder_layers == 3


@pytest.mark.parametrize("name", MATERIALS)
def test_a_base_keeps_what_makes_the_same_configuration(name: str) -> None:
    base = base_of(MATERIALS[name].base)
    assert base.whole.to_dict() == MATERIALS[name].base.to_dict()
    assert "head_dim" not in base.fields or name in ("mamba2", "qwen3", "gemma3_text")


def test_names_of_the_attribute_map_mean_the_same_field() -> None:
    base = GPT2Config(n_embd=32, n_head=4, n_layer=2)
    space = ConfigSpace(
        "s", base, {"hidden_size": [32, 64]}, {"n_inner": "4 * n_embd"}, ["hidden_size % num_attention_heads == 0"]
    )
    config = space.config(space.parse("hidden_size=64"))
    assert (config.n_embd, config.n_inner) == (64, 256)
    with pytest.raises(UsageError, match="are one field"):
        ConfigSpace("s", base, {"hidden_size": [32], "n_embd": [64]})


@pytest.mark.parametrize("thetas", [[1e4, 5e5], [5e5, 1e4]])
def test_a_field_that_the_class_takes_undeclared_may_begin_with_its_default(thetas: list[float]) -> None:
    space = ConfigSpace("thetas", {"model_type": "llama", "vocab_size": 64}, {"rope_theta": thetas})
    made = [space.config(space.parse(f"rope_theta={theta}")).rope_parameters["rope_theta"] for theta in thetas]
    assert made == thetas


def test_layers_follow_the_number_of_layers_and_count() -> None:
    base = Gemma3TextConfig(**LLAMA, num_key_value_heads=1, head_dim=8)
    choices = {"num_hidden_layers": [1, 3], "layer_types": {"per_layer": TYPES}}
    space = ConfigSpace("s", base, choices)
    assert space.count().exact
    assert space.size() == 2 + 8
    member = space.parse("num_hidden_layers=3,layer_types=full_attention|sliding_attention|full_attention")
    assert space.config(member).layer_types == ["full_attention", "sliding_attention", "full_attention"]
    with pytest.raises(UsageError, match="give as many"):
        space.parse("num_hidden_layers=3,layer_types=full_attention")
    derived = ConfigSpace(
        "s",
        base,
        {"hidden_size": [32, 64], "layer_types": {"per_layer": TYPES}},
        {"num_hidden_layers": "hidden_size // 16"},
    )
    assert derived.size() == 2**2 + 2**4
    assert list(derived.parameters())[1:] == [f"layer_types.{layer}" for layer in range(4)]
    deep = ConfigSpace("s", base, {"num_hidden_layers": [300], "layer_types": {"per_layer": TYPES}})
    assert deep.size() == 2**300
    assert len(deep.samples(3)[0].shared[1]) == 300


def test_layers_under_constraints_that_cannot_be_counted_are_estimated() -> None:
    base = Gemma3TextConfig(**LLAMA, num_key_value_heads=1, head_dim=8)
    choices = {"num_hidden_layers": [30], "layer_types": {"per_layer": TYPES}}
    space = ConfigSpace("s", base, choices, constraints=["layer_types[0] == 'full_attention'"])
    count = space.count()
    assert not count.exact
    assert count.low < 2**29 < count.high
    assert count.low < count.value < count.high
    assert count.high - count.low < 2**29 // 5
    assert all(member.shared[1][0] == "full_attention" for member in space.samples(20))
    small = ConfigSpace(
        "s", base, choices | {"num_hidden_layers": [3]}, constraints=["layer_types[0] == 'full_attention'"]
    )
    assert (small.count().exact, small.size()) == (True, 4)


def test_a_pick_that_breaks_constraints_gets_the_nearest_values() -> None:
    space = ConfigSpace(
        "s", SMALL, {"hidden_size": [32, 64, 96], "num_attention_heads": [1, 2, 4, 8]},
        constraints=["hidden_size // num_attention_heads == 32"],
    )  # fmt: skip
    assert space.assemble(lambda name, values: values[-1]).shared == (64, 2)
    assert space.assemble(lambda name, values: values[0]).shared == (32, 1)
    with pytest.raises(UsageError):
        space.assemble(lambda name, values: 7)
    base = Gemma3TextConfig(**LLAMA, num_key_value_heads=1, head_dim=8)
    layered = ConfigSpace(
        "s", base, {"num_hidden_layers": [4], "layer_types": {"per_layer": TYPES}},
        constraints=["'full_attention' in layer_types"],
    )  # fmt: skip
    picked = layered.assemble(lambda name, values: "sliding_attention" if "types" in name else 4)
    assert picked.shared[1].count("full_attention") == 1
    assert layered.check(picked) == picked


def test_values_of_any_plain_kind_are_written_and_read() -> None:
    values = [
        "plain",
        "a,b|c",
        "true",
        "1",
        "",
        "é ü",
        'quo"te',
        None,
        True,
        0.001,
        1e-7,
        -3,
        (1, 2),
        ("a|b", ()),
        "[1]",
    ]
    space = ConfigSpace("s", SMALL, {"hidden_act": ["silu"], "problem_type": values[:7]} | {"architectures": [None]})
    for member in space.samples(space.size()):
        assert space.parse(space.text(member)) == member
    from lpzero_hf.spaces.field_choice import FieldChoice
    from lpzero_hf.spaces.member_text import member_text, read_member

    choices = [FieldChoice("x", "x", tuple(values), False, "", ""), FieldChoice("y", "y", tuple(values), True, "d", "")]
    rng = random.Random(0)
    for _ in range(200):
        row = (rng.choice(values), tuple(rng.choices(values, k=rng.randint(0, 4))))
        if row[1] != ("",):
            assert read_member(member_text(choices, row), choices) == row


def test_a_text_id_may_spell_numbers_otherwise_and_have_any_order() -> None:
    space = ConfigSpace("s", SMALL, {"hidden_size": [32, 64], "rms_norm_eps": [1e-5, 1e-6]})
    assert space.parse(" rms_norm_eps=0.00001,hidden_size=64").shared == (64, 1e-5)
    for text in ("hidden_size=32", "hidden_size=33,rms_norm_eps=1e-05", "hidden_sise=32,rms_norm_eps=1e-05", "", "32",
                 "hidden_size=32,hidden_size=32,rms_norm_eps=1e-05", "hidden_size=32|64,rms_norm_eps=1e-05",
                 "hidden_size=[,rms_norm_eps=1e-05", "hidden_size=true,rms_norm_eps=1e-05"):  # fmt: skip
        with pytest.raises(UsageError):
            space.parse(text)


def test_members_that_the_class_refuses_are_named_with_its_words() -> None:
    space = ConfigSpace("s", SMALL, {"hidden_size": [32, 64, 33]})
    with pytest.raises(ModelError, match="hidden_size=33; add a constraint") as caught:
        space.config(Architecture((33,)))
    assert "multiple of the number of attention heads" in str(caught.value)
    with pytest.raises(UsageError, match="StrictDataclassFieldValidationError"):
        ConfigSpace("s", SMALL, {"hidden_size": ["wide"]})


def test_a_space_can_be_pickled() -> None:
    space = random_space(MATERIALS["llama"], random.Random(1))
    copy = pickle.loads(pickle.dumps(space))
    assert copy.samples(1) == space.samples(1)


def test_draws_depend_on_the_seed_alone() -> None:
    one, other = (random_space(MATERIALS["qwen3"], random.Random(5)) for _ in range(2))
    assert one.samples(2, seed=7) == other.samples(2, seed=7)
