"""The built-in proxies, registered through the same hook as third-party ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lpzero_hf.hookspecs import hookimpl

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lpzero_hf.expressions.operations import Unary
    from lpzero_hf.models.layout import ModelLayout
    from lpzero_hf.proxies.base import Proxy


@hookimpl
def lpz_proxies() -> Iterable[Proxy]:
    """Every built-in proxy, the trivial baselines first."""
    from lpz_proxies import activations, attention, az_nas, flows, gradients, jacobian, own_passes, size, spectral
    from lpz_proxies import weights as norms

    modules = (size, norms, spectral, gradients, activations, attention, az_nas, jacobian, flows, own_passes)
    return [proxy for module in modules for proxy in module.PROXIES]


@hookimpl
def lpz_operations() -> Iterable[Unary]:
    """The 21 unary operations of LPZero."""
    from lpzero_hf.expressions.operations import UNARY

    return UNARY


@hookimpl
def lpz_model_layout(model: PreTrainedModel) -> ModelLayout | None:
    """The families that generic detection recognises only in part."""
    from lpz_proxies.layouts import LAYOUTS

    read = LAYOUTS.get(model.config.model_type)
    return None if read is None else read(model)
