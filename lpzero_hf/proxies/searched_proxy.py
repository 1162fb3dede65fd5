"""The proxy that an artifact describes: one expression, or a rank ensemble of a few."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from lpzero_hf.artifacts.artifact import Artifact, Member, parse_artifact, weighted
from lpzero_hf.capture.spec import Reduced
from lpzero_hf.errors import InvalidScore
from lpzero_hf.expressions.expression import BUILT_IN, Expression, Operations
from lpzero_hf.expressions.operations import installed_operations
from lpzero_hf.expressions.tables import Wanted
from lpzero_hf.proxies.base import StatisticProxy
from lpzero_hf.proxies.consensus_proxy import ConsensusProxy, consensus_proxy
from lpzero_hf.proxies.expression_proxy import foreign, reductions_of, scores_of, tables_for

if TYPE_CHECKING:
    from lpzero_hf.models.layout import ModelLayout

PAPER = "Dong et al. 2024, arXiv:2410.04808"


@dataclass(frozen=True, kw_only=True)
class SearchedProxy(StatisticProxy):
    """The proxy that an artifact describes; see `searched_proxy`. Higher is always better.

    Args:
        artifact: what it was made from.
        expressions: of its members.
        tables: what it captures, see `lpzero_hf.proxies.expression_proxy.tables_for`.
    """

    artifact: Artifact
    expressions: tuple[Expression, ...]
    tables: tuple[Wanted, ...] = field(compare=False)

    @property
    def minibatch(self) -> tuple[int, int] | None:
        """The sequences and tokens of the minibatch that it was searched on, or of the first of several; None if the
        artifact does not say."""
        recorded = self.artifact.provenance.get("minibatch", {})
        both = recorded.get("batch_size"), recorded.get("seq_len")
        return None if None in both else (both[0], both[1])

    @property
    def minibatches(self) -> tuple[tuple[int, int], ...]:
        """As recorded in the artifact, each once."""
        recorded = self.artifact.provenance.get("settings", ())
        sizes = dict.fromkeys((setting["batch_size"], setting["seq_len"]) for setting in recorded)
        return tuple(sizes) or super().minibatches

    @property
    def trained_on(self) -> Mapping[str, Sequence[str]]:
        """As recorded in the artifact."""
        return self.artifact.trained_on

    @property
    def searched_marks(self) -> Set[str]:
        """As recorded in the artifact."""
        return self.artifact.searched_marks

    def finish(self, reduced: Sequence[Sequence[Reduced]], layout: ModelLayout) -> float:
        """The score, from a table of only the members' branches."""
        scores = [
            member.orientation * score
            for member, score in zip(
                self.artifact.members, scores_of(self.expressions, self.tables, reduced), strict=True
            )
        ]
        if len(scores) == 1:
            return scores[0]
        return sum(quantile(score, member) for score, member in zip(scores, self.artifact.members, strict=True))

    def parts(self) -> Mapping[str, object]:
        """The artifact, and the operations in it that are not built in."""
        return {"artifact": self.artifact.digest, "operations": foreign(self.expressions, self.tables[0].operations)}

    def __reduce__(self) -> tuple[Callable[..., SearchedProxy], tuple[object, ...]]:
        """In another process, the operations are looked up anew."""
        return _parsed, (self.artifact.text,)


def searched_proxy(artifact: Artifact, operations: Operations = BUILT_IN) -> SearchedProxy:
    """The proxy that an artifact describes.

    One expression gives its score, times its orientation. An ensemble gives the sum of its members' quantiles among
    the architectures searched on, so that a single model can be scored and all members have equal weight; one that the
    search took twice is there twice, and counts twice ("2 times ..." in the formula, which `lpz proxies NAME` shows).

    Args:
        artifact: a valid one.
        operations: by name.

    Raises:
        LpzError: the artifact needs operations that are missing, or of other versions.
    """
    expressions = artifact.parsed(operations)
    tables = tables_for(expressions, operations)
    signed = weighted(map(str, expressions), artifact.orientations)
    where = " and ".join(artifact.provenance["benchmarks"]) or "no benchmark"
    return SearchedProxy(
        name=artifact.name,
        formula=signed[0] if len(artifact.members) == 1 else f"sum of the quantiles of {'; '.join(signed)}",
        citation=f"found on {where} by lpzero-hf, after {PAPER}",
        version=f"artifact-{artifact.digest[:16]}",
        reductions=reductions_of(tables),
        artifact=artifact,
        expressions=expressions,
        tables=tables,
    )


def shipped_proxy(file: Traversable) -> SearchedProxy | ConsensusProxy:
    """The proxy of an artifact that a package ships as data, for its hook `lpz_proxies`.

    Example:
        >>> from importlib.resources import files
        >>> shipped_proxy(files("my_package") / "lpzero-proxy.json")  # doctest: +SKIP

    Raises:
        LpzError: the artifact is damaged, or needs operations that no installed plugin offers.
    """
    operations = {**BUILT_IN, **installed_operations()}  # the plugin of the built-in ones may be turned off
    artifact = parse_artifact(file.read_bytes(), operations=operations)
    return consensus_proxy(artifact) if artifact.composite else searched_proxy(artifact, operations)


def _parsed(text: str) -> SearchedProxy:
    operations = {**BUILT_IN, **installed_operations()}
    return searched_proxy(parse_artifact(text, operations=operations), operations)


def quantile(score: float, member: Member) -> float:
    """The position of a score on the scale of a member: 0 at its smallest value, 1 at its largest, linear between.

    Beyond either end it continues to grow, by less than one step of the scale, so that different scores stay
    different and no member dominates the others.

    Raises:
        InvalidScore: the score is not finite.
    """
    if score - score != 0:
        raise InvalidScore(f"'{member.expression}' is {score}")
    scale = member.scale
    steps = len(scale) - 1
    spread = scale[-1] - scale[0]
    if score < scale[0]:
        beyond = scale[0] - score
        return -beyond / (beyond + spread) / steps
    if score == scale[0] < scale[-1]:
        return 0.0
    if score >= scale[-1]:
        beyond = score - scale[-1]
        return 1 + (beyond / (beyond + spread) / steps if beyond > 0 else 0.0)
    above = max(1, bisect_left(scale, score))
    low, high = scale[above - 1], scale[above]
    return (above - 1 + (score - low) / (high - low)) / steps
