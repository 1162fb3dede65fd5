"""Whatever an artifact or an expression holds: a clear error or a valid proxy, at once, without a side effect."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpzero_hf.artifacts.artifact import Artifact, Member, parse_artifact
from lpzero_hf.errors import LpzError
from lpzero_hf.expressions.expression import BUILT_IN, FOLDS, STATISTIC_NAMES, parse
from lpzero_hf.expressions.operations import BINARY
from lpzero_hf.proxies.searched_proxy import searched_proxy
from tests.support.seals import seal

AGREEMENT = {"n": 10, "spearman": {"value": 0.9, "low": 0.8, "high": 0.95}, "kendall": None, "top": 0.5}
VALID = Artifact(
    "found-here",
    (
        Member("sum(sum(product(abs(W), abs(G))))", 1, (0.5, 1.5, 2.5)),
        Member("mean(sum(matmul(sqrt(A), pow(J))))", -1, (-3.0, -2.0, 1e-9)),
    ),
    {"abs": "1", "pow": "1", "sqrt": "1"},
    {
        "benchmarks": ["tiny-gpt2"],
        "strategy": "evolution",
        "seed": 42,
        "space": {"unary": [1, 1], "reduces": ["sum"], "aggregates": ["sum", "mean"], "size": 26460},
        "split": {"number": 0, "of": 1},
        "trained_on": {"tiny-gpt2": ["a", "b", "c"]},
        "train": {"tiny-gpt2": AGREEMENT},
        "held_out": {"tiny-gpt2": AGREEMENT},
        "baselines": {"tiny-gpt2": {"params": AGREEMENT}},
        "versions": {"torch": "2.13.0"},
        "date": "2026-11-25",
        "note": "",
    },
)
DOCUMENT = json.loads(VALID.text)
# the same inputs each time, so that a run says something of a change; HYPOTHESIS_ROAM=1 looks for new ones
QUICK = {
    "deadline": None,
    "derandomize": "HYPOTHESIS_ROAM" not in os.environ,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
FORBIDDEN = ("exec", "import", "os.", "subprocess.", "socket.", "shutil.", "tempfile.", "ctypes.", "pickle.")

watching = False
seen: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if watching and (event.startswith(FORBIDDEN) or event == "open"):
        seen.append(f"{event} {arguments!r}"[:200])


sys.addaudithook(_audit)  # cannot be taken away again; does nothing unless watching


@contextmanager
def harmless() -> Iterator[None]:
    """Fails if code is imported or run, or a file or connection opened."""
    global watching
    seen.clear()
    watching = True
    try:
        yield
    finally:
        watching = False
    assert not seen, seen


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    """Imports what the loader imports lazily, and reads the schema, once."""
    searched_proxy(parse_artifact(VALID.text))
    with pytest.raises(LpzError):
        parse_artifact(json.dumps(DOCUMENT | {"name": 3}))


def load(text: str | bytes) -> bool:
    """Whether the text holds a valid artifact, from which the proxy was made."""
    with harmless():
        try:
            artifact = parse_artifact(text)
        except LpzError as error:
            told = str(error)
            assert told
            assert len(told) < 600
            assert told.isprintable()
            return False
        searched_proxy(artifact)
        return parse_artifact(artifact.text) == artifact


def test_the_watch_sees_what_it_should_see() -> None:
    for deed in (lambda: open("/dev/null").close(), lambda: exec("1"), lambda: __import__("tabnanny")):
        with pytest.raises(AssertionError), harmless():
            deed()
    assert load(VALID.text)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(list(DOCUMENT)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a document."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


PLACES = [path for path in places(DOCUMENT) if path]


@st.composite
def mutated(draw: Callable[..., Any]) -> str:
    """A valid document with a few values replaced, removed or added, and the hash that belongs to it."""
    document = json.loads(VALID.text)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(PLACES))
        home = document
        try:
            for key in way:
                home = home[key]
            if isinstance(home, dict) != isinstance(last, str):  # an earlier deed put something else there
                continue
            deed = draw(st.sampled_from(["replace", "remove", "add", "nudge"]))
            if deed == "remove":
                del home[last]
            elif deed == "add" and isinstance(home, dict):
                home[draw(st.text(max_size=10))] = draw(json_values)
            elif deed == "nudge" and isinstance(home[last], str):
                home[last] = home[last] + draw(st.text(max_size=5))
            elif deed == "nudge" and isinstance(home[last], int | float):
                home[last] = home[last] * draw(st.sampled_from([-1, 10, 1e300, 0.5]))
            else:
                home[last] = draw(json_values)
        except (LookupError, TypeError, OverflowError):  # an earlier deed took the place away
            continue
    if isinstance(document, dict) and draw(st.integers(0, 9)):
        document.pop("sha256", None)
        try:
            document["sha256"] = seal(document)
        except ValueError:  # not a finite number, or no UTF-8
            document["sha256"] = "0" * 64
    return json.dumps(document)


@given(mutated())
@settings(max_examples=1200, **QUICK)
@pytest.mark.integration
def test_mutated_artifacts(text: str) -> None:
    load(text)


@given(st.data())
@settings(max_examples=600, **QUICK)
def test_damaged_bytes(data: st.DataObject) -> None:
    content = bytearray(VALID.text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        cut = data.draw(st.integers(0, 40))
        content[at : at + cut] = data.draw(st.binary(max_size=20))
    load(bytes(content))


@given(st.binary(max_size=300) | st.text(max_size=300) | json_values.map(json.dumps))
@settings(max_examples=400, **QUICK)
def test_random_documents(text: str | bytes) -> None:
    assert not load(text)


@given(st.sampled_from(["[", '{"a":', '[{"members":', '{"provenance":[']), st.integers(1, 120_000))
@settings(max_examples=40, **QUICK)
def test_deeply_nested_documents(opened: str, depth: int) -> None:
    assert not load(opened * depth)
    closed = {"[": "]", '{"a":': "}", '[{"members":': "}]", '{"provenance":[': "]}"}[opened]
    nested = f"{opened * depth}1{closed * depth}"
    assert not load(nested)
    assert not load(VALID.text.replace('"note": ""', f'"note": {nested}'))


words = st.sampled_from([*FOLDS, *BINARY, *BUILT_IN, *STATISTIC_NAMES, "(", ")", ",", " ", "__import__", "os", "."])
nested = st.integers(1, 2000).map(lambda n: "abs(" * n)


@given(st.lists(words, max_size=40).map("".join) | st.text(max_size=80) | nested)
@settings(max_examples=800, **QUICK)
@pytest.mark.integration
def test_random_expressions(text: str) -> None:
    told = ""
    with harmless():
        try:
            assert str(parse(str(parse(text)))) == str(parse(text))
        except LpzError as error:
            told = str(error)
    assert not told or "column" in told or "characters long" in told
    load(json.dumps(DOCUMENT).replace("sum(sum(product(abs(W), abs(G))))", text))
