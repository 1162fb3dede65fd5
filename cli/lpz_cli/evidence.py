"""How the evidence for a proxy is shown: three cells in its row, and a line that says what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lpzero_hf.models.model_kind import Kind
    from lpzero_hf.plugins import PluginRegistry
    from lpzero_hf.proxies.base import Proxy
    from lpzero_hf.proxies.evidence import Evidence

COLUMNS = ("at equal size", "rho", "benchmarks")
NONE = "—"
Found = Mapping[str, "Evidence | None"]  # by the kind of the model


def evidence_of_kinds(proxy: Proxy, kinds: Sequence[Kind], plugins: PluginRegistry) -> Found:
    """What is known of a proxy on models of each kind."""
    from lpzero_hf.proxies.evidence import evidence_of

    return {kind: evidence_of(proxy, kind, plugins) for kind in kinds}


def evidence_cells(found: Found) -> list[str]:
    """The cells under `COLUMNS`; where there are models of several kinds, a number for each, with a slash between."""

    def each(show: Callable[[Evidence], str]) -> str:
        cells = [NONE if one is None else show(one) for one in found.values()]
        return NONE if set(cells) == {NONE} else " / ".join(cells)

    return [
        each(lambda one: _signed(one.matched)),
        each(lambda one: _signed(one.rho)),
        each(lambda one: str(len(one.measured))),
    ]


def evidence_line(kinds: Sequence[Kind]) -> str:
    """What the cells are."""
    from lpzero_hf.proxies.evidence import shipped_evidence

    known = shipped_evidence()
    of = " / ".join(f"{kind}s" if kind in known.kinds.values() else f"any models (none are {kind})" for kind in kinds)
    return (
        f"At equal size: the share of better ones minus that of worse ones that score higher, over pairs within "
        f"{known.within:g} times {known.match}. This and rho are means over so many benchmarks of {of} that the proxy "
        f"was not searched on; {NONE} is not measured."
    )


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.2f}"
