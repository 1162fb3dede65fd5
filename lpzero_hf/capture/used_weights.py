"""Tells which weight of a model a matrix product uses, also where a layer scales, casts or views it first."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary
from transformers import PreTrainedModel

from lpzero_hf.models.embeddings import token_embedding
from lpzero_hf.models.layout import ModelLayout


class UsedWeights:
    """The weights in a model's blocks and in its other lists of modules.

    Args:
        layout: of the model.
    """

    def __init__(self, layout: ModelLayout) -> None:
        self.layout = layout
        self._names: dict[int, str] = {}  # by the parameters of the pass
        self._computed = WeakIdKeyDictionary()  # names of the weights that tensors were computed from, by the tensors

    def learn(self, model: PreTrainedModel, replaced: Mapping[int, nn.Parameter]) -> None:
        """Learn the names of the weights; `replaced` holds the parameters of the pass, by the original's `id`."""
        inside = {id(p) for block in self.layout.blocks for p in block.module.parameters()}
        ends = [m for m in (token_embedding(model), model.get_output_embeddings()) if m is not None]
        embedding = {id(p) for module in ends for p in module.parameters()}
        for name, parameter in model.named_parameters():
            listed = id(parameter) not in embedding and any(part.isdigit() for part in name.split("."))
            if parameter.dim() > 1 and (listed or id(parameter) in inside):
                self._names[id(parameter)] = name
        for site in self.layout.sites:
            if id(site.parameter) in replaced:
                self._names[id(replaced[id(site.parameter)])] = site.name

    def follow(self, tensor: Tensor, result: Tensor) -> None:
        """`result` was computed from `tensor`, which may be a weight that is scaled, normalized or cast."""
        if tensor.numel() == result.numel() and (name := self.name_of(tensor)) is not None:
            self._computed[result] = name

    def name_of(self, tensor: Tensor) -> str | None:
        """The name of the weight that `tensor` is, shows or was computed from; None for other tensors."""
        whole = tensor if tensor._base is None else tensor._base
        name = self._names.get(id(whole))
        if name is None and self._computed:
            name = self._computed.get(tensor) or self._computed.get(whole)
        return name
