"""Spaces: how many architectures there are, drawing, naming, reading, changing, crossing and building them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
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
    for action in (TOY.check, TOY.config):
        with pytest.raises(UsageError, match=message):
            action(architecture)


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
