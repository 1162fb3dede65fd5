"""Spaces: how many architectures there are, drawing, naming, reading, changing, crossing and building them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
import torch
from lpz_zoo.flexibert import LinearTransform, MixedAttention, SelfAttention
from lpz_zoo.spaces import SPACES
from transformers import GPT2Config, PreTrainedModel

from lpzero_hf.errors import UsageError
from lpzero_hf.models.build import model_class
from lpzero_hf.spaces.space import Architecture, Choice, Space

ZOO = {space.name: space for space in SPACES}
LITERAL = {
    "flexibert": (
        "h128-sdp.a2.f512.n1-conv9.a4.f1024.n3",
        Architecture((128,), (("sdp", 2, 512, 1), ("conv9", 4, 1024, 3))),
    ),
    "gpt2": ("d128.e256.k4-h2.i1071-h4.i640", Architecture((128, 256, 4), ((2, 1071), (4, 640)))),
    "tiny-gpt2": ("d64.e32.k1-h8.i512", Architecture((64, 32, 1), ((8, 512),))),
}


def space(depths: Sequence[int], shared: Sequence[Choice], layer: Sequence[Choice]) -> Space:
    return Space(
        name="toy", summary="", shared=tuple(shared), depths=depths, layer=tuple(layer),
        build=lambda shared, layers: GPT2Config(n_embd=int(shared["width"]), n_layer=len(layers)),
    )  # fmt: skip


WIDTH = Choice("d", "width", (8, 16))
HEADS = Choice("h", "heads", (1, 2))
MIXER = Choice("", "mixer", ("conv", "dft", "sdp"))
TOY = space((1, 2, 4), [WIDTH], [HEADS, MIXER])
SMALL = space((1, 2), [Choice("d", "width", (8, 16, 24))], [HEADS])
SINGLE = Choice("s", "single", (7,))  # a choice that is none
EVERY = [TOY.nth(i) for i in range(TOY.size())]


# Counting and drawing -----------------------------------------------------------------------------------------


def test_flexibert_has_its_published_size() -> None:
    layers = 6 * 2 * 2 * 2
    assert ZOO["flexibert"].size() == 2 * (layers**2 + layers**4) == 10_621_440


def test_gpt2_has_about_1_5e60_architectures() -> None:
    layers = 3 * (2048 - 512 + 1)
    series = (layers**17 - layers**2) // (layers - 1)  # of 2 to 16 layers
    assert ZOO["gpt2"].size() == 4 * 3 * 3 * series
    assert f"{ZOO['gpt2'].size():.1e}" == "1.5e+60"
    assert ZOO["tiny-gpt2"].size() == 36 * sum(32**depth for depth in range(1, 9))


def test_numbering_is_a_bijection() -> None:
    assert len(EVERY) == 2 * (6 + 6**2 + 6**4)
    assert len(set(EVERY)) == len(EVERY)
    assert all(TOY.check(architecture) is architecture for architecture in EVERY)
    assert Counter(len(a.layers) for a in EVERY) == {1: 2 * 6, 2: 2 * 6**2, 4: 2 * 6**4}
    assert all(count == 1338 for count in Counter(a.shared for a in EVERY).values())


@pytest.mark.parametrize("index", [-1, 2676])
def test_no_architecture_has_a_number_outside(index: int) -> None:
    with pytest.raises(IndexError, match="2676"):
        TOY.nth(index)


def test_the_last_of_a_huge_space_has_a_number() -> None:
    huge = ZOO["gpt2"]
    assert huge.check(huge.nth(huge.size() - 1)) == Architecture((512, 512, 4), ((8, 2048),) * 16)
    assert huge.nth(0) == Architecture((64, 128, 1), ((2, 512),) * 2)


def chi_square(counts: Counter[Any], outcomes: int) -> float:
    expected = counts.total() / outcomes
    missing = (outcomes - len(counts)) * expected
    return missing + sum((count - expected) ** 2 / expected for count in counts.values())


def test_drawing_by_architecture_is_uniform() -> None:
    rng = random.Random(1)
    counts = Counter(SMALL.sample(rng) for _ in range(18_000))
    assert chi_square(counts, SMALL.size()) < 40.8  # 17 degrees of freedom, p = 0.001
    assert chi_square(Counter(a.shared for a in counts.elements()), 3) < 13.8
    assert Counter(len(a.layers) for a in counts.elements())[2] == pytest.approx(12_000, rel=0.02)


def test_drawing_by_choice_makes_depth_and_every_value_uniform() -> None:
    rng = random.Random(1)
    drawn = [TOY.sample(rng, "choice") for _ in range(9000)]
    assert chi_square(Counter(len(a.layers) for a in drawn), 3) < 13.8  # 2 degrees of freedom, p = 0.001
    assert chi_square(Counter(a.shared for a in drawn), 2) < 10.8
    for place in (0, 3):
        assert chi_square(Counter(a.layers[place] for a in drawn if len(a.layers) > place), 6) < 20.5
    with pytest.raises(UsageError, match="'depth'"):
        TOY.sample(rng, "depth")  # type: ignore[arg-type]  # a caller's mistake


@pytest.mark.parametrize("by", ["architecture", "choice"])
def test_samples_are_different_and_depend_on_the_seed_alone(by: Any) -> None:
    random.seed(1)
    drawn = TOY.samples(100, 3, by)
    random.seed(2)
    assert TOY.samples(100, 3, by) == drawn
    assert TOY.samples(100, 4, by) != drawn
    assert len(set(drawn)) == 100
    assert all(TOY.check(a) for a in drawn)
    assert TOY.samples(0, 3, by) == []


@pytest.mark.parametrize("by", ["architecture", "choice"])
@pytest.mark.parametrize("n", [9, 10, 17, 18])
def test_samples_may_be_nearly_all_of_a_space(n: int, by: Any) -> None:
    drawn = SMALL.samples(n, by=by)
    assert len(set(drawn)) == n
    assert set(drawn) <= {SMALL.nth(i) for i in range(18)}
    assert drawn != sorted(drawn, key=[SMALL.nth(i) for i in range(18)].index)


def test_no_more_samples_than_architectures() -> None:
    with pytest.raises(UsageError, match="18"):
        SMALL.samples(19)


# Text ids -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LITERAL)
def test_a_text_id_never_changes(name: str) -> None:
    text, architecture = LITERAL[name]
    assert ZOO[name].text(architecture) == text
    assert ZOO[name].parse(text) == architecture
    assert ZOO[name].parse(f" {text}\n") == architecture


@pytest.mark.parametrize("name", ZOO)
def test_text_ids_are_read_back(name: str) -> None:
    for by in ("architecture", "choice"):
        for architecture in ZOO[name].samples(200, by=by):  # type: ignore[arg-type]  # a tuple of literals is str
            assert ZOO[name].parse(ZOO[name].text(architecture)) == architecture


@pytest.mark.parametrize(
    "odd", [TOY, SMALL, space((1, 3), [], [HEADS]), space((1, 12), [WIDTH], []), space((2,), [SINGLE], [SINGLE])]
)
def test_text_ids_are_different_and_read_back_in_spaces_of_any_shape(odd: Space) -> None:
    every = [odd.nth(i) for i in range(odd.size())]
    texts = [odd.text(architecture) for architecture in every]
    assert len(set(texts)) == len(texts)
    assert [odd.parse(text) for text in texts] == every


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "'d64.e32.k1'"),
        ("x64.e32.k1-h1.i64", "'x64'"),
        ("64.e32.k1-h1.i64", "'64'"),
        ("d65.e32.k1-h1.i64", "'d65'"),
        ("d064.e32.k1-h1.i64", "'d064'"),
        ("d+64.e32.k1-h1.i64", "'d+64'"),
        ("d6_4.e32.k1-h1.i64", "'d6_4'"),
        ("d\uff16\uff14.e32.k1-h1.i64", "'d\uff16\uff14'"),
        ("d64 .e32.k1-h1.i64", "'d64 '"),
        ("D64.e32.k1-h1.i64", "'D64'"),
        ("d.e32.k1-h1.i64", "'d'"),
        ("d" + "9" * 5000 + ".e32.k1-h1.i64", "d_model"),
        ("d64.e32-h1.i64", "'d64.e32'"),
        ("d64.e32.k1.k1-h1.i64", "'d64.e32.k1.k1'"),
        ("e32.d64.k1-h1.i64", "'e32'"),
        ("d64.e32.k1-h1", "'h1'"),
        ("d64.e32.k1-h1.i64-", "'h1.i64'"),
        ("d64.e32.k1-h1.i64-h3.i64", "'h3'"),
        ("d64.e32.k1-h1.i100", "'i100'"),
        ("d64.e32.k1", "0 layers"),
        ("d64.e32.k1" + "-h1.i64" * 9, "9 layers"),
    ],
)
def test_a_bad_text_id_is_refused_by_the_part_that_is_bad(text: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        ZOO["tiny-gpt2"].parse(text)
    assert named in str(caught.value)


def test_many_values_are_described_in_short() -> None:
    assert Choice("i", "inner", range(512, 2049)).describe() == "i512 to i2048"
    assert Choice("i", "inner", range(64, 1025, 64)).describe().split()[::2] == ["i64", "i1024", "steps", "64"]
    uneven = Choice("i", "inner", tuple(2**i for i in range(13)))
    assert uneven.describe() == "i1, i2, i4, i8, i16, i32, i64, i128, i256, i512, i1024, i2048, i4096"
    words = Choice("", "mixer", tuple("abcdefghijklm"))
    assert words.describe() == "a, b, c, d, e, f, g, h, i, j, k, l, m"
    with pytest.raises(UsageError, match="'z'"):
        words.read("z")
    with pytest.raises(UsageError, match="17 layers"):
        ZOO["gpt2"].check(Architecture((64, 128, 1), ((2, 512),) * 17))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Architecture((8,), ()), "0 layers"),
        (Architecture((8,), ((1, "dft"),) * 3), "3 layers"),
        (Architecture((9,), ((1, "dft"),)), "width 9"),
        (Architecture((8, 8), ((1, "dft"),)), r"\[8, 8\]"),
        (Architecture((8,), ((1, "dft"), (1,))), r"\[1\]"),
        (Architecture((8,), ((1, "dft"), (1, "fft"))), "mixer fft"),
    ],
)
def test_strangers_are_refused_everywhere(architecture: Architecture, message: str) -> None:
    rng = random.Random(1)
    for action in (
        lambda: TOY.check(architecture),
        lambda: TOY.config(architecture),
        lambda: list(TOY.neighbours(architecture)),
        lambda: TOY.mutate(architecture, rng),
        lambda: TOY.crossover(EVERY[0], architecture, rng),
        lambda: TOY.crossover(architecture, EVERY[0], rng),
    ):
        with pytest.raises(UsageError, match=message):
            action()


# Changing and crossing ----------------------------------------------------------------------------------------


def test_neighbours_are_valid_different_and_as_many_as_there_should_be() -> None:
    # one other width, one other number of heads and two other mixers per layer, a shallower and the deeper ones
    expected = {1: 1 + 3 + 6, 2: 1 + 2 * 3 + 1 + 6**2, 4: 1 + 4 * 3 + 1}
    for architecture in EVERY:
        near = list(TOY.neighbours(architecture))
        assert len(set(near)) == len(near) == expected[len(architecture.layers)]
        assert architecture not in near
        assert all(TOY.check(other) for other in near)


def test_neighbours_are_neighbours_of_their_neighbours() -> None:
    near = {architecture: set(TOY.neighbours(architecture)) for architecture in EVERY}
    assert all(one in near[other] for one in EVERY for other in near[one])


def test_neighbours_differ_in_one_thing() -> None:
    architecture = TOY.parse("d8-h1.dft-h2.sdp")
    near = {TOY.text(other) for other in TOY.neighbours(architecture)}
    assert {"d16-h1.dft-h2.sdp", "d8-h2.dft-h2.sdp", "d8-h1.conv-h2.sdp", "d8-h1.dft-h2.dft", "d8-h1.dft"} <= near
    assert "d8-h1.dft-h2.sdp-h1.conv-h2.dft" in near
    assert not {"d8-h2.sdp", "d16-h2.dft-h2.sdp", "d8-h1.dft-h1.conv", "d8-h1.sdp-h2.sdp-h1.sdp-h1.sdp"} & near


def test_the_neighbours_of_huge_spaces_come_one_by_one() -> None:
    deep = ZOO["gpt2"].nth(ZOO["gpt2"].size() - 1)
    assert len(list(ZOO["gpt2"].neighbours(deep))) == 3 + 2 + 2 + 16 * (2 + 1536) + 1
    assert len(list(islice(ZOO["flexibert"].neighbours(LITERAL["flexibert"][1]), 100))) == 100


@pytest.mark.parametrize("text", ["d8-h1.dft", "d16-h1.dft-h2.sdp", "d8-h1.dft-h2.sdp-h1.conv-h2.dft"])
def test_mutation_makes_every_kind_of_neighbour_alike(text: str) -> None:
    architecture, rng = TOY.parse(text), random.Random(1)
    near = set(TOY.neighbours(architecture))
    kinds: Counter[Any] = Counter()
    depths: Counter[int] = Counter()
    for _ in range(3000):
        other = TOY.mutate(architecture, rng)
        assert other in near
        if len(other.layers) != len(architecture.layers):
            kinds["depth"] += 1
            depths[len(other.layers)] += 1
        elif other.shared != architecture.shared:
            kinds["width"] += 1
        else:
            (changed,) = (i for i, row in enumerate(other.layers) if row != architecture.layers[i])
            kinds[changed, other.layers[changed][0] == architecture.layers[changed][0]] += 1
    spots = 2 + 2 * len(architecture.layers)
    assert len(kinds) == spots
    assert chi_square(kinds, spots) < 27.9  # at most 9 degrees of freedom, p = 0.001
    assert set(depths) == {depth for depth in (1, 2, 4) if depth != len(architecture.layers)} - (
        {4} if len(architecture.layers) == 1 else {1} if len(architecture.layers) == 4 else set()
    )


def test_layers_that_mutation_adds_are_drawn_anew() -> None:
    rng, architecture = random.Random(1), TOY.parse("d8-h1.dft")
    grown = [a.layers[1] for a in (TOY.mutate(architecture, rng) for _ in range(2400)) if len(a.layers) == 2]
    assert chi_square(Counter(grown), 6) < 20.5  # 5 degrees of freedom, p = 0.001


def test_mutation_leaves_choices_alone_that_have_one_value() -> None:
    rng = random.Random(1)
    odd = space((1,), [SINGLE, WIDTH], [SINGLE])
    assert {odd.mutate(odd.nth(0), rng) for _ in range(20)} == {odd.nth(1)}
    assert odd.mutate(odd.nth(1), rng) == odd.nth(0)
    lonely = space((1,), [SINGLE], [SINGLE])
    with pytest.raises(UsageError, match="one architecture"):
        lonely.mutate(lonely.nth(0), rng)
    assert list(lonely.neighbours(lonely.nth(0))) == []


def test_children_have_the_depth_of_either_parent_and_every_value_from_one() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        one, other = TOY.sample(rng, "choice"), TOY.sample(rng, "choice")
        child = TOY.check(TOY.crossover(one, other, rng))
        assert child.shared[0] in (one.shared[0], other.shared[0])
        assert len(child.layers) in (len(one.layers), len(other.layers))
        for place, row in enumerate(child.layers):
            parents = [parent.layers[place] for parent in (one, other) if len(parent.layers) > place]
            assert all(value in {parent[i] for parent in parents} for i, value in enumerate(row))


def test_children_mix_their_parents_in_every_way() -> None:
    rng = random.Random(1)
    one, other = TOY.parse("d8-h1.dft"), TOY.parse("d16-h2.sdp-h2.conv")
    children = Counter(TOY.text(TOY.crossover(one, other, rng)) for _ in range(1600))
    firsts = [f"{d}-{h}.{m}{rest}" for d in ("d8", "d16") for h in ("h1", "h2") for m in ("dft", "sdp")
              for rest in ("", "-h2.conv")]  # fmt: skip
    assert set(children) == set(firsts)
    assert chi_square(children, 16) < 37.7  # 15 degrees of freedom, p = 0.001


def test_equal_parents_have_one_child() -> None:
    rng = random.Random(1)
    for architecture in TOY.samples(50):
        assert TOY.crossover(architecture, architecture, rng) == architecture


# Building -----------------------------------------------------------------------------------------------------


def built(name: str, architecture: Architecture) -> PreTrainedModel:
    config = ZOO[name].config(architecture)
    with torch.device("meta"):
        model: PreTrainedModel = model_class(config).from_config(config)
    return model


@pytest.mark.parametrize("name", ["gpt2", "tiny-gpt2"])
def test_decoders_are_built_layer_by_layer(name: str) -> None:
    for architecture in ZOO[name].samples(3, by="choice"):
        model: Any = built(name, architecture)
        d_model, d_embed, k = architecture.shared
        assert [(b.attn.num_heads, b.mlp.c_fc.out_features) for b in model.transformer.h] == list(architecture.layers)
        assert model.transformer.h[0].attn.c_attn.in_features == model.config.hidden_size == d_model
        narrower = [t.embedding_dim for t in model.transformer.wte.tables]
        assert narrower == ([d_embed] if k == 1 else [d_embed, d_embed // k, d_embed // k**2])
        ids = sum(t.num_embeddings for t in model.transformer.wte.tables)
        assert ids == model.config.vocab_size == (50264 if name == "gpt2" else 4096)


def test_encoders_are_built_layer_by_layer() -> None:
    kinds: dict[Any, Any] = {"sdp": SelfAttention, "wma": SelfAttention, "dft": LinearTransform, "dct": LinearTransform}
    for architecture in [LITERAL["flexibert"][1], *ZOO["flexibert"].samples(4)]:
        model: Any = built("flexibert", architecture)
        assert model.config.hidden_size == architecture.shared[0]
        assert len(model.flexibert.layers) == len(architecture.layers)
        for layer, (operation, heads, width, count) in zip(model.flexibert.layers, architecture.layers, strict=True):
            assert type(layer.mixer) is kinds.get(operation, MixedAttention)
            assert layer.mixer.num_heads == heads
            assert [linear.out_features for linear in layer.feed_forward.hidden] == [width] * int(count)


def test_the_values_reach_the_builder_by_name() -> None:
    assert TOY.config(TOY.parse("d16-h1.dft-h2.sdp")).n_layer == 2
    assert TOY.config(TOY.parse("d16-h1.dft")).n_embd == 16
    assert TOY.layers(TOY.parse("d16-h1.dft-h2.sdp")) == [{"heads": 1, "mixer": "dft"}, {"heads": 2, "mixer": "sdp"}]
    assert math.prod(len(choice.values) for choice in TOY.layer) == 6
