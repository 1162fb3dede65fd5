"""Costs: what an architecture takes to run, known or measured without training it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from lpzero_hf.errors import LpzError, NotApplicable, UsageError, one_line, said_once, unknown
from lpzero_hf.foreign import Survived
from lpzero_hf.models.build import build_model
from lpzero_hf.models.flop_count import shapes_of, values_of
from lpzero_hf.models.layout import ModelLayout, layout_of
from lpzero_hf.models.load import load_config
from lpzero_hf.models.memory import available_bytes
from lpzero_hf.models.minibatch import SEQUENCE_LENGTH, position_limit
from lpzero_hf.models.torch_names import device_of, precision, precision_name
from lpzero_hf.plugins import Claim, PluginRegistry, instance_of, load_plugins
from lpzero_hf.scoring.display import Displayed, Panel, by_name
from lpzero_hf.scoring.quantities import show_quantity
from lpzero_hf.spaces.misplaced import refuse_misplaced

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

Stage = Literal["shapes", "pass", "run"]  # from the cheapest: sizes alone, a pass without values, a model that runs
STAGES: tuple[Stage, ...] = ("shapes", "pass", "run")
Result = TypeVar("Result")
Passes = Callable[["PreTrainedModel"], AbstractContextManager[None]]


@dataclass(frozen=True)
class Deployment:
    """How a model is run where its costs count.

    Args:
        batch_size: prompts at a time.
        prompt: tokens of each; None for 128, or as many as the model has positions for with one more token.
        dtype: precision of the weights, by its name or as torch has it; kept as the name.
        device: where it runs, likewise.
        threads: CPU threads.
        attention: its implementation, "eager" or "sdpa"; None for the configuration's.
        warmup: passes before those that are timed.
        repeats: passes that are timed.
        seed: of weights and tokens.

    Raises:
        UsageError: a number is less than 1, or the precision or device is unknown.
    """

    batch_size: int = 1
    prompt: int | None = None
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    attention: str | None = None
    warmup: int = 3
    repeats: int = 10
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("batch_size", "prompt", "threads", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"a {name.replace('_', ' ')} of {value} is less than 1; give a positive number")
        if self.warmup < 0:
            raise UsageError(f"{self.warmup} passes to warm up are less than 0; give 0 or more")
        object.__setattr__(self, "dtype", precision_name(self.dtype))
        object.__setattr__(self, "device", str(device_of(self.device)))

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """A measured value with its spread.

    Args:
        value: the median of the repeats.
        low: their first quartile.
        high: their third quartile.
        repeats: how many there are.
        warnings: why it may be wrong.
    """

    value: float
    low: float
    high: float
    repeats: int
    warnings: tuple[str, ...] = ()


class CostSubject:
    """An architecture whose costs are wanted; what several costs need is made once.

    Args:
        config: of the architecture.
        deployment: how it is run.
        plugins: where layouts come from.
        name: the text id, or the name of the model; "" for none.
    """

    def __init__(
        self, config: PreTrainedConfig, deployment: Deployment, plugins: PluginRegistry, name: str = ""
    ) -> None:
        self.config, self.deployment, self.plugins, self.name = config, deployment, plugins, name

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model without memory for its weights. Raises `ModelError` if it cannot be built."""
        how = self.deployment
        dtype = precision(how.dtype)
        return build_model(self.config, seed=how.seed, dtype=dtype, lazy=True, attention=how.attention)

    @cached_property
    def layout(self) -> ModelLayout:
        """The blocks of `model`. Raises `LayoutError` if there are none."""
        return layout_of(self.model, self.plugins)

    @cached_property
    def weights(self) -> int:
        """Bytes of parameters and buffers, each shared one once."""
        tensors = {id(t): t for t in (*self.model.parameters(), *self.model.buffers())}.values()
        return sum(t.numel() * t.element_size() for t in tensors)

    @property
    def prompt(self) -> int:
        """Tokens of the prompt. Raises `NotApplicable` if the model has not as many positions."""
        limit, wanted = position_limit(self.model), self.deployment.prompt
        if wanted is None:
            return SEQUENCE_LENGTH if limit is None else max(1, min(SEQUENCE_LENGTH, limit - 1))
        if limit is not None and wanted > limit:
            raise NotApplicable(f"it has {limit} positions, and the prompt {wanted} tokens; use `prompt={limit - 1}`")
        return wanted

    def loaded(self, device: str | None = None) -> PreTrainedModel:
        """The model with weights.

        Args:
            device: where; None for that of the deployment.

        Raises:
            NotApplicable: it does not fit into the free memory there.
        """
        how = self.deployment
        place = torch.device(how.device if device is None else device)
        free = available_bytes(place)
        if free is not None and self.weights > free:
            raise NotApplicable(
                f"it cannot run here: its weights take {show_quantity(self.weights, 'bytes')}, and "
                f"{show_quantity(free, 'bytes')} are free; use `dtype=torch.bfloat16`, or a table of costs "
                "measured elsewhere"
            )
        dtype = precision(how.dtype)
        return build_model(self.config, seed=how.seed, dtype=dtype, device=place, attention=how.attention)

    def without_values(self, work: Callable[[PreTrainedModel, Passes], Result]) -> Result:
        """The result of work on passes that need no values; on a model with weights if it reads values.

        Args:
            work: called with a model, and with the context in which its passes run.
        """
        try:
            return work(self.model, shapes_of)
        except (NotApplicable, LpzError):
            raise
        except Exception:  # the control flow of the model depends on values
            return work(self.loaded("cpu"), values_of)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Something that is to be small: a count, a memory, a time. Lower is better.

    Args:
        name: what users type.
        unit: of the value: "parameters", "FLOPs", "bytes", "seconds", or any other word.
        summary: one line for people.
        measure: gives the value of an architecture, finite and not negative; a `Measured` has a spread as well. It
            raises `NotApplicable` where the cost has no meaning or is not known.
        stage: what it takes: "shapes", "pass" or "run"; a search checks the cheap ones first.

    Example:
        >>> from lpzero_hf import Cost
        >>> layers = Cost(
        ...     name="layers", unit="layers", summary="", measure=lambda s: s.layout.depth, stage="shapes"
        ... )
    """

    name: str
    unit: str
    summary: str
    measure: Callable[[CostSubject], float | Measured]
    stage: Stage = "run"

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise UsageError(f"cost '{self.name}' has stage '{self.stage}'; use one of {', '.join(STAGES)}")


@dataclass(frozen=True)
class CostRow:
    """The value of one cost, or why there is none.

    Args:
        cost: its name.
        unit: of the value.
        value: None if there is none.
        status: "ok", "not applicable" or "failed".
        reason: why there is no value.
        low: the first quartile of the repeats of a measurement; None for what is counted, and of a single repeat.
        high: the third.
        repeats: of a measurement.
        seconds: that it took to find out.
        warnings: why the value may be wrong.
    """

    cost: str
    unit: str
    value: float | None
    status: Literal["ok", "not applicable", "failed"] = "ok"
    reason: str = ""
    low: float | None = None
    high: float | None = None
    repeats: int | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = field(default=())

    def require(self) -> float:
        """The value. Raises `LpzError` with the reason if there is none."""
        if self.value is None:
            raise LpzError(f"cost '{self.cost}' is {self.status}: {self.reason}")
        return self.value

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self) | {"warnings": list(self.warnings)}


class MeasuredCosts(dict[str, CostRow], Displayed):
    """The costs of one architecture by name. A notebook shows them as a table."""

    @property
    def title(self) -> str:
        """How many there are."""
        return f"{sum(row.value is not None for row in self.values())} of {len(self)} costs are known"

    def to_rows(self) -> list[dict[str, Any]]:
        """A row for every cost, without its time."""
        return [
            {
                "cost": row.cost, "value": row.value, "unit": row.unit, "low": row.low, "high": row.high,
                "status": row.status, "reason": "; ".join(filter(None, [row.reason, *row.warnings])),
            }
            for row in self.values()
        ]  # fmt: skip

    def panels(self) -> list[Panel]:
        """The costs on one logarithmic axis through zero; their units differ."""
        rows = list(self.values())
        names = [f"{row.cost} ({row.unit})" for row in rows]
        panel = by_name("cost (logarithmic)", names, {"cost": [row.value for row in rows]})
        return [replace(panel, scale="symlog")]


def measure_cost(cost: Cost, subject: CostSubject) -> CostRow:
    """One cost of one architecture; an error of its code is reported in the row."""
    start = time.perf_counter()
    try:
        with Survived():
            found = cost.measure(subject)
            found = found if isinstance(found, Measured) else float(found)
    except NotApplicable as error:
        return CostRow(cost.name, cost.unit, None, "not applicable", str(error), seconds=time.perf_counter() - start)
    except LpzError as error:
        return CostRow(cost.name, cost.unit, None, "failed", str(error), seconds=time.perf_counter() - start)
    except Exception as error:  # any error of a third-party cost is reported in its row
        return CostRow(cost.name, cost.unit, None, "failed", one_line(error), seconds=time.perf_counter() - start)
    seconds = time.perf_counter() - start
    value = found.value if isinstance(found, Measured) else found
    if not math.isfinite(value) or value < 0:
        return CostRow(cost.name, cost.unit, None, "failed", f"the cost is {value}", seconds=seconds)
    if isinstance(found, Measured):
        low, high = (found.low, found.high) if found.repeats > 1 else (None, None)  # one value has no spread
        return CostRow(
            cost.name, cost.unit, value, low=low, high=high, repeats=found.repeats, seconds=seconds,
            warnings=found.warnings,
        )  # fmt: skip
    return CostRow(cost.name, cost.unit, value, seconds=seconds)


@said_once
def measure_costs(
    config: str | Path | PreTrainedConfig,
    costs: str | Cost | Iterable[str | Cost] | None = None,
    deployment: Deployment | None = None,
    *,
    name: str = "",
    plugins: PluginRegistry | None = None,
) -> MeasuredCosts:
    """Costs of an architecture, without training it.

    Args:
        config: of the architecture, or its name as `load_model` takes it.
        costs: names or `Cost` objects, one or several; None for all installed.
        deployment: how it is run; by default one prompt of 128 tokens, in float32 on one CPU thread.
        name: of the architecture, for costs that know it by name.
        plugins: where names are looked up; by default everything installed.

    Returns:
        A row for each cost, by name, in the order asked for; one that is not applicable or fails has the reason.

    Raises:
        UsageError: a cost is unknown.
        ModelError: the configuration cannot be built.

    Example:
        >>> from lpzero_hf import measure_costs
        >>> from transformers import GPT2Config
        >>> rows = measure_costs(GPT2Config(n_layer=2, n_embd=64, n_head=2, vocab_size=4096), ["params", "kv_cache"])
        >>> rows["params"].value, rows["kv_cache"].value
        (427776.0, 1024.0)
    """
    plugins = load_plugins() if plugins is None else plugins
    chosen = find_costs(costs, plugins)
    config, _ = load_config(config, plugins=plugins)
    subject = CostSubject(config, Deployment() if deployment is None else deployment, plugins, name)
    _ = subject.model  # a configuration that cannot be built is an error, and no row
    rows = {cost.name: measure_cost(cost, subject) for cost in by_stage(chosen)}
    return MeasuredCosts({cost.name: rows[cost.name] for cost in chosen})


def by_stage(costs: Iterable[Cost]) -> list[Cost]:
    """Costs, the cheapest to find out first."""
    return sorted(costs, key=lambda cost: STAGES.index(cost.stage))


def installed_costs(plugins: PluginRegistry) -> dict[str, Claim[Cost]]:
    """Every offered cost by name. Raises `PluginError` if two distributions claim one name."""
    return plugins.offers("lpz_costs", "cost", instance_of(Cost))


def find_costs(
    wanted: str | Cost | Iterable[str | Cost] | None,
    plugins: PluginRegistry,
    tables: Mapping[str, Cost] | None = None,
) -> list[Cost]:
    """The costs asked for, each once.

    Args:
        wanted: names or `Cost` objects, one or several; None for all.
        plugins: where names are looked up.
        tables: costs by name that go before installed ones of the same name.

    Raises:
        UsageError: one is unknown, or two have one name.
    """
    known = {name: claim.item for name, claim in installed_costs(plugins).items()} | dict(tables or {})
    found: dict[str, Cost] = {}
    if isinstance(wanted, str | Cost):
        wanted = [wanted]
    for item in known if wanted is None else wanted:
        if isinstance(item, str) and item not in known:
            refuse_misplaced(item, "cost", plugins)
            raise UsageError(unknown("cost", item, known, f" (there are {', '.join(known)})"))
        cost = known[item] if isinstance(item, str) else item
        if found.setdefault(cost.name, cost) is not cost:
            raise UsageError(f"two different costs are called '{cost.name}'; rename one")
    return list(found.values())
