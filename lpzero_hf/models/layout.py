"""The layout of a model: where it keeps its blocks, mixers and linear layers.

A *block* is one transformer layer. Inside it, a *mixer* mixes tokens (attention, convolution, a state
space, a Fourier transform); everything outside the mixers is the feed-forward part. Blocks are the
model's `GradientCheckpointingLayer` modules or, where a family has none, its longest list of modules of
one class. Mixers are recognised by their name or class. A plugin can describe a family that is not recognised
correctly through the hook `lpz_model_layout`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from lpzero_hf.errors import LayoutError
from lpzero_hf.plugins import PluginRegistry, load_plugins

Part = Literal["mixer", "ffn"]
Shape = Literal["out_in", "in_out", "experts_out_in", "experts_in_out"]  # further dimensions are flattened

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
ATTENTION = {"attn", "attention"}
MIXER = ATTENTION | {"mixer", "mamba", "ssm", "fourier", "recurrent", "temporal", "retention", "mlstm"}
NOT_MIXER = {"mlp", "ffn", "moe", "experts", "bottleneck", "embedding", "embeddings"}
ROUTER = {"router", "gate"}
HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_attn_heads")


@dataclass(frozen=True, eq=False)
class WeightSite:
    """A parameter that acts as one linear layer, or as one per expert.

    Args:
        name: full name of the parameter in the model.
        block: index of the block it first belongs to.
        part: whether it belongs to a mixer or to the feed-forward part.
        parameter: the parameter itself.
        shape: how it is stored; `matrices` gives every layer as [out, in].
        module: the module whose output is this layer's activation, or None where there is no such
            module (experts whose layers run fused, weights used through `einsum`).
    """

    name: str
    block: int
    part: Part
    parameter: Tensor
    shape: Shape = "out_in"
    module: nn.Module | None = None

    @property
    def names(self) -> list[str]:
        """The name of each linear layer: the parameter's, with the number of the expert."""
        if not self.shape.startswith("experts"):
            return [self.name]
        return [f"{self.name}[{index}]" for index in range(len(self.parameter))]

    def matrices(self, tensor: Tensor) -> list[Tensor]:
        """Views of `tensor` (the weight or its gradient), one [out, in] matrix per linear layer."""
        if self.shape == "out_in":
            return [tensor.flatten(1)]
        if self.shape == "in_out":
            return [tensor.flatten(1).T]
        return [m if self.shape == "experts_out_in" else m.T for m in tensor.unbind(0)]


@dataclass(frozen=True, eq=False)
class Mixer:
    """A module that mixes tokens.

    Args:
        name: full name of the module in the model.
        module: the module.
        heads: 0 where the mixer has no heads.
        head_size: 0 where it is unknown.
        attention: whether it is attention by its class; other mixers have no attention probabilities.
    """

    name: str
    module: nn.Module
    heads: int
    head_size: int = 0
    attention: bool = True

    def head_count(self, width: int, seen: int) -> int:
        """The number of heads in a context of `width` features, given the number that the attention has (or 0)."""
        if self.head_size and width % self.head_size == 0:
            return width // self.head_size
        return next((heads for heads in (seen, self.heads) if heads and width % heads == 0), 1)


@dataclass(frozen=True, eq=False)
class Block:
    """One transformer layer with its mixers, or a part of one where a family keeps the parts in lists of their own.

    Args:
        name: full name of the module in the model.
        module: the module.
        mixers: inside it.
        experts: the child that holds a mixture of experts and whose output is their combined output, None in a dense
            block.
        index: number of the layer, which parts of one layer share; by default its position among the blocks.
    """

    name: str
    module: nn.Module
    mixers: tuple[Mixer, ...]
    experts: nn.Module | None = None
    index: int = -1


@dataclass(frozen=True, eq=False)
class ModelLayout:
    """All blocks of a model with the weights that statistics are read from.

    Args:
        blocks: the distinct block modules, in the order the model holds them. A block is identified by its module (its
            `indices`), in whatever order and however often the model runs it.
        sites: every use of a weight by a linear layer of a block.
        parameters: parameters of the whole model, trained or frozen, shared ones once.
        depth: number of transformer layers that a forward pass applies.
        repeats: number of times it applies each block; more than one where blocks are shared.
        time_major: activations are [T, B, d] instead of [B, T, d].
        transposed: names of the layers and mixers whose outputs alone are [T, B, d], as far as known.
        streams: on how many copies of its tokens, one after the other, a decoder runs (ProphetNet's n-gram streams).
        not_run: names of the blocks that the minibatch does not run; they are not among `blocks`.
    """

    blocks: tuple[Block, ...]
    sites: tuple[WeightSite, ...]
    depth: int
    parameters: int
    repeats: float = 1
    time_major: bool = False
    transposed: frozenset[str] = frozenset()
    streams: int = 1
    not_run: tuple[str, ...] = ()

    @property
    def indices(self) -> list[int]:
        """The index of every block: statistics of one index belong to one transformer layer."""
        return [position if block.index < 0 else block.index for position, block in enumerate(self.blocks)]

    def only(self, running: Collection[str]) -> ModelLayout:
        """The layout of the blocks with these names; the others are `not_run`."""
        left_out = tuple(block.name for block in self.blocks if block.name not in running)
        if not left_out:
            return self
        kept = [(index, b) for index, b in zip(self.indices, self.blocks, strict=True) if b.name in running]
        numbers = {old: new for new, old in enumerate(sorted({index for index, _ in kept}))}
        return replace(
            self,
            blocks=tuple(replace(block, index=numbers[index]) for index, block in kept),
            sites=tuple(replace(site, block=numbers[site.block]) for site in self.sites if site.block in numbers),
            depth=round(self.depth * len(numbers) / len(set(self.indices))),
            not_run=self.not_run + left_out,
        )

    @property
    def weights(self) -> list[WeightSite]:
        """Each distinct weight once, however often it is shared."""
        return list({id(site.parameter): site for site in reversed(self.sites)}.values())[::-1]

    @property
    def linears(self) -> list[WeightSite]:
        """The sites whose activations are the output of a module, one per module."""
        return list({id(site.module): site for site in self.sites if site.module is not None}.values())

    @property
    def mixers(self) -> list[Mixer]:
        """The mixers of every block, in order."""
        return [mixer for block in self.blocks for mixer in block.mixers]


def layout_of(model: PreTrainedModel, plugins: PluginRegistry | None = None) -> ModelLayout:
    """The layout of `model`: from a plugin that describes the model (a third-party one before a built-in
    one), else from `find_layout`.

    Raises:
        LayoutError: no blocks were found.
    """
    plugins = load_plugins() if plugins is None else plugins
    answers = [layout for _, layout in plugins.ask("lpz_model_layout", model=model) if layout is not None]
    return answers[-1] if answers else find_layout(model)


def find_layout(model: PreTrainedModel) -> ModelLayout:
    """The layout of `model`, read from its modules alone (no forward pass).

    Raises:
        LayoutError: no blocks were found, or the blocks hold no linear layer.
    """
    named_blocks = _find_blocks(model)
    if not named_blocks:
        raise LayoutError(
            f"no transformer blocks found in {type(model).__name__}; "
            "a plugin can describe it with the hook lpz_model_layout"
        )
    blocks = _numbered(
        Block(name, module, tuple(_find_mixers(name, module, model.config)), _experts_of(module))
        for name, module in named_blocks
    )
    sites = [site for block in blocks for site in weight_sites(block.index, block)]
    if not sites:
        raise LayoutError(
            f"the blocks of {type(model).__name__} hold no linear layer; "
            "a plugin can describe it with the hook lpz_model_layout"
        )
    depth = len({block.index for block in blocks})
    return ModelLayout(tuple(blocks), tuple(sites), depth, count_parameters(model))


def weight_sites(index: int, block: Block) -> Iterator[WeightSite]:
    """The linear layers of one block: `nn.Linear`, `Conv1D`, the packed projections of
    `nn.MultiheadAttention`, stacked experts, and the plain `weight` matrices of routers."""
    inside = {id(m) for mixer in block.mixers for m in mixer.module.modules()}
    for name, module in block.module.named_modules(prefix=block.name):
        part: Part = "mixer" if id(module) in inside else "ffn"
        if isinstance(module, nn.Linear):
            yield WeightSite(f"{name}.weight", index, part, module.weight, "out_in", module)
        elif isinstance(module, Conv1D):
            yield WeightSite(f"{name}.weight", index, part, module.weight, "in_out", module)
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield WeightSite(f"{name}.in_proj_weight", index, part, module.in_proj_weight)
        elif _is_experts(module):
            shape: Shape = "experts_in_out" if getattr(module, "is_transposed", False) else "experts_out_in"
            for key, parameter in module.named_parameters(prefix=name, recurse=False):
                if parameter.dim() == 3:
                    yield WeightSite(key, index, part, parameter, shape)
        elif ROUTER & {*words_of(name.rpartition(".")[2]), *words_of(type(module).__name__)}:
            weight: Any = module._parameters.get("weight")
            if weight is not None and weight.dim() == 2 and not isinstance(module, nn.Embedding):
                yield WeightSite(f"{name}.weight", index, part, weight)


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters in `modules`, each shared one once, whether it is trained or frozen."""
    return sum(p.numel() for p in distinct_parameters(modules).values())


def distinct_parameters(modules: Iterable[nn.Module | None]) -> dict[int, nn.Parameter]:
    """The parameters of `modules`, each shared one once, by their `id`."""
    return {id(p): p for module in modules if module is not None for p in module.parameters()}


def _find_blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    marked: list[tuple[str, nn.Module]] = [
        (n, m) for n, m in model.named_modules() if isinstance(m, GradientCheckpointingLayer)
    ]
    outermost = [(n, m) for n, m in marked if not any(n.startswith(f"{other}.") for other, _ in marked)]
    if outermost:
        return outermost
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and _is_list_of_blocks(module)
    ]
    long = [name for name, module in lists if len(module) > 1]
    outer = [(n, m) for n, m in lists if not any(n.startswith(f"{other}.") for other in long)]
    longest = max((len(module) for _, module in outer), default=0)
    chosen = [(n, m) for n, m in outer if len(m) == longest or _holds_mixer(m[0])]
    if longest == 1:  # nested lists of one: the innermost holds the blocks
        chosen = chosen[-1:]
    return [found for name, modules in chosen for found in _callable(name, modules)]


def _callable(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """`module`, or, where it is a container that is never called itself, what it contains."""
    if type(module).forward is not nn.ModuleList.forward:
        yield name, module
        return
    for child, inner in module.named_children():
        yield from _callable(f"{name}.{child}", inner)


def _numbered(blocks: Iterable[Block]) -> list[Block]:
    """`blocks` with the numbers of their layers.

    Of two lists of one length in one module, where the blocks of one have mixers and those of the other have none, each
    pair is one layer.
    """
    lists: dict[str, list[Block]] = {}
    for block in blocks:
        lists.setdefault(block.name.rpartition(".")[0], []).append(block)
    first: dict[tuple[str, int], tuple[int, bool]] = {}  # by (module, length): number of the first layer, has mixers
    numbered, count = [], 0
    for name, members in lists.items():
        kind, mixing = (name.rpartition(".")[0], len(members)), any(block.mixers for block in members)
        start, paired_with_mixing = first.get(kind, (count, mixing))
        if mixing == paired_with_mixing:  # a list of its own
            first[kind] = start, mixing = count, mixing
            count += len(members)
        numbered += [replace(block, index=start + place) for place, block in enumerate(members)]
    return numbered


def _holds_mixer(block: nn.Module) -> bool:
    return any(True for _ in _find_mixers("block", block, None))


def _is_list_of_blocks(modules: nn.ModuleList) -> bool:
    one_class = len({type(m) for m in modules}) == 1
    return one_class and any(isinstance(m, nn.Linear | Conv1D) for m in modules[0].modules())


def _find_mixers(name: str, block: nn.Module, config: Any) -> Iterator[Mixer]:
    taken: list[str] = []
    for path, module in block.named_modules(prefix=name):
        inside = any(path.startswith(f"{other}.") for other in taken)
        if not inside and any(True for _ in module.children()) and _is_mixer(path, name, module, block):
            taken.append(path)
            attention = any(ATTENTION & set(words_of(type(m).__name__)) for m in module.modules())
            yield Mixer(path, module, _head_count(module, config, attention), _head_size(module), attention)


def _is_mixer(path: str, name: str, module: nn.Module, block: nn.Module) -> bool:
    """Whether the words of a module's class, without those of its family, or of its attribute name a mixer."""
    own = words_of(type(module).__name__)
    if path == name:  # a bare mixer in a list of its own, not a block around one
        return bool(MIXER & set(own)) and not any(MIXER & set(words_of(child)) for child, _ in block.named_children())
    family = [a for a, b in zip(own, words_of(type(block).__name__), strict=False) if a == b]
    words = {*own[len(family) :], *words_of(path.rpartition(".")[2])}
    return bool(MIXER & words) and not NOT_MIXER & words


def words_of(name: str) -> list[str]:
    """The words of a CamelCase or underscored name in lower case."""
    return [word.lower() for word in WORD.findall(name)]


def _head_count(mixer: nn.Module, config: Any, attention: bool) -> int:
    own = [getattr(module, "config", None) for module in mixer.modules()]  # of the text part of a composite model
    for owner in (*mixer.modules(), *own, config) if attention else mixer.modules():
        for attribute in HEAD_COUNTS:
            count = getattr(owner, attribute, None)
            if isinstance(count, int) and count > 0:
                return count
    return 0


def _head_size(mixer: nn.Module) -> int:
    sizes = (getattr(m, "attention_head_size", None) for m in mixer.modules())
    return next((size for size in sizes if isinstance(size, int)), 0)


def _is_experts(module: nn.Module) -> bool:
    stacked = any(p is not None and p.dim() == 3 for p in module._parameters.values())
    return stacked and "expert" in type(module).__name__.lower()


def _experts_of(block: nn.Module) -> nn.Module | None:
    for name, module in block.named_modules():
        separate = any(isinstance(m, nn.ModuleList) and "expert" in n.lower() for n, m in module.named_children())
        if name and (separate or _is_experts(module)):
            return block.get_submodule(name.partition(".")[0])
    return None
