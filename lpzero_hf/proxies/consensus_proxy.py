"""The proxy of an artifact that names installed proxies: their geometric mean, under a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from lpzero_hf.artifacts.artifact import Artifact
from lpzero_hf.errors import LpzError, UsageError
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.proxies.ensemble import GeometricMean, parse_ensemble


@dataclass(frozen=True, kw_only=True)
class ConsensusProxy(GeometricMean):
    """The geometric mean that an artifact describes. Higher is always better.

    Args:
        artifact: what it was made from.
        members: the proxies that it names; none before `with_members`.
    """

    artifact: Artifact
    members: tuple[Proxy, ...] = ()

    @property
    def trained_on(self) -> Mapping[str, Sequence[str]]:
        """As recorded in the artifact."""
        return self.artifact.trained_on

    @property
    def searched_marks(self) -> Set[str]:
        """As recorded in the artifact."""
        return self.artifact.searched_marks

    def parts(self) -> Mapping[str, object]:
        """The artifact."""
        return {"artifact": self.artifact.digest}

    def with_members(self, find: Callable[[str], Proxy]) -> ConsensusProxy:
        """The same with its members, looked up by `find`. Raises `LpzError` if one is not installed."""
        try:
            made = parse_ensemble(self.artifact.expressions[0], find)
        except UsageError as error:
            raise LpzError(
                f"'{self.name}' needs proxies that are not installed here ({error}); install or allow the plugin that "
                "offers them, or use another proxy"
            ) from error
        return replace(self, members=made.members)


def consensus_proxy(artifact: Artifact) -> ConsensusProxy:
    """The proxy of an artifact that names installed proxies (`Artifact.composite`), without its members."""
    where = " and ".join(artifact.provenance["benchmarks"]) or "no benchmark"
    return ConsensusProxy(
        name=artifact.name,
        formula=artifact.expressions[0],
        citation=f"chosen on {where} by lpzero-hf",
        version=f"artifact-{artifact.digest[:16]}",
        artifact=artifact,
    )
