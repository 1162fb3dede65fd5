"""Compares, after a pass, what ran with what was read: what a reduction leaves out is said, never passed over.

A layer that lies in no block (an embedding's projection, an output head) is no site and is not missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from lpzero_hf.capture.spec import OUTPUTS, WEIGHTS, Network, Reduced, Reduction
from lpzero_hf.models.layout import ModelLayout, WeightSite

NO_MODULE = "their weights are used without a layer of their own, as those of fused experts are"
OTHER_ROWS = "their rows are not the tokens of the minibatch"
NO_GRADIENT = "no gradient reaches them, or " + OTHER_ROWS
PART = {"linear": None, "mixer_linear": "mixer", "ffn_linear": "ffn"}


@dataclass
class Ran:
    """What a pass ran.

    Args:
        layers: how often the layer of a site was called, by its name.
        used: names of the weights in the blocks that were multiplied with something.
        blocks: indices of the blocks.
        mixers: how often a mixer was called, by its name.
        outside: how many attentions were computed in no mixer of the layout.
    """

    layers: Counter[str] = field(default_factory=Counter)
    used: set[str] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)
    mixers: Counter[str] = field(default_factory=Counter)
    outside: int = 0


def not_run(layout: ModelLayout) -> str:
    """`"2 blocks of vision_tower were not run"`, or an empty string."""
    if not layout.not_run:
        return ""
    lists = Counter(name.rpartition(".")[0] for name in layout.not_run)
    what = " and ".join(f"{count} block{'s' if count > 1 else ''} of {name}" for name, count in lists.items())
    return f"{what} {'were' if len(layout.not_run) > 1 else 'was'} not run"


def left_out(reduction: Reduction, values: Sequence[Reduced], layout: ModelLayout, ran: Ran, network: Network) -> str:
    """What `values` leave out, as one line; an empty string if they are complete.

    Args:
        reduction: that made the values.
        values: one for each site that was read.
        layout: of the model.
        ran: what the pass ran.
        network: that it ran; one that departs from the model has layers that no gradient reaches, by definition.
    """
    read = Counter(reduced.site for reduced in values)
    reads: set[str] = {*reduction.reads}
    lines: Iterable[str]
    if reduction.place in PART and reads <= WEIGHTS:
        lines = _weights(reads, PART[reduction.place], read, layout, ran, network)
    elif reduction.place in PART and reads <= OUTPUTS:
        lines = _outputs(reads, PART[reduction.place], read, layout, ran)
    elif reduction.place in ("ffn_hidden", "ffn_output"):
        lines = _feed_forward({reduced.block for reduced in values}, reduction.place, layout, ran)
    elif reduction.place == "block":
        lines = _blocks({reduced.block for reduced in values}, ran)
    elif reduction.place in ("mixer", "attention"):
        lines = _mixers(reduction, read, layout, ran)
    else:
        lines = ()
    idle = not_run(layout)
    skipped = {*layout.indices} - ran.blocks if ran.blocks else set()
    blocks = f"{len(skipped)} of {len({*layout.indices})} blocks did not run this time" if skipped else ""
    return "; ".join(filter(None, [idle and f"{idle} and not counted", blocks, *lines]))


def _stray(part: str | None, layout: ModelLayout, ran: Ran) -> set[str]:
    """Weights that act like those of linear layers, and are no sites."""
    return ran.used - {site.name for site in layout.sites} if part is None else set()


def _sites(part: str | None, layout: ModelLayout) -> list[WeightSite]:
    return [site for site in layout.weights if part in (None, site.part)]


def _weights(
    reads: set[str], part: str | None, read: Counter[str], layout: ModelLayout, ran: Ran, network: Network
) -> Iterable[str]:
    stray, sites = _stray(part, layout, ran), _sites(part, layout)
    running = ran.layers.keys() | ran.used
    used = {id(site.parameter) for site in layout.sites if site.name in running}  # in any of the blocks that share it
    active = {site.name for site in sites if id(site.parameter) in used}
    yield _missed(stray, reads, len(read) + len(stray), "they are not recognised")
    if "G" in reads and not network.departs:
        missing = [site.name for site in sites if site.name in active and not read.keys() & {*site.names}]
        yield _missed(missing, reads, len(sites), "no gradient reaches them")
    elif "G" not in reads and ran.layers:
        idle = [site.name for site in sites if site.name not in active and site.module is not None]
        if idle:
            yield f"W of {len(idle)} linear layers that did not run is counted ({_example(idle)})"


def _outputs(reads: set[str], part: str | None, read: Counter[str], layout: ModelLayout, ran: Ran) -> Iterable[str]:
    sites = [site for site in layout.sites if part in (None, site.part)]
    called = {site.name for site in layout.sites if site.module is not None and site.name in ran.layers}
    bare = [s.name for s in sites if (s.module is None and s.block in ran.blocks) or (s.name in ran.used - called)]
    other = [s.name for s in sites if s.name in called and read[s.name] < ran.layers[s.name]]
    stray = _stray(part, layout, ran)
    total = len(called & {s.name for s in sites}) + len(bare) + len(stray)
    yield _missed([*bare, *stray], reads, total, NO_MODULE)
    yield _missed(other, reads, total, NO_GRADIENT if "J" in reads else OTHER_ROWS)


def _feed_forward(read: set[int], place: str, layout: ModelLayout, ran: Ran) -> Iterable[str]:
    holding: dict[int, set[str]] = {}
    for site in layout.sites:
        if site.part == "ffn" and site.block in ran.blocks and site.name in ran.layers.keys() | ran.used:
            holding.setdefault(site.block, set()).add(site.name)
    least = 2 if place == "ffn_hidden" else 1
    missing = sorted(index for index, names in holding.items() if len(names) >= least and index not in read)
    if missing and read:
        what = "pre-activations" if place == "ffn_hidden" else "output"
        yield f"the feed-forward {what} of {len(missing)} of {len(holding)} blocks could not be read"


def _blocks(read: set[int], ran: Ran) -> Iterable[str]:
    if read and (missing := ran.blocks - read):
        yield f"the output of {len(missing)} of {len(ran.blocks)} blocks could not be read"


def _mixers(reduction: Reduction, read: Counter[str], layout: ModelLayout, ran: Ran) -> Iterable[str]:
    reads: set[str] = {*reduction.reads}
    attention = reduction.place == "attention"
    expected = [m for m in layout.mixers if m.name in ran.mixers and (not attention or (m.attention and m.heads))]
    missing = [m.name for m in expected if read[m.name] < ran.mixers[m.name]]
    if missing and read:
        yield f"{_letters(reads)} of {len(missing)} of {len(expected)} mixers could not be read ({_example(missing)})"
    if ran.outside:
        yield f"{ran.outside} attentions outside the mixers that are known are not read"
    with_mixers = {index for index, b in zip(layout.indices, layout.blocks, strict=True) if b.mixers}
    without = ran.blocks - with_mixers
    if without and not attention:
        yield f"{len(without)} of {len(ran.blocks)} blocks have no mixer that is known"


def _missed(names: Collection[str], reads: set[str], total: int, why: str) -> str:
    if not names:
        return ""
    return f"{_letters(reads)} of {len(names)} of {total} linear layers were not read: {why} ({_example(names)})"


def _letters(reads: set[str]) -> str:
    order = ["W", "G", "A", "J", "H", "dH", "S"]
    return " and ".join(sorted(reads - {"mask"}, key=order.index))


def _example(names: Collection[str]) -> str:
    first = sorted(names)[0].removesuffix(".weight")
    return first if len(names) == 1 else f"{first}, ..."
