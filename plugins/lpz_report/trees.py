"""Expressions as trees (inline SVG, coloured by the page's style sheet) and in words."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from lpzero_hf.expressions.expression import BUILT_IN, SHAPES, Branch, Expression, Operations, letter, role

MEANING = {
    "W": "weights",
    "G": "weight gradients",
    "A": "layer outputs",
    "J": "output gradients",
    "H": "head contexts",
    "S": "attention probabilities",
}
LAYERS = {"": "", "ffn": " of feed-forward layers", "mixer": " of linear layers in mixers"}
SIGNS = {"sum": "+", "difference": "\N{MINUS SIGN}", "product": "\N{MULTIPLICATION SIGN}", "matmul": "@"}
CHARACTER = 6.9  # width of one in the drawing's font of 11.5 px
HEIGHT, ROW, GAP, EDGE = 26.0, 44.0, 18.0, 2.0


@dataclass(frozen=True)
class _Node:
    label: str
    kind: str  # its CSS class: fold, op, unary, stat, dropped
    hint: str

    @property
    def width(self) -> float:
        return len(self.label) * CHARACTER + 22


def draw_tree(expression: Expression, orientation: int, name: str, operations: Operations = BUILT_IN) -> str:
    """An expression as an SVG element, from the last operation at the top down to the statistics.

    Args:
        expression: any.
        orientation: 1 if higher is better; -1 (lower is better) is drawn as a node of its own.
        name: prefix of the ids in it, unique on the page.
        operations: unary operations by name.

    Example:
        >>> from lpzero_hf.expressions.expression import parse
        >>> draw_tree(parse("sum(sum(product(abs(W), abs(G))))"), 1, "t").count("<rect")
        7
    """
    trunk = [_Node("negated", "fold", "lower is better")] if orientation < 0 else []
    trunk += [
        _Node(f"{expression.aggregate} over blocks", "fold", "one number from those of all transformer layers"),
        _Node(f"{expression.reduce} over elements", "fold", "one number from the entries within a layer"),
        _Node(f"{expression.op} {SIGNS[expression.op]}", "op", _acts_on(expression)),
    ]
    arms = [_arm(branch, operations) for branch in expression.branches]
    spans = [max(node.width for node in arm) for arm in arms]
    fork = GAP + sum(spans) / 2  # between the centres of the arms
    width = max(GAP + sum(spans), *(node.width for node in trunk)) + 2 * EDGE
    middle = width / 2
    first = middle + (spans[0] - spans[1]) / 4 - fork / 2
    centres = [first, first + fork]
    edges, boxes = [], []
    y = EDGE + HEIGHT / 2
    for depth, node in enumerate(trunk):
        if depth:
            edges.append(_edge(middle, y - ROW, middle, y))
        boxes.append(_box(node, middle, y))
        y += ROW
    for arm, centre in zip(arms, centres, strict=True):
        at, above = y, middle
        for node in arm:
            edges.append(_edge(above, at - ROW, centre, at, node.kind))
            boxes.append(_box(node, centre, at))
            at, above = at + ROW, centre
    height = y + ROW * (max(map(len, arms)) - 1) + HEIGHT / 2 + EDGE
    description = escape(spell(expression, orientation))
    return (
        f'<svg class="tree" role="img" aria-labelledby="{name}-title {name}-desc" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.1f} {height:.1f}" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{name}-title">{escape(str(expression))}</title><desc id="{name}-desc">{description}</desc>'
        f"{''.join(edges)}{''.join(boxes)}</svg>"
    )


def spell(expression: Expression, orientation: int = 1) -> str:
    """An expression in words.

    Example:
        >>> from lpzero_hf.expressions.expression import parse
        >>> spell(parse("mean(sum(product(abs(W), no_op(G))))"))
        'the mean over blocks of the sum over elements of the product of abs of W (weights) and G (weight gradients)'
    """
    left, right = (_spelled(branch) for branch in expression.branches)
    both = f"the {'matrix product' if expression.op == 'matmul' else expression.op} of {left} and {right}"
    text = f"the {expression.aggregate} over blocks of the {expression.reduce} over elements of {both}"
    return text if orientation > 0 else f"{text}; lower is better"


def _spelled(branch: Branch) -> str:
    if branch.dropped:
        return "nothing"
    chain = "".join(f"{name} of " for name in reversed(branch.chain) if name != "no_op")
    return f"{chain}{branch.statistic} ({_meaning(branch.statistic)})"


def _meaning(statistic: str) -> str:
    return MEANING[letter(statistic)] + LAYERS[role(statistic)]


def _acts_on(expression: Expression) -> str:
    if expression.together and not any(branch.dropped for branch in expression.branches):
        return "of two matrices of the same shape"
    return "of two numbers of a block"


def _arm(branch: Branch, operations: Operations) -> list[_Node]:
    """The nodes of a branch, from the last operation to the statistic."""
    if branch.dropped:
        return [_Node("dropped", "dropped", "this branch is disconnected")]
    nodes = [_Node(name, "unary", operations[name].formula) for name in reversed(branch.chain) if name != "no_op"]
    stat = branch.statistic
    return [*nodes, _Node(stat, f"stat {SHAPES[letter(stat)]}", _meaning(stat))]


def _box(node: _Node, x: float, y: float) -> str:
    width = node.width
    return (
        f'<g class="node {node.kind}"><title>{escape(f"{node.label}: {node.hint}")}</title>'
        f'<rect x="{x - width / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{width:.1f}" height="{HEIGHT:.0f}" rx="8"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}">{escape(node.label)}</text></g>'
    )


def _edge(x: float, y: float, to_x: float, to_y: float, kind: str = "") -> str:
    start, end = y + HEIGHT / 2, to_y - HEIGHT / 2
    half = (start + end) / 2
    dashed = " dropped" if kind == "dropped" else ""
    return (
        f'<path class="edge{dashed}" d="M{x:.1f} {start:.1f}C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} '
        f'{to_x:.1f} {end:.1f}"/>'
    )
