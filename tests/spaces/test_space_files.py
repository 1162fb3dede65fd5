"""Files of spaces: read with their lines, wherever a name goes; a bad one is a line with its place, and is not run."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from lpzero_hf import ConfigSpace, load_model, load_space, rank
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.spaces.base_config import base_of
from lpzero_hf.spaces.named import named_config
from lpzero_hf.spaces.places import SpaceProblem
from lpzero_hf.spaces.space_file import read_document
from tests.support.random_spaces import LLAMA

GOOD = """\
summary: Small models
base:
  model_type: llama
  vocab_size: 64
  hidden_size: 32
  max_position_embeddings: 64
choices:
  hidden_size: {from: 16, to: 64, times: 2}
  num_hidden_layers: [1, 2]
  num_attention_heads: [1, 2, 4]
  rms_norm_eps: [1e-3, 1e-6]
  mlp_bias: [true, false]
derived:
  intermediate_size: 2 * hidden_size
constraints:
  - hidden_size % (2 * num_attention_heads) == 0
"""
BASE = "base: {model_type: llama, vocab_size: 64, hidden_size: 32, num_attention_heads: 4}\n"


def written(tmp_path: Path, text: str | bytes, name: str = "my-space.yaml") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def as_json() -> dict[str, Any]:
    return read_document(GOOD, "good", False)[0]


def test_a_file_is_the_space_it_describes(tmp_path: Path) -> None:
    space = load_space(written(tmp_path, GOOD))
    assert (space.name, space.summary) == ("my-space", "Small models")
    assert space.size() == 3 * 2 * 3 * 2 * 2
    assert space.parameters()["rms_norm_eps"] == [1e-3, 1e-6]
    config = space.config(space.parse(
        "hidden_size=64,num_hidden_layers=2,num_attention_heads=4,rms_norm_eps=0.001,mlp_bias=true"
    ))  # fmt: skip
    assert (config.intermediate_size, config.head_dim, config.vocab_size, config.mlp_bias) == (128, 16, 64, True)


@pytest.mark.parametrize("indent", [None, 1, "\t"])
def test_json_is_read_likewise(tmp_path: Path, indent: Any) -> None:
    of_yaml = load_space(written(tmp_path, GOOD))
    of_json = load_space(written(tmp_path, json.dumps(as_json(), indent=indent), "my-space.json"))
    assert of_json.definition() == of_yaml.definition()


def test_values_are_those_of_yaml_1_2() -> None:
    text = "a: [1e-3, 010, no, on, 1:30, 2024-01-01, .5, 1_000, ~, '1', True, -7, 0x10, +2]"
    assert read_document(text, "x", False)[0] == {
        "a": [0.001, 10, "no", "on", "1:30", "2024-01-01", 0.5, "1_000", None, "1", True, -7, "0x10", 2]
    }


def test_a_base_is_a_file_beside_the_space_or_a_zoo_model(tmp_path: Path) -> None:
    LlamaConfig(**LLAMA).save_pretrained(tmp_path / "model")
    choices = "choices: {hidden_size: [32, 64]}\n"
    for base in ("model", "./model/config.json", "model/config.json"):
        space = load_space(written(tmp_path, f"base: {base}\n{choices}"))
        config = space.config(space.parse("hidden_size=64"))
        assert (config.intermediate_size, config.head_dim) == (48, 16)
        assert space.definition()["base"]["model_type"] == "llama"
    gpt2 = load_space(written(tmp_path, "base: gpt2-variant\nchoices: {n_layer: [1, 2]}\n"))
    assert gpt2.config(gpt2.parse("n_layer=2")).model_type == "gpt2"


def test_a_file_goes_where_a_name_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, GOOD)
    text = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,rms_norm_eps=0.001,mlp_bias=false"
    for name in ("my-space.yaml", "./my-space.yaml", str(tmp_path / "my-space.yaml")):
        config = named_config(f"{name}:{text}")
        assert config is not None
        assert config.intermediate_size == 32
    assert load_model(f"my-space.yaml:{text}").model.config.hidden_size == 16
    ranking = rank("my-space.yaml", ["params"], n=5)
    assert len({ranked.name for ranked in ranking}) == 5
    assert named_config(ranking[0].name) is not None


def test_a_definition_makes_the_space_without_its_file(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    space = load_space(path)
    definition = json.loads(json.dumps(space.definition()))
    path.unlink()
    again = load_space(definition)
    assert again.definition() == space.definition()
    assert [again.text(a) for a in again.samples(5)] == [space.text(a) for a in space.samples(5)]
    other = load_space(written(tmp_path, GOOD.replace("[1, 2]", "[1, 3]")))
    renamed = load_space(written(tmp_path, "name: other\n" + GOOD))
    assert other.fingerprint() != space.fingerprint() == renamed.fingerprint()


def test_python_and_files_make_equal_spaces(tmp_path: Path) -> None:
    document = as_json()
    space = ConfigSpace("my-space", **document)
    assert space.definition() == load_space(written(tmp_path, GOOD)).definition()


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


BAD = {  # a file, the line that its message names, and words of it
    "unknown key": (changed("derived:", "derive:"), 13, "did you mean 'derived'?"),
    "unknown field": (changed("num_hidden_layers", "num_hidden_layer"), 9, "did you mean 'num_hidden_layers'?"),
    "unknown field of the base": (changed("vocab_size", "vocab_sise"), 4, "did you mean 'vocab_size'?"),
    "unknown nested field": (changed("mlp_bias", "rope_parameters.rope_teta"), 12, "'rope_parameters.rope_theta'?"),
    "a nested field by its last word": (changed("mlp_bias", "rope_type"), 12, "did you mean 'rope_parameters.rope_"),
    "the family as a choice": (changed("mlp_bias", "model_type"), 12, "space for each family"),
    "nothing is nested there": (changed("mlp_bias", "text_config.mlp_bias"), 12, "holds no fields"),
    "unknown field of a formula": (changed("2 * hidden_size", "2 * hiden_size"), 14, "did you mean 'hidden_size'?"),
    "computed field in a formula": (changed("2 * hidden_size", "2 * head_dim"), 14, "'head_dim' is computed"),
    "unknown model type": (changed("llama", "lama"), 3, "did you mean 'llama'?"),
    "no model type": (changed("  model_type: llama\n", ""), 2, "lacks a 'model_type'"),
    "no base": (GOOD[: GOOD.index("base:")] + GOOD[GOOD.index("choices:") :], 1, "lacks 'base'"),
    "no choices": (BASE, 1, "lacks 'choices'"),
    "a base that is missing": ("base: ./missing.json\nchoices: {hidden_size: [32]}", 1, "missing.json"),
    "a base that is a number": ("base: 3\nchoices: {hidden_size: [32]}", 1, "Hub id"),
    "a value that the class of the base refuses": (changed("vocab_size: 64", "vocab_size: many"), 2, "LlamaConfig"),
    "an impossible constraint": (changed("% (2 * num_attention_heads) == 0", "< 16"), 16, "no member satisfies it"),
    "constraints that exclude each other": (GOOD + "  - num_attention_heads > 2\n  - hidden_size < 8 * 1 + 9\n"
                                            "  - num_hidden_layers * hidden_size >= 64\n", 19, "my-space.yaml:18"),
    "a division by zero": (GOOD + "  - hidden_size / (num_hidden_layers - num_hidden_layers) > 0\n", 17, "by zero"),
    "a circle": (changed("2 * hidden_size", "head_dim + 1\n  head_dim: intermediate_size - 1"), 14, "circle"),
    "an empty choice": (changed("[1, 2]", "[]"), 9, "empty"),
    "a range without steps": (changed("times: 2", "step: 0"), 8, "the step is 0"),
    "a range backwards": (changed("from: 16, to: 64", "from: 64, to: 16"), 8, "range is empty"),
    "a range without end": (changed("to: 64, times: 2", "to: 1e15"), 8, "at most 100,000"),
    "a range of words": (changed("from: 16", "from: small"), 8, "no number"),
    "an unknown part of a range": (changed("times", "time"), 8, "did you mean 'times'?"),
    "a choice that is no list": (changed("[1, 2, 4]", "4"), 10, "no choice"),
    "a value twice": (changed("[1, 2, 4]", "[1, 2, 1]"), 10, "twice"),
    "a mapping as a value": (changed("[1, 2, 4]", "[{a: 1}]"), 10, "by dots"),
    "a field both chosen and derived": (changed("  intermediate_size", "  hidden_size"), 14, "a choice as well"),
    "a field and a part of it": (changed("mlp_bias: [true, false]",
                                         "rope_parameters: [null]\n  rope_parameters.factor: [1]"), 13, "parts of one"),
    "layers without a number of layers": ("base: {model_type: bart}\nchoices:\n  decoder_layerdrop: {per_layer: [1, 2],"
                                          " length: nothing}\n", 3, "has no field 'nothing'"),
    "a number of layers that is none": (BASE + "choices:\n  architectures: {per_layer: [a], length: rms_norm_eps}\n", 3,
                                        "is 1e-06"),
    "no arithmetic": (changed("2 * hidden_size", "twice the size"), 14, "no arithmetic"),
    "code": (changed("2 * hidden_size", "__import__('os').system('touch ran')"), 14, "functions by name"),
    "code in a constraint": (GOOD + "  - open('ran', 'w')\n", 17, "'open' is no function"),
    "a formula of a text": (changed("2 * hidden_size", "hidden_size + 'a'"), 14, "cannot compute"),
    "a huge power": (changed("2 * hidden_size", "9 ** 9 ** 9 ** 9"), 14, "too large"),
    "a formula that is a list": (changed("2 * hidden_size", "[1, {}]"), 14, "no expression"),
    "a constraint that is a mapping": (GOOD + "  - a: 1\n", 17, "no expression"),
    "constraints that are one text": (changed("\n  - hidden_size %", " hidden_size %"), 15, "list of conditions"),
    "derived fields that are a list": (changed("\n  intermediate_size: 2 * hidden_size", " [1]"), 13, "fields with"),
    "a member that the class refuses": (BASE + "choices:\n  hidden_size: [33]\n", 2, "multiple of the number"),
    "a value of the wrong kind": (changed("[true, false]", "[maybe]"), 12, "mlp_bias"),
    "a formula with a value of the wrong kind": (changed("2 * hidden_size", "hidden_size / 2"), 14, "expected int"),
    "a size that no machine builds": (changed("[1, 2]", "[100000000]"), 9, "at most 1,000"),
    "a key twice": (changed("  mlp_bias", "  rms_norm_eps"), 12, "twice"),
    "a tag": (changed("[1, 2]", "!!python/object/apply:os.system ['touch ran']"), 9, "tags"),
    "an alias": ("a: &a [1, 1]\nb: &b [*a, *a]\n" + GOOD, 1, "aliases"),
    "a strange name": ("name: ../../etc/passwd\n" + GOOD, 1, "letters, digits"),
    "a name that is a list": ("name: [a]\n" + GOOD, 1, "letters, digits"),
    "a summary that is a number": (changed("Small models", "3"), 1, "no text"),
    "a key that is a list": ("? [a, b]\n: 1\n" + GOOD, 1, "no key"),
    "a field that is a number": (changed("  mlp_bias", "  3"), 12, "no name of a field"),
    "two documents": (GOOD + "---\na: 1\n", 17, "one space"),
    "no YAML": (GOOD + "  - [unclosed\n", 18, "no YAML"),
    "a tab": (changed("  vocab_size", "\tvocab_size"), 4, "no YAML"),
    "deep": ("a: " + "[" * 2000 + "]" * 2000, 1, "nested more than"),
    "a long number": (changed("[1, 2]", f"[{'9' * 5000}]"), 9, "too long"),
    "a number without bound": (changed("[1, 2]", "[1e999]"), 9, "too large"),
    "a list": ("- a\n- b\n", 1, "holds no space"),
    "a text": ("just words", 1, "holds no space"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_that_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text, line, words = BAD[name]
    written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_space("my-space.yaml")
    message = str(caught.value)
    assert message.startswith(f"my-space.yaml:{line}: "), message
    assert words in message
    assert "\n" not in message
    assert len(message) < 900
    assert not Path("ran").exists()


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "holds no space"),
    "binary": (bytes(range(256)), "NUL"),
    "no UTF-8": (b"a: \xff\xfe", "UTF-8"),
    "control characters": (b"a: \x07\x1b[31m", "special characters are not allowed"),
    "huge": (b"#" * (2**18 + 1), "too large"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    content, words = UNREADABLE[name]
    with pytest.raises(LpzError) as caught:
        load_space(written(tmp_path, content))
    assert words in str(caught.value)
    assert "my-space.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            '{"base": {"model_type": "llama"},\n "choices": {"hidden_size": [4096],\n "hiden_size": [1]}}',
            3,
            "hidden_size",
        ),
        ('{"base": {"model_type": "llama"},\n "choices": {"hidden_size": [1],\n "hidden_size": [2]}}', 3, "twice"),
        ('{"base": 1,\n "choices": }', 2, "no JSON"),
        ('{"base": {"model_type": "llama"},\n\t"choices": {"hidden_size": []}}', 2, "empty"),
    ],
)
def test_a_bad_file_of_json_is_one_line_too(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = written(tmp_path, text, "my-space.json")
    with pytest.raises(UsageError) as caught:
        load_space(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert words in str(caught.value)


def test_a_file_that_is_not_there_or_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.yaml").mkdir()
    Path("space.txt").write_text(GOOD)
    os.mkfifo("pipe.yaml")
    for name, words in (("missing.yaml", "cannot read"), ("folder.yaml", "folder"), ("space.txt", "a text"),
                        ("pipe.yaml", "pipe"), ("flexibrt", "did you mean 'flexibert'"), ("a\0b.yaml", "cannot read"),
                        ("x" * 5000, "unknown space")):  # fmt: skip
        with pytest.raises(LpzError) as caught:
            load_space(name)
        assert words in str(caught.value), name


def test_a_hub_id_without_a_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    path = written(tmp_path, "base: nobody/nothing\nchoices:\n  hidden_size: [32]\n")
    with pytest.raises(UsageError) as caught:
        load_space(path)
    assert str(caught.value).startswith(f"{path}:1: base: ")


def outcome(path: Path) -> str:
    """The message of a file that is refused; "" for a space."""
    try:
        load_space(path)
    except LpzError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("value", [None, 3, "text", [], [1], {}, {"a": 1}, True, 1e300, [[]], {"from": None}])
@pytest.mark.parametrize("key", ["name", "summary", "citation", "base", "choices", "derived", "constraints", "other"])
def test_wrong_types_anywhere_are_usage_errors(tmp_path: Path, key: str, value: Any) -> None:
    path = written(tmp_path, json.dumps(as_json() | {key: value}), "my-space.json")
    message = outcome(path)
    assert "\n" not in message
    assert message or value in (None, {}, [], "text") or key == "name"


WRONG = [
    None, 3, "text", [None], [[1]], [{}], {"from": 1}, {"per_layer": 3}, {"per_layer": {"per_layer": [1]}},
    {"per_layer": [1], "length": 3}, {"from": 1, "to": [2]}, [1e308], [-1], [10**30],
]  # fmt: skip


@pytest.mark.parametrize("key", [*as_json()["choices"], "base"])
def test_wrong_types_inside_are_usage_errors(tmp_path: Path, key: str) -> None:
    for value in WRONG:
        document = as_json()
        if key == "base":
            document["base"] |= {"hidden_size": value}
        else:
            document["choices"][key] = value
        assert "\n" not in outcome(written(tmp_path, json.dumps(document), "my-space.json"))


def test_conflicting_constraints_are_named_without_the_innocent(tmp_path: Path) -> None:
    text = (
        GOOD + "  - num_hidden_layers >= 2\n  - num_attention_heads == 2\n  - hidden_size // num_attention_heads < 5\n"
    )
    with pytest.raises(UsageError) as caught:
        load_space(written(tmp_path, text))
    message = str(caught.value)
    assert "my-space.yaml:19: constraints.3" in message
    assert "num_hidden_layers" not in message
    assert "together with 'num_attention_heads == 2'" in message
    assert "my-space.yaml:18)" in message


@pytest.mark.parametrize("name", ["attn_implementation", "model_type", "rope_theta", "vocab_sise", "Hidden_Size"])
def test_a_field_that_is_suggested_can_be_chosen(name: str) -> None:
    base = base_of(LlamaConfig(vocab_size=64))
    with pytest.raises(SpaceProblem) as caught:
        base.resolve(name)
    for suggested in re.findall("did you mean '(.*)'", str(caught.value)):
        assert base.resolve(suggested) != name


def test_a_space_where_a_model_is_needed_asks_for_one_of_its_architectures(tmp_path: Path) -> None:
    file = tmp_path / "my-space.yaml"
    file.write_text(GOOD)
    with pytest.raises(LpzError, match=r"my-space\.yaml:ID"):
        load_model(str(file))
