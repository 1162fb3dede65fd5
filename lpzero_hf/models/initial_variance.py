"""Tells with which variance the initialisation of a model draws each of its weights, from its configuration alone."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch.utils._python_dispatch import _disable_current_modes

from lpzero_hf.errors import NotApplicable, one_line
from lpzero_hf.models.config_repairs import without_kernels
from lpzero_hf.models.deferred_init import Ledger, NotDeferrable

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class InitialVariances:
    """The initial distributions of the weights of a model.

    The model is built once more without memory, and what its initialisation would draw is read from the record; its
    own weights, which may be trained or have no memory either, do not matter.

    Args:
        model: of any class that can be built from its configuration.

    Raises:
        NotApplicable: it cannot be built anew, or draws its weights in a way that cannot be recorded.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        name = type(model).__name__
        try:
            with _disable_current_modes(), torch.random.fork_rng(devices=[]), Ledger(ordered=False) as self.ledger:
                built = type(model)._from_config(copy.deepcopy(without_kernels(model.config)))
        except NotDeferrable as error:
            raise NotApplicable(f"the initialisation of {name} cannot be recorded: {error}") from error
        except Exception as error:
            raise NotApplicable(f"{name} cannot be built from its configuration ({one_line(error)})") from error
        self.weights: dict[str, Tensor] = dict(built.named_parameters(remove_duplicate=False))

    def of(self, name: str) -> float:
        """The variance of the entries of one weight, by its full name.

        Raises:
            NotApplicable: the weight is not in the model as its configuration describes it, or its entries are not
                drawn around zero.
        """
        weight = self.weights.get(name)
        if weight is None:
            raise NotApplicable(f"'{name}' is not in the model that its configuration describes")
        try:
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                mean, variance = self._moments(weight)
        except NotDeferrable as error:
            raise NotApplicable(f"'{name}' is not drawn independently: {error}") from error
        if mean**2 > 0.01 * variance:
            raise NotApplicable(f"'{name}' is not drawn around zero")
        return variance

    def _moments(self, weight: Tensor) -> tuple[float, float]:
        if self.ledger.knows(weight):
            return self.ledger.moments(weight)
        values = weight.detach().double()  # it was made with values at once
        return float(values.mean()), float(values.var(correction=0))
