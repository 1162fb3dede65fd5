"""A model in a wrapper, compiled, parametrized or adapted scores as the plain model that computes the same, or one line
says why it is not scored."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lpz_nas import ProxyEvaluator
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedModel

from lpzero_hf import load_proxy, minibatch, score
from lpzero_hf.capture.capture import capture
from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import ModelError
from lpzero_hf.models.layout import layout_of
from lpzero_hf.models.plain_layers import plain_layers
from lpzero_hf.models.unwrap import unwrapped
from lpzero_hf.scoring.setting import Setting
from lpzero_hf.testing.model_state import changes, state
from tests.support.families import tiny_model

Change = Callable[[PreTrainedModel], Any]
SAME = ["snip", "num_layers", "params", "decoder_params", "attention_params", "w_pca", "l2_norm", "head_importance",
        "attention_confidence", "nwot", "fisher", "synflow", "grasp", "zen", "flops", "jacobian_cosine",
        "sum(sum(product(abs(H), abs(S))))"]  # fmt: skip


def values(model: nn.Module, batch: dict[str, Tensor], proxies: Any = "all") -> dict[str, float | None]:
    return {name: row.value for name, row in score(model, batch, proxies).items()}


def llama() -> PreTrainedModel:
    return tiny_model("llama")


@functools.cache
def reference() -> tuple[dict[str, Tensor], dict[str, float | None]]:
    """A minibatch, and the scores of the plain model on it."""
    batch = minibatch(llama(), batch_size=4, seq_len=16)
    return batch, values(llama(), batch)


def linears(model: nn.Module) -> list[nn.Linear]:
    return [m for m in model.modules() if isinstance(m, nn.Linear)]


def distributed(model: nn.Module) -> nn.Module:
    if not dist.is_initialized():
        dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        return nn.parallel.DistributedDataParallel(model)
    finally:
        dist.destroy_process_group()


def compiled_block(model: PreTrainedModel) -> None:
    model.model.layers[0] = torch.compile(model.model.layers[0])


def compiled_forward(model: PreTrainedModel) -> None:
    model.forward = torch.compile(model.forward)


def checkpointed_blocks(model: PreTrainedModel) -> None:
    model.model.layers[1] = checkpoint_wrapper(model.model.layers[1])


def placed(model: PreTrainedModel) -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    for block in model.model.layers:
        hooks.add_hook_to_module(block, hooks.AlignDevicesHook(execution_device="cpu"))


WRAPPED: dict[str, Change] = {
    "compiled": torch.compile,
    "compiled in place": lambda model: model.compile(),
    "a compiled block": compiled_block,
    "a block compiled in place": lambda model: model.model.layers[0].compile(),
    "a compiled forward": compiled_forward,
    "data parallel": nn.DataParallel,
    "distributed": distributed,
    "compiled data parallel": lambda model: torch.compile(nn.DataParallel(model)),
    "averaged": AveragedModel,
    "checkpoint wrappers": checkpointed_blocks,
    "hooks of accelerate": placed,
    "identity masks": lambda model: [prune.identity(m, "weight") for m in linears(model)] and None,
}


def made(change: Change) -> nn.Module:
    model = llama()
    result = change(model)
    return model if result is None else result


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_model_has_the_scores_of_the_model(name: str) -> None:
    model = made(WRAPPED[name])
    batch, scores = reference()
    again = minibatch(model, batch_size=4, seq_len=16)
    assert all(torch.equal(batch[key], again[key]) for key in batch)
    inner = unwrapped(model)
    before = state(inner, batch)
    attributes = [{k: id(v) for k, v in m.__dict__.items()} for m in model.modules()]
    assert values(model, batch) == scores
    assert changes(before, state(inner, batch)) == []
    assert [{k: id(v) for k, v in m.__dict__.items()} for m in model.modules()] == attributes


def test_a_compiled_model_that_has_run_has_the_scores_of_the_model() -> None:
    model, (batch, scores) = llama(), reference()
    model.compile(backend="eager")
    with torch.no_grad():
        model(**batch)
    assert values(model, batch) == scores


def test_loaded_proxies_and_evaluators_unwrap_too(batch: dict[str, Tensor]) -> None:
    snip = load_proxy("snip")
    assert snip(torch.compile(llama()), batch) == snip(llama(), batch)
    evaluator = ProxyEvaluator("snip", setting=Setting(batch_size=2, seq_len=8))
    assert evaluator.evaluate(nn.DataParallel(llama())) == evaluator.evaluate(llama())


# Weights that are computed -------------------------------------------------------------------------------


def everywhere(parametrization: Callable[[nn.Linear], object]) -> Change:
    return lambda model: [parametrization(m) for m in linears(model.model.layers)] and None


def halved(module: nn.Linear) -> None:
    prune.l1_unstructured(module, "weight", 0.5)


def halved_twice(module: nn.Linear) -> None:
    halved(module)
    prune.random_unstructured(module, "weight", 0.1)


class Doubled(nn.Module):
    """W as twice a stored matrix."""

    def forward(self, stored: Tensor) -> Tensor:
        return 2 * stored


COMPUTED: dict[str, Change] = {
    "weight_norm": everywhere(parametrizations.weight_norm),
    "spectral_norm": everywhere(parametrizations.spectral_norm),
    "orthogonal": everywhere(parametrizations.orthogonal),
    "a parametrization of one's own": everywhere(
        lambda m: parametrize.register_parametrization(m, "weight", Doubled())
    ),
    "two parametrizations": everywhere(
        lambda m: parametrize.register_parametrization(parametrizations.weight_norm(m), "weight", Doubled())
    ),
    "weight_norm by a hook": everywhere(nn.utils.weight_norm),
    "spectral_norm by a hook": everywhere(nn.utils.spectral_norm),
    "pruned": everywhere(halved),
    "pruned twice": everywhere(halved_twice),
    "a parametrized norm": lambda m: parametrize.register_parametrization(m.model.norm, "weight", Doubled()) and None,
    "a parametrized embedding": lambda m: parametrizations.weight_norm(m.model.embed_tokens) and None,
}


def with_effective_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A plain model with the weights that the layers of `model` compute in eval mode."""
    plain = llama()
    plain.lm_head.weight = nn.Parameter(plain.lm_head.weight.clone())
    with torch.no_grad():
        model(input_ids=torch.zeros(1, 2, dtype=torch.long))  # runs the hooks
        for (_, target), (_, source) in zip(named_layers(plain), named_layers(model), strict=True):
            target.weight.copy_(source.weight)
    plain.lm_head.weight = model.lm_head.weight
    return plain


def named_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    hidden = ("parametrizations", "lm_head")
    return [(n, m) for n, m in model.named_modules() if hasattr(m, "weight") and not any(h in n for h in hidden)]


@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_weight_is_read_as_the_weight_that_acts(name: str, batch: dict[str, Tensor]) -> None:
    model = made(COMPUTED[name])
    plain = with_effective_weights(model)
    before = state(model, batch)
    measured = values(model, batch, SAME)
    assert changes(before, state(model, batch)) == []
    assert measured == pytest.approx(values(plain, batch, SAME), rel=1e-4)


def test_the_gradient_is_that_of_the_weight_that_acts(batch: dict[str, Tensor]) -> None:
    """SNIP's |W * G| halves and doubles cancel: of a weight stored as its half, G is not the stored one's."""
    model = llama()
    with torch.no_grad():
        for layer in linears(model.model.layers):
            layer.weight.mul_(0.5)
            parametrize.register_parametrization(layer, "weight", Doubled())
    names = ["l2_norm", "grad_norm", "snip"]
    assert values(model, batch, names) == pytest.approx(values(llama(), batch, names), rel=1e-5)


def test_a_weight_computed_in_an_unknown_way_is_refused(batch: dict[str, Tensor]) -> None:
    model = llama()
    layer = model.model.layers[0].mlp.up_proj
    stored = layer.weight.detach()
    del layer.weight
    layer.weight = stored  # a plain attribute
    with pytest.raises(ModelError, match="up_proj"):
        score(model, batch, "snip")


# Refused -------------------------------------------------------------------------------------------------


class Head(nn.Module):
    """As the value heads of reinforcement learning: a model and a head beside its own."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.pretrained_model, self.v_head = model, nn.Linear(32, 1)
        self.config = model.config

    def forward(self, **inputs: Any) -> Any:
        return self.pretrained_model(**inputs)


class Around(nn.Module):
    """A model and nothing else."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.inner = model

    def forward(self, **inputs: Any) -> Any:
        return self.inner(**inputs)


class Linear8bitLt(nn.Linear):
    """As in bitsandbytes."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False)
        self.weight = nn.Parameter((layer.weight * 100).to(torch.int8), requires_grad=False)


class QuantLinear(nn.Module):
    """As in GPTQ and AWQ: packed integers, no weight."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.zeros(layer.in_features // 8, layer.out_features, dtype=torch.int32))
        self.register_buffer("scales", torch.ones(1, layer.out_features))


class Packed(Tensor):
    """A tensor that says float32 and does its arithmetic in another way, as those of torchao."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(func)


def with_layer(make: Callable[[nn.Linear], nn.Module]) -> Change:
    def change(model: PreTrainedModel) -> None:
        block = model.model.layers[0].mlp
        block.up_proj = make(block.up_proj)

    return change


def packed(layer: nn.Linear) -> nn.Linear:
    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(Packed), requires_grad=False)
    return layer


def float8(layer: nn.Linear) -> nn.Linear:
    layer.weight = nn.Parameter(layer.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    return layer


def dynamic(model: PreTrainedModel) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def offloaded(model: PreTrainedModel) -> nn.Module:
    return pytest.importorskip("accelerate").cpu_offload(model)


def traced_block(model: PreTrainedModel) -> None:
    layer = model.model.layers[0].mlp
    model.model.layers[0].mlp = torch.jit.trace(layer, torch.ones(1, 2, 32))


def graph_block(model: PreTrainedModel) -> None:
    model.model.layers[0].mlp = torch.fx.symbolic_trace(model.model.layers[0].mlp)


def sharded(model: PreTrainedModel) -> nn.Module:
    """Of the class of FSDP, which needs a process group and a device of its own to be made."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    wrapper = FullyShardedDataParallel.__new__(FullyShardedDataParallel)
    nn.Module.__init__(wrapper)
    wrapper.inner = model
    return wrapper


REFUSED: dict[str, tuple[Change, str]] = {
    "a value head": (Head, "pretrained_model"),
    "a module around it": (Around, "inner"),
    "no model": (lambda model: nn.Linear(2, 2), "no PreTrainedModel"),
    "TorchScript": (lambda model: torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), "TorchScript"),
    "a traced block": (traced_block, "mlp"),
    "a graph": (graph_block, "traced graph"),
    "shards": (sharded, "shards"),
    "dynamic int8": (dynamic, "quantized"),
    "8 bit": (with_layer(Linear8bitLt), "int8"),
    "float8": (with_layer(float8), "float8"),
    "packed": (with_layer(QuantLinear), "qweight"),
    "a tensor subclass": (with_layer(packed), "Packed"),
    "meta": (lambda model: model.to("meta"), "meta device"),
    "offloaded": (offloaded, "meta device"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(name: str, batch: dict[str, Tensor]) -> None:
    change, word = REFUSED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = made(change)
    with pytest.raises(ModelError, match=word) as raised:
        score(model, batch)
    assert "\n" not in str(raised.value)


def test_capture_alone_reads_no_layer_that_hides_another(batch: dict[str, Tensor]) -> None:
    norm = Reduction("linear", ("W",), lambda W: W.norm())
    for change in [*COMPUTED.values(), *(WRAPPED[name] for name in ("compiled in place", "a compiled block"))]:
        model = made(change)
        with pytest.raises(ModelError, match="plain_layers"):
            capture(model, batch, [norm], layout_of(model))
        with plain_layers(model):
            assert capture(model, batch, [norm], layout_of(model)).values[norm]


def test_a_model_without_values_has_counts(batch: dict[str, Tensor]) -> None:
    names = ["params", "decoder_params", "num_layers", "attention_params", "flops"]
    assert values(llama().to("meta"), batch, names) == values(llama(), batch, names)


def test_plain_layers_are_put_back_when_scoring_fails() -> None:
    model = made(COMPUTED["pruned"])
    model.compile()
    before = dict(model.named_modules()), model._compiled_call_impl

    def fail() -> None:
        with plain_layers(model):
            assert model._compiled_call_impl is None
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (dict(model.named_modules()), model._compiled_call_impl) == before
