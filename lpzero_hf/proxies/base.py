"""The base classes of proxies: a name, a source, an orientation, and a function from a model to one number."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from lpzero_hf.capture.spec import LOSS, Network, Reduced, Reduction
from lpzero_hf.errors import UsageError
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.code_digest import code_digest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lpzero_hf.models.layout import ModelLayout

REPLICA = "_lpzero"  # ends the names of proxies as LPZero's code computes them, which reads modules as GPT-2 names them
Orientation = Literal[1, -1]
Requirement = Literal["shapes", "weights", "model"]
Values = list["Tensor"]
DESCRIBED = (
    "name",
    "formula",
    "citation",
    "orientation",
    "version",
    "batch_order_invariant",
    "work",
    "holds",
    "graph",
)  # and not computed with


@dataclass(frozen=True)
class Subject:
    """The input of a proxy that runs its own passes.

    Args:
        model: the model, isolated and in eval mode; parameters share the original's memory, so a proxy
            must not write into them.
        batch: the minibatch on the model's device, with labels unless it is for a plain function.
        layout: of the model in its current state.
        seed: for every random choice.
    """

    model: PreTrainedModel
    batch: dict[str, Any]
    layout: ModelLayout
    seed: int


@dataclass(frozen=True, kw_only=True)
class Proxy(ABC):
    """Base of all proxies.

    Args:
        name: how users call it, lower case with underscores.
        formula: one line, in the letters W, G, A, J, H, S (see the README).
        citation: the source, or "" for a trivial baseline.
        orientation: 1 if higher is better (a higher score predicts a better model), -1 if lower is better.
        version: changed by the author whenever the proxy's numbers change, so that cached scores are made again;
            "" to never cache any.
        batch_order_invariant: the author claims that the order of the samples does not matter, except for
            rounding; `lpzero_hf.testing` checks it.
    """

    name: str
    formula: str
    citation: str = ""
    orientation: Orientation = 1
    version: str = "1"
    batch_order_invariant: bool = False

    def __post_init__(self) -> None:
        if not self.name or self.orientation not in (1, -1):
            raise ValueError(f"proxy '{self.name}' needs a name and an orientation of 1 or -1")

    @property
    @abstractmethod
    def passes(self) -> str:
        """The passes to run: "none", "forward", "forward + backward", or the proxy's own description."""

    @property
    def minibatch(self) -> tuple[int, int] | None:
        """The sequences and tokens of the minibatch that this proxy was searched on; None for a proxy without one."""
        return None

    @property
    def minibatches(self) -> tuple[tuple[int, int], ...]:
        """Those of all minibatches that it was searched on at once; empty for a proxy without one."""
        return () if self.minibatch is None else (self.minibatch,)

    def parts(self) -> Mapping[str, object]:
        """What decides its numbers beside its class: the functions and settings that it was made with."""
        return {name: value for name, value in vars(self).items() if name not in DESCRIBED}

    @property
    def requires(self) -> Requirement:
        """What must be in memory: "shapes" (nothing), "weights" (one at a time), or the whole "model"."""
        return "model"

    @property
    def uses_minibatch(self) -> bool:
        """Whether it reads the minibatch; else it can be scored without one."""
        return True

    @property
    def trained_on(self) -> Mapping[str, Sequence[str]]:
        """By benchmark, the keys of the architectures whose trained performance was used to find this proxy."""
        return {}

    @property
    def searched_marks(self) -> Set[str]:
        """The same architectures by their content, see `lpzero_hf.benchmarks.held_out`; empty if not recorded."""
        return frozenset()

    def searched_on(self, benchmark: str) -> Set[str]:
        """The keys recorded for the benchmark of that name; `held_out.searched_keys` knows architectures by content."""
        return frozenset(self.trained_on.get(benchmark, ()))


def total(values: Values) -> float:
    """The sum of reduced values in double precision."""
    return float(sum(float(v) for v in values))


def mean(values: Values) -> float:
    """The mean of reduced values in double precision."""
    return total(values) / len(values)


def total_of_first(values: Sequence[Values], layout: ModelLayout) -> float:
    """The sum over all sites of the first reduction; a module-level function, so that it can be pickled."""
    return total(values[0])


@dataclass(frozen=True, kw_only=True)
class StatisticProxy(Proxy):
    """A proxy made of reductions of the captured statistics; it shares its pass with all other such proxies.

    Args:
        reductions: what to reduce at which sites.
        combine: maps one list of reduced values per reduction, then the layout, to the score.
        network: which network the pass runs on; the default is the model itself with its own loss.

    Example:
        >>> from lpzero_hf import Reduction, StatisticProxy
        >>> snip = StatisticProxy(
        ...     name="my_snip",
        ...     formula="sum |W * G|",
        ...     reductions=(Reduction("linear", ("W", "G"), lambda W, G: (W * G).abs().sum()),),
        ... )
    """

    reductions: tuple[Reduction, ...]
    combine: Callable[[Sequence[Values], ModelLayout], float] = total_of_first
    network: Network = LOSS

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "reductions", tuple(self.reductions))

    @property
    def passes(self) -> str:
        """Derived from the statistics that the reductions read."""
        needed = set().union(*(reduction.reads for reduction in self.reductions))
        own = "" if self.network is LOSS else f" ({self.network.name})"
        if needed & {"G", "J", "dH"}:
            return f"forward + backward{own}"
        return f"forward{own}" if needed - {"W"} else "none"

    @property
    def requires(self) -> Requirement:
        """Weights, one at a time, if the reductions read only W."""
        return "weights" if all(set(reduction.reads) == {"W"} for reduction in self.reductions) else "model"

    @property
    def uses_minibatch(self) -> bool:
        """Unless the reductions read only W."""
        return self.requires != "weights"

    def finish(self, reduced: Sequence[Sequence[Reduced]], layout: ModelLayout) -> float:
        """The score, from the values of each reduction at every site."""
        return self.combine([[site.value for site in sites] for sites in reduced], layout)


@dataclass(frozen=True, kw_only=True)
class ModelProxy(Proxy):
    """A proxy that runs passes of its own.

    Args:
        evaluate: maps a `Subject` to the score; may raise `NotApplicable`.
        needs: its passes, as text for people, for example "5 forward".
        shapes_only: the author claims that it reads no value of a tensor, so that a model on the meta device is enough.
            With no passes in `needs` it claims to read no minibatch either.
        holds: the memory that it uses beside the model, as a multiple of that of all weights; for
            `estimate_memory`.
        graph: what a graph of its derivatives holds, as a multiple of the activations of a forward and backward pass;
            likewise, and only if it `holds` something.
        work: what its passes take, in forward passes of the whole minibatch; those that take most run last.
        together: the most tokens that it runs at a time, in whole sequences; 0 for the whole minibatch. Likewise.
    """

    evaluate: Callable[[Subject], float]
    needs: str = "none"
    shapes_only: bool = False
    holds: float = 0
    graph: float = 2
    work: float = 3
    together: int = 0

    @property
    def requires(self) -> Requirement:
        """As declared."""
        return "shapes" if self.shapes_only else "model"

    @property
    def uses_minibatch(self) -> bool:
        """Unless it reads only shapes, and declares no pass."""
        return not (self.shapes_only and self.needs == "none")

    @property
    def passes(self) -> str:
        """As declared."""
        return self.needs


@dataclass(frozen=True, kw_only=True)
class FunctionProxy(Proxy):
    """A plain function `f(model, batch) -> float`.

    It gets copies of the weights and of the minibatch, so that it cannot change the caller's.
    """

    function: Callable[[PreTrainedModel, dict[str, Any]], float]

    @property
    def passes(self) -> str:
        """Unknown: whatever the function runs."""
        return "its own"

    def evaluate(self, subject: Subject) -> float:
        """Call the function on copies."""
        from lpzero_hf.models.isolation import copied, isolated

        batch = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in subject.batch.items()}
        with isolated(subject.model, substitute=copied, seed=subject.seed):
            return self.function(subject.model, batch)


@dataclass(frozen=True, kw_only=True)
class CompositeProxy(Proxy):
    """A proxy of the scores of others.

    Args:
        members: whose scores it combines, each once. One that is also a member of another member counts in both.

    Raises:
        UsageError: one is there twice.
    """

    members: tuple[Proxy, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [member.name for member in self.members]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"'{self.name}' names '{twice[0]}' twice; it takes each member once")

    @property
    def passes(self) -> str:
        """None of its own."""
        return "those of its members"

    @property
    def requires(self) -> Requirement:
        """What the most demanding member does."""
        order: tuple[Requirement, ...] = ("shapes", "weights", "model")
        return max((member.requires for member in self.members), key=order.index)

    @property
    def uses_minibatch(self) -> bool:
        """Whether a member does."""
        return any(member.uses_minibatch for member in self.members)


@dataclass(frozen=True, kw_only=True)
class SetProxy(CompositeProxy):
    """A proxy that scores architectures by their ranks in a given set; one model alone has no score."""

    @abstractmethod
    def combine(self, shares: Sequence[Sequence[float]]) -> list[float]:
        """The scores of n architectures.

        Args:
            shares: for each member the ranks of the n architectures over n: 1 for the best, ties share their mean rank.
        """


@dataclass(frozen=True, kw_only=True)
class ModelwiseProxy(CompositeProxy):
    """A proxy that combines the scores of one model, whatever other models there are."""

    @abstractmethod
    def combine(self, scores: Sequence[float]) -> float:
        """The score of a model from those of the members, each as the member gives it.

        Raises:
            InvalidScore: they have no combination.
        """


def single(proxies: Iterable[Proxy]) -> tuple[Proxy, ...]:
    """The proxies that read models, each once: for a composite one, its members."""
    return tuple(
        dict.fromkeys(one for p in proxies for one in (single(p.members) if isinstance(p, CompositeProxy) else (p,)))
    )


def ranks_a_set(proxy: Proxy) -> bool:
    """Whether a model alone has no score, because the proxy or a member of it ranks a set."""
    if not isinstance(proxy, CompositeProxy):
        return False
    return isinstance(proxy, SetProxy) or any(map(ranks_a_set, proxy.members))


def as_proxy(item: Proxy | Callable[..., float]) -> Proxy:
    """`item` itself if it is a proxy, else the plain function wrapped as one.

    A function may carry attributes `formula`, `citation`, `orientation`, `version` and `batch_order_invariant`;
    else its formula is the first line of its docstring, and its version a digest of its code and of what that reads.
    Its name is its `name` or `__name__`.

    The result of `load_proxy`, which holds a proxy, is that proxy.

    Raises:
        TypeError: it is neither, or cannot be hashed.
    """
    if isinstance(held := getattr(item, "proxy", None), Proxy):
        return as_proxy(held)
    if isinstance(item, StatisticProxy | ModelProxy | FunctionProxy | CompositeProxy):
        hash(item)
        return item
    if isinstance(item, Proxy):
        raise TypeError(f"{type(item).__name__} must derive from StatisticProxy or ModelProxy")
    if not callable(item) or inspect.isclass(item):
        raise TypeError(f"expected a Proxy or a function f(model, batch) -> float, got {item!r}")
    function = item.func if isinstance(item, partial) else item
    name = getattr(item, "name", getattr(function, "__name__", type(function).__name__))
    described = (inspect.getdoc(function) or "a plain function").splitlines()[0]
    return FunctionProxy(
        name=name,
        formula=getattr(item, "formula", described),
        citation=getattr(item, "citation", ""),
        orientation=getattr(item, "orientation", 1),
        version=getattr(item, "version", None) or code_digest(item),
        batch_order_invariant=getattr(item, "batch_order_invariant", False),
        function=item,
    )


def source_digest(proxy: Proxy) -> str:
    """A digest of the code that a proxy is made of and of all that this reads; "" where something has none.

    It distinguishes two proxies with one name and version, see `lpzero_hf.proxies.code_digest`.
    """
    return code_digest(type(proxy), proxy.parts())
