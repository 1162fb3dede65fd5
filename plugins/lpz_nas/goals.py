"""What a search is for: proxies to be large and costs to be small, and the limits of costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lpz_nas.evaluator import proxy_of
from lpzero_hf.errors import UsageError, did_you_mean
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.scoring.costs import Cost, find_costs, installed_costs
from lpzero_hf.scoring.quantities import parse_quantity, show_quantity

PROXY = "proxy:"


@dataclass(frozen=True)
class Goal:
    """One objective.

    Args:
        name: as it was asked for, `proxy:NAME` or the name of a cost.
        by: the proxy, which is to be large, or the cost, which is to be small.
    """

    name: str
    by: Proxy | Cost

    @property
    def sign(self) -> int:
        """1 where higher is better, else -1."""
        return 1 if isinstance(self.by, Proxy) else -1

    def show(self, value: float) -> str:
        """A value for people."""
        return show_quantity(value, "" if isinstance(self.by, Proxy) else self.by.unit)


@dataclass(frozen=True)
class Limit:
    """A bound of one cost.

    Args:
        cost: that is bounded.
        bound: in the base unit of the cost; a value that equals it is within.
        upper: whether it is the most, else the least.
    """

    cost: Cost
    bound: float
    upper: bool

    @property
    def name(self) -> str:
        """`max_` or `min_` and the name of the cost."""
        return f"{'max' if self.upper else 'min'}_{self.cost.name}"

    def excess(self, value: float) -> float:
        """By what fraction of the bound a value is outside: above 0 outside, as for Optuna's constraints."""
        return value / self.bound - 1 if self.upper else 1 - value / self.bound

    def __str__(self) -> str:
        """The limit as an option, in words people read."""
        return f"--{'max' if self.upper else 'min'} {self.cost.name}={show_quantity(self.bound, self.cost.unit)}"


def read_goals(texts: Sequence[str], plugins: PluginRegistry, tables: Mapping[str, Cost]) -> list[Goal]:
    """The objectives that people name, each once.

    Args:
        texts: `proxy:NAME`, where NAME is an argument of `load_proxy`, or the name of a cost.
        plugins: where names are looked up.
        tables: costs of tables, by name.

    Raises:
        UsageError: there are none, one is unknown, or ranks only whole sets.
    """
    goals = {}
    for text in texts:
        if text.startswith(PROXY):
            goals[text] = Goal(text, proxy_of(text.removeprefix(PROXY), plugins))
            continue
        known = {*installed_costs(plugins), *tables}
        if text not in known:
            proxies = installed_proxies(plugins)
            hint = f"; write proxy:{text}" if text in proxies else did_you_mean(text, known)
            raise UsageError(f"no cost is called '{text}'{hint} (objectives are proxy:NAME, or one of {_names(known)})")
        goals[text] = Goal(text, find_costs([text], plugins, tables)[0])
    if not goals:
        raise UsageError("name what to search for with `goals=proxy:NAME`, `goals=COST`, or with `proxies=NAME`")
    return list(goals.values())


def read_limits(
    most: Iterable[str], least: Iterable[str], plugins: PluginRegistry, tables: Mapping[str, Cost]
) -> list[Limit]:
    """The limits that people write.

    Args:
        most: `COST=QUANTITY`: `params=50M`, `latency=20ms`, `memory=1.5GiB`.
        least: the same, of lower bounds.
        plugins: where names are looked up.
        tables: costs of tables, by name.

    Raises:
        UsageError: a cost is unknown, a quantity has a wrong unit, one is bounded twice, or no value lies between.
    """
    found: dict[str, Limit] = {}
    for texts, upper in ((most, True), (least, False)):
        option = "`max=`" if upper else "`min=`"
        for text in texts:
            name, equals, quantity = text.partition("=")
            if not equals or not name.strip():
                raise UsageError(
                    f"'{option} {text[:60]}' is no limit; write {option} COST=QUANTITY, {option} params=50M"
                )
            cost = find_costs([name.strip()], plugins, tables)[0]
            try:
                limit = Limit(cost, parse_quantity(quantity, cost.unit), upper)
            except UsageError as error:
                raise UsageError(f"{option} {text[:60]}: {error}") from error
            if limit.name in found:
                raise UsageError(f"{option} {cost.name} is given twice; give it once")
            found[limit.name] = limit
    for limit in found.values():
        other = found.get(f"max_{limit.cost.name}")
        if not limit.upper and other is not None and limit.bound > other.bound:
            raise UsageError(f"nothing satisfies both {limit} and {other}; exchange the bounds")
    return list(found.values())


def _names(known: Iterable[str]) -> str:
    return ", ".join(sorted(known))
