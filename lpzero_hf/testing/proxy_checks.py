"""The contract of a proxy, as a table of small checks; each yields one line per problem it finds."""

from __future__ import annotations

import pickle
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import one_line
from lpzero_hf.models.objective import with_labels
from lpzero_hf.plugins import PluginRegistry
from lpzero_hf.proxies.base import FunctionProxy, Proxy, StatisticProxy
from lpzero_hf.proxies.resolve import installed_proxies
from lpzero_hf.scoring.score import score
from lpzero_hf.scoring.scores import Score
from lpzero_hf.testing.model_state import changes, disturb, state
from lpzero_hf.testing.tiny_models import MakeConfig, tiny_batch, tiny_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
UNDECLARED = {
    f"the score is {value}" for value in ("nan", "inf", "-inf")
}  # found by `score`, not declared by the proxy
ORDER = [2, 0, 3, 1]
ROUNDING = 1e-6  # relative, in double precision

Problems = Iterator[str]


@dataclass(frozen=True)
class Case:
    """A proxy to check, and the models to check it on.

    Args:
        proxy: to check.
        baseline: whether it needs no citation.
        models: functions that make tiny configurations, by the names shown.
        plugins: the installed ones.
    """

    proxy: Proxy
    baseline: bool
    models: Mapping[str, MakeConfig]
    plugins: PluginRegistry

    def each(self, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Iterator[tuple[str, PreTrainedModel]]:
        """Every model by its name, freshly made."""
        for family, make in self.models.items():
            yield family, tiny_model(make, dtype=dtype, device=device)

    def score(self, model: PreTrainedModel, batch: Mapping[str, Any], *others: Proxy) -> Score:
        """The proxy's own row, scored alone or together with others."""
        rest = iter(others)
        proxies = [*islice(rest, 1), self.proxy, *rest]
        return score(model, batch, proxies, plugins=self.plugins)[self.proxy.name]


@dataclass(frozen=True)
class Check:
    """One check of the contract.

    Args:
        find: yields the problems, one line each.
        remedy: for the proxy's author.
        applies: whether the check concerns the proxy, and can run here.
    """

    find: Callable[[Case], Problems]
    remedy: str
    applies: Callable[[Case], bool] = lambda case: True

    @property
    def name(self) -> str:
        """The name of the check."""
        return self.find.__name__

    def problems(self, case: Case) -> list[str]:
        """The problems; any exception in the check is one, too."""
        found: list[str] = []
        try:
            found.extend(self.find(case))
        except Exception as error:  # a third-party proxy or model may raise anything
            found.append(f"raised {one_line(error)}")
        return found


def has_a_name(case: Case) -> Problems:
    """Users can type its name."""
    name = case.proxy.name
    if not NAME.fullmatch(name) and name != case.proxy.formula:
        yield f"the name is '{name}'"


def has_a_formula(case: Case) -> Problems:
    """Users can read what it computes."""
    formula = case.proxy.formula
    if not formula.strip() or formula == "a plain function":
        yield "no formula"
    elif len(formula.splitlines()) > 1:
        yield "the formula has several lines"


def has_a_citation(case: Case) -> Problems:
    """Users can read where it comes from."""
    if not case.proxy.citation.strip():
        yield "no citation"


def has_an_orientation(case: Case) -> Problems:
    """Users know whether higher or lower is better."""
    if case.proxy.orientation not in (1, -1):
        yield f"the orientation is {case.proxy.orientation!r}"


def gives_numbers(case: Case) -> Problems:
    """It gives a finite number or says why there is none, with and without padding, and somewhere a number."""
    found = 0
    for family, model in case.each():
        for padded in (False, True):
            row = case.score(model, tiny_batch(model, padded=padded))
            found += row.status == "ok"
            yield from _undeclared(row, f"{family}, {'with' if padded else 'without'} padding")
    if not found:
        yield f"no number on any of the models tried ({', '.join(case.models)})"


def gives_numbers_in_other_precisions(case: Case) -> Problems:
    """It gives a finite number or says why there is none, in half and in double precision."""
    for dtype in (torch.bfloat16, torch.float64):
        for family, model in case.each(dtype):
            row = case.score(model, tiny_batch(model))
            yield from _undeclared(row, f"{family} in {str(dtype).removeprefix('torch.')}")


def gives_numbers_on_a_gpu(case: Case) -> Problems:
    """It gives a finite number or says why there is none, where model and minibatch are on a GPU."""
    for family, model in case.each(device="cuda"):
        for batch in (tiny_batch(model), tiny_batch()):
            yield from _undeclared(case.score(model, batch), f"{family}, minibatch on {batch['input_ids'].device}")


def _undeclared(row: Score, where: str) -> Problems:
    if row.status == "failed" or (row.status == "invalid" and row.reason in UNDECLARED):
        yield f"{row.reason} ({where})"


def is_deterministic(case: Case) -> Problems:
    """The same model, minibatch and seed give the same bits, even if random numbers were drawn in between."""
    for family, model in case.each():
        batch = tiny_batch(model)
        first = case.score(model, batch)
        torch.rand(3), numpy.random.rand(3), random.random()
        yield from _differing(first, case.score(model, batch), f"and then {{}} ({family})")


def leaves_no_trace(case: Case) -> Problems:
    """The model, the minibatch and the random number generators are as they were, in every bit."""
    for family, model in case.each():
        batch = tiny_batch(model)
        disturb(model)
        before = state(model, batch)
        case.score(model, batch)
        for what in changes(before, state(model, batch)):
            yield f"changes the {what} ({family})"


def scores_alone_as_in_company(case: Case) -> Problems:
    """Proxies that are scored beside it do not matter."""
    for family, model in case.each():
        batch = tiny_batch(model)
        alone = case.score(model, batch)
        together = case.score(model, batch, READER, RUNNER)
        yield from _differing(alone, together, f"alone, {{}} in company ({family})")


def ignores_the_order_of_samples(case: Case) -> Problems:
    """As it claims, permuted samples give the same number up to rounding."""
    for family, model in case.each(torch.float64):
        for padded in (False, True):
            batch = with_labels(model, tiny_batch(model, padded=padded), seed=42)
            moved = {name: v[ORDER] if isinstance(v, Tensor) else v for name, v in batch.items()}
            rows = case.score(model, batch), case.score(model, moved)
            yield from _differing(*rows, f"in one order of samples, {{}} in another ({family})", ROUNDING)


def reaches_other_processes(case: Case) -> Problems:
    """Another process can find it by its name, or be sent it."""
    claim = installed_proxies(case.plugins).get(case.proxy.name)
    if claim is not None and claim.item == case.proxy:
        return
    try:
        there = replace(case, proxy=pickle.loads(pickle.dumps(case.proxy)))
    except Exception as error:  # pickle raises many kinds of errors
        yield f"no plugin offers it, and it cannot be pickled: {one_line(error)}"
        return
    for family, model in case.each():
        batch = tiny_batch(model)
        rows = case.score(model, batch), there.score(model, batch)
        yield from _differing(*rows, f"here, {{}} where it was sent ({family})")


def _differing(first: Score, second: Score, where: str, tolerance: float = 0.0) -> Problems:
    if first.value is None or second.value is None:
        equal = first.status == second.status
    else:
        equal = abs(first.value - second.value) <= tolerance * max(abs(first.value), abs(second.value))
    if not equal:
        yield f"{_shown(first)} {where.format(_shown(second))}"


def _shown(row: Score) -> str:
    return repr(row.value) if row.value is not None else row.status


def _size(*statistics: Tensor) -> Tensor:
    return torch.stack([statistic.double().abs().sum() for statistic in statistics]).sum()


READER = StatisticProxy(
    name="_reads_everything",
    formula="",
    reductions=(
        Reduction("linear", ("W", "G"), _size),
        Reduction("linear", ("A", "J", "mask"), _size),
        Reduction("mixer", ("H", "S", "mask"), _size),
        Reduction("mixer", ("H", "dH"), _size),
        Reduction("embedding", ("J",), _size),
    ),
)  # must not influence the proxies that share its pass


def _run(model: PreTrainedModel, batch: dict[str, Any]) -> float:
    """Training noise."""
    model.train()
    loss = model(**batch, labels=batch["input_ids"]).loss
    loss.backward()
    return float(loss.detach())


RUNNER = FunctionProxy(name="_runs_the_model", formula="", function=_run)

CHECKS: tuple[Check, ...] = (
    Check(has_a_name, "name it in lower case, with letters, digits, and _ . - between; a lambda has no name"),
    Check(has_a_formula, "say in one line what it computes: `formula`, or the docstring of a plain function"),
    Check(
        has_a_citation,
        "name its source in `citation` (a paper, or its authors), or call it a baseline with `baseline=True`",
        applies=lambda case: not case.baseline,
    ),
    Check(has_an_orientation, "set `orientation` to 1 if higher is better, to -1 if lower is better"),
    Check(
        gives_numbers,
        "raise lpzero_hf.NotApplicable('why') or lpzero_hf.errors.InvalidScore('why') where there is no score; "
        "for other families, give `models`",
    ),
    Check(gives_numbers_in_other_precisions, "make new tensors in the dtype of those given; take sums in float64"),
    Check(
        gives_numbers_on_a_gpu,
        "make new tensors on the device of those given",
        applies=lambda case: torch.cuda.is_available(),
    ),
    Check(
        is_deterministic, "draw from torch's, numpy's or Python's global generators, which are seeded; keep no state"
    ),
    Check(leaves_no_trace, "work on copies: `tensor.clone()`, and no method that ends in _ on what was given"),
    Check(scores_alone_as_in_company, "keep no state between calls, and rely on none"),
    Check(
        ignores_the_order_of_samples,
        "treat all samples in the same way, or leave out `batch_order_invariant=True`",
        applies=lambda case: case.proxy.batch_order_invariant,
    ),
    Check(reaches_other_processes, "define its functions at the top of a module, or offer it in the hook lpz_proxies"),
)
