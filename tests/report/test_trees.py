"""Expressions drawn as trees show each operation once, and nothing covers anything else."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from lpz_report.figures import ranked
from lpz_report.trees import draw_tree, spell

from lpzero_hf.expressions.expression import parse


@pytest.mark.parametrize(
    ("text", "sign", "labels"),
    [
        ("sum(mean(sum(abs(W), log(abs(G)))))", 1, "sum over blocks|mean over elements|sum +|abs|W|log|abs|G"),
        ("mean(sum(matmul(H, sqrt(S))))", -1, "negated|mean over blocks|sum over elements|matmul @|H|sqrt|S"),
        ("sum(sum(product(J_ffn, abs(H))))", 1, "sum over blocks|sum over elements|product \u00d7|J_ffn|abs|H"),
        ("sum(sum(sum(disconnect(A), pow(J))))", 1, "sum over blocks|sum over elements|sum +|dropped|pow|J"),
    ],
)
def test_a_tree_shows_every_operation_once(text: str, sign: int, labels: str) -> None:
    drawn = ElementTree.fromstring(draw_tree(parse(text), sign, "t"))
    space = "{http://www.w3.org/2000/svg}"
    assert [node.text for node in drawn.iter(f"{space}text")] == labels.split("|")
    nodes = len(labels.split("|"))
    assert len(drawn.findall(f".//{space}path")) == nodes - 1  # a tree
    wide, high = map(float, drawn.attrib["viewBox"].split()[2:])
    boxes = [{k: float(v) for k, v in box.attrib.items()} for box in drawn.iter(f"{space}rect")]
    assert all(b["x"] >= 0 and b["y"] >= 0 for b in boxes)
    assert all(b["x"] + b["width"] <= wide and b["y"] + b["height"] <= high for b in boxes)
    for one in boxes:
        assert sum(_overlap(one, other) for other in boxes) == 1  # itself
    assert drawn.findtext(f"{space}desc") == spell(parse(text), sign)


def test_a_statistic_by_role_is_spelled_with_its_layers() -> None:
    words = spell(parse("sum(sum(product(abs(J_ffn), W_mixer)))"))
    assert "abs of J_ffn (output gradients of feed-forward layers)" in words
    assert "W_mixer (weights of linear layers in mixers)" in words
    assert 'class="node stat output"' in draw_tree(parse("sum(sum(product(J_ffn, H)))"), 1, "t")


def _overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    apart = (a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]) or (
        a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]
    )
    return not apart


def test_ranks_leave_out_what_has_no_score() -> None:
    assert ranked([3.0, None, 1.0, 3.0]) == [2.5, None, 1.0, 2.5]
    assert ranked([None]) == [None]
