"""What a search is for: proxies to be large and costs to be small, and the limits of costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lpz_nas.evaluator import proxy_of
from lpzero_hf.errors import UsageError, did_you_mean
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import Proxy
from lpzero_hf.proxies.resolve import ProxyLike, installed_proxies
from lpzero_hf.scoring.costs import Cost, find_costs, installed_costs
from lpzero_hf.scoring.quantities import parse_quantity, show_quantity
from lpzero_hf.spaces.misplaced import refuse_misplaced

PROXY = "proxy:"
WRITTEN = re.compile(r"\s*([^<>=]+?)\s*(<=|>=)\s*(.+)", re.DOTALL)  # a limit


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
        """The limit as people write it: "params <= 50,000,000"."""
        return f"{self.cost.name} {'<=' if self.upper else '>='} {show_quantity(self.bound, self.cost.unit)}"


GoalLike = Goal | Cost | ProxyLike


def read_goals(texts: str | Iterable[str], plugins: PluginRegistry, tables: Mapping[str, Cost]) -> list[Goal]:
    """The objectives that people name, each once.

    Args:
        texts: `proxy:NAME`, where NAME is an argument of `load_proxy`, or the name of a cost; one or several.
        plugins: where names are looked up.
        tables: costs of tables, by name.

    Raises:
        UsageError: there are none, one is unknown, or ranks only whole sets.
    """
    goals = {}
    for text in [texts] if isinstance(texts, str) else texts:
        if text.startswith(PROXY):
            goals[text] = Goal(text, proxy_of(text.removeprefix(PROXY), plugins))
            continue
        known = {*installed_costs(plugins), *tables}
        if text not in known:
            proxies = installed_proxies(plugins)
            if text not in proxies:
                refuse_misplaced(text, "cost", plugins)
            hint = f"; write proxy:{text}" if text in proxies else did_you_mean(text, known)
            raise UsageError(f"no cost is called '{text}'{hint} (objectives are proxy:NAME, or one of {_names(known)})")
        goals[text] = Goal(text, find_costs([text], plugins, tables)[0])
    if not goals:
        raise UsageError("name what to search for with `goals=proxy:NAME`, `goals=COST`, or with `proxies=NAME`")
    return list(goals.values())


def read_limits(
    most: str | Iterable[str], least: str | Iterable[str], plugins: PluginRegistry, tables: Mapping[str, Cost]
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
        for text in [texts] if isinstance(texts, str) else texts:
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
    _refuse_crossed(found)
    return list(found.values())


def _refuse_crossed(found: Mapping[str, Limit]) -> None:
    """Raise `UsageError` if nothing lies between two limits, given by their names."""
    for limit in found.values():
        other = found.get(f"max_{limit.cost.name}")
        if not limit.upper and other is not None and limit.bound > other.bound:
            raise UsageError(f"nothing satisfies both {limit} and {other}; exchange the bounds")


def as_goals(given: GoalLike | Iterable[GoalLike], plugins: PluginRegistry) -> list[Goal]:
    """The objectives of a caller, each once.

    Args:
        given: as `read_goals` takes them, proxies, costs or goals; one or several.
        plugins: where names are looked up.

    Raises:
        UsageError: there are none, one is unknown, or ranks only whole sets.
    """
    goals: dict[str, Goal] = {}
    for one in [given] if isinstance(given, str | Goal | Cost) or not isinstance(given, Iterable) else given:
        if isinstance(one, str):
            (goal,) = read_goals([one], plugins, {})
        elif isinstance(one, Goal | Cost):
            goal = one if isinstance(one, Goal) else Goal(one.name, one)
        else:
            found = proxy_of(one, plugins)
            goal = Goal(f"{PROXY}{found.name}", found)
        goals[goal.name] = goal
    if not goals:
        raise UsageError("a search needs an objective; name one with `goals=`")
    return list(goals.values())


def as_limits(given: str | Limit | Iterable[str | Limit], plugins: PluginRegistry) -> list[Limit]:
    """The limits of a caller.

    Args:
        given: limits, or texts such as "params <= 50M" or "latency >= 2ms"; one or several.
        plugins: where costs are looked up.

    Raises:
        UsageError: a cost is unknown, a quantity has a wrong unit, one is bounded twice, or no value lies between.
    """
    found: dict[str, Limit] = {}
    for one in [given] if isinstance(given, str | Limit) else given:
        limit = one if isinstance(one, Limit) else _limit(one, plugins)
        if limit.name in found:
            raise UsageError(f"{limit} and {found[limit.name]} are one bound, given twice; give it once")
        found[limit.name] = limit
    _refuse_crossed(found)
    return list(found.values())


def _limit(text: str, plugins: PluginRegistry) -> Limit:
    match = WRITTEN.fullmatch(text)
    if match is None:
        raise UsageError(f"'{text[:60]}' is no limit; write COST <= QUANTITY or COST >= QUANTITY: params <= 50M")
    (cost,) = find_costs([match[1]], plugins)
    return Limit(cost, parse_quantity(match[3], cost.unit), match[2] == "<=")


def _names(known: Iterable[str]) -> str:
    return ", ".join(sorted(known))
