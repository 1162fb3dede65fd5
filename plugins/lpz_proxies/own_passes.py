"""Proxies that need passes of their own: second derivatives, perturbed inputs, several minibatches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import NotApplicable
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import ModelProxy, Proxy, Subject

if TYPE_CHECKING:
    from torch import Tensor, nn

NOISE = 0.01  # alpha of Zen-NAS
REPEATS = 4
TOGETHER = 512  # tokens whose graph of first derivatives is kept at a time
ROUNDING = 16  # units of rounding, relative to the norms, between two ways to the same sum


def grasp(subject: Subject) -> float:
    """- sum of (H g) * W over the weights of all linear layers, g the gradient and H the Hessian of l.

    H is symmetric, so this is - sum of (H W) * g; and H W + g is the gradient of q = sum of W * g, by a second backward
    pass. A layer's share of q is the sum of W x times the gradient there, for an output W x + b: the first backward
    pass then needs no derivative of the weights' gradients. Attention runs on the kernel that can be differentiated
    twice, and many tokens run in parts, whose H and g add up.
    """
    from lpzero_hf.models.isolation import isolated
    from lpzero_hf.models.kernels import plain_kernels

    sites = {id(site.parameter): site for site in subject.layout.weights}
    with (
        isolated(subject.model, trainable=lambda p: id(p) in sites, seed=subject.seed) as replaced,
        plain_kernels(subject.model),
    ):
        sums = Curvature([replaced[key] for key in sites if key in replaced])
        layers = [site.module for site in subject.layout.linears if type(site.module) in plain_layers()]
        handles = [layer.register_forward_hook(sums.on_layer) for layer in dict.fromkeys(filter(None, layers))]
        for loss in _losses(subject):
            sums.add(loss)
        for handle in handles:
            handle.remove()
        return -sums.product()


def plain_layers() -> tuple[type[nn.Module], ...]:
    """The layers that compute W x + b."""
    from transformers.pytorch_utils import Conv1D

    return torch.nn.Linear, Conv1D


class Curvature:
    """g and H W of the weights of one model, see `grasp`; sums over the parts of a minibatch.

    Args:
        weights: that are differentiated.
    """

    def __init__(self, weights: list[nn.Parameter]) -> None:
        self.weights = weights
        self.outputs: list[tuple[int, Tensor, Tensor]] = []  # of layers: the id of the weight, W x + b, W x
        self.gradients: dict[int, Tensor] = {}
        self.curvatures: dict[int, Tensor] = {}

    def on_layer(self, layer: Any, inputs: Any, output: Tensor) -> None:
        """A linear layer has run."""
        if output.requires_grad:
            self.outputs.append((id(layer.weight), output, output if layer.bias is None else output - layer.bias))

    def add(self, loss: Tensor) -> None:
        """Add the derivatives of the loss of some samples, which the layers have computed since the last call."""
        outputs, self.outputs = self.outputs, []
        found = torch.autograd.grad(
            loss, [*self.weights, *(output for _, output, _ in outputs)], create_graph=True, allow_unused=True
        )
        G = dict(zip(map(id, self.weights), found, strict=False))
        pairs: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for (key, _, product), J in zip(outputs, found[len(self.weights) :], strict=True):
            if J is not None:
                pairs.setdefault(key, []).append((product, J))
        q, counted = loss.new_zeros(()), set()
        for weight in self.weights:
            key, gradient = id(weight), G[id(weight)]
            if gradient is None:
                continue
            share, rounding = _sum_of_products([(weight.detach(), gradient)])
            if key in pairs:  # of a layer that is plain, and the only one to use the weight, both are equal
                of_layer, more = _sum_of_products(pairs[key])
                if bool((of_layer - share).detach().abs() <= rounding + more):
                    share = of_layer
                    counted.add(key)
            q = q + share
        del pairs
        curvature = torch.autograd.grad(q, self.weights, allow_unused=True)
        for weight, h in zip(self.weights, curvature, strict=True):
            key, g = id(weight), G[id(weight)]
            if g is not None:
                self._accumulate(self.gradients, key, g.detach())
            if h is not None:
                self._accumulate(self.curvatures, key, h - g.detach() if key in counted and g is not None else h)

    @staticmethod
    def _accumulate(sums: dict[int, Tensor], key: int, term: Tensor) -> None:
        sums[key] = sums[key].add_(term) if key in sums else term.clone()

    def product(self) -> float:
        """The sum of (H W) * g."""
        both = self.gradients.keys() & self.curvatures.keys()
        terms = [
            (self.curvatures[key] * self.gradients[key]).sum(dtype=torch.float64)
            for key in map(id, self.weights)
            if key in both
        ]
        return float(torch.stack(terms).sum())


def _sum_of_products(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The sum of a * b over all pairs of tensors, and what it may be off by rounding; 0 in half precision, where a
    layer's output is too coarse to stand for W x."""
    total = torch.stack([(a * b).sum() for a, b in pairs]).sum()
    norms = torch.stack([torch.linalg.vector_norm(a.detach()) * torch.linalg.vector_norm(b.detach()) for a, b in pairs])
    fine = total.dtype in (torch.float32, torch.float64)
    return total, norms.sum() * (ROUNDING * torch.finfo(total.dtype).eps if fine else 0.0)


def _losses(subject: Subject) -> Iterator[Tensor]:
    """The objective, or its shares of parts of at most `TOGETHER` tokens where samples do not influence each other."""
    from lpzero_hf.capture.microbatches import Indivisible, shares, split
    from lpzero_hf.models.objective import objective

    model, batch, seed = subject.model, subject.batch, subject.seed
    samples, length = batch["input_ids"].shape
    size = max(1, TOGETHER // length)
    parts: list[tuple[slice, dict[str, Any]]] = []
    if size < samples and model.dtype != torch.float16:  # whose small shares of a loss would be lost
        try:
            parts, divided = split(batch, size), shares(model, batch, lambda batch: None)
        except Indivisible:
            parts = []
    if not parts:
        yield objective(model, batch, seed)
    for part, fed in parts:
        yield divided.objective(model, fed, part, seed)


def zen(subject: Subject) -> float:
    """log of the mean over 4 draws of ||f(x) - f(x + 0.01 e)||_F over the real tokens.

    f is the base model's output: its last hidden states, or the logits of a family whose head is no module
    around the base (T5). e is standard Gaussian noise on the output of the input embedding. Lin et al.
    average over draws inside the logarithm, as here; their correction for batch normalisation has no
    counterpart in a transformer.
    """
    from lpzero_hf.models.embeddings import input_embeddings
    from lpzero_hf.models.isolation import isolated
    from lpzero_hf.models.objective import first_output, real_targets, run_model

    model = subject.model.base_model
    fed = {name: value for name, value in subject.batch.items() if name != "labels"}
    real = real_targets(subject.batch)

    def run(perturbed: bool) -> Tensor:
        def perturb(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            return output + NOISE * _noise(output) if perturbed else output

        handles = [module.register_forward_hook(perturb) for module in input_embeddings(subject.model)]
        try:
            output = first_output(run_model(model, fed)).double()
            return output[real] if output.shape[:2] == real.shape else output
        finally:
            for handle in handles:
                handle.remove()

    with isolated(subject.model, seed=subject.seed), torch.no_grad():
        clean = run(perturbed=False)
        distances = [torch.linalg.vector_norm(run(perturbed=True) - clean) for _ in range(REPEATS)]
    return float(torch.stack(distances).mean().log())


def _noise(like: Tensor) -> Tensor:
    """Standard Gaussian noise of that shape: drawn on the CPU, so that a seed gives the same on every device."""
    return torch.randn_like(like, device="cpu").to(like.device)


def zico(subject: Subject) -> float:
    """sum over linear layers of log( sum over entries of mean |G| / std |G| ) over the halves of the minibatch.

    The mean and the (population) standard deviation are over two gradients, one of each half of the
    samples. Entries that do not vary are left out, and layers in which none does.

    Raises:
        NotApplicable: there are fewer than two samples.
    """
    from lpzero_hf.capture.capture import capture

    samples = len(subject.batch["input_ids"])
    if samples < 2:
        raise NotApplicable("it compares halves of the minibatch, which has only one sample")
    halves = []
    for part in (slice(0, samples // 2), slice(samples // 2, None)):
        half = {k: v[part] if isinstance(v, torch.Tensor) else v for k, v in subject.batch.items()}
        keep = Reduction("linear", ("G",), lambda G: G.abs())
        captured = capture(subject.model, half, [keep], subject.layout, seed=subject.seed)
        if keep in captured.failures:
            raise captured.failures[keep]
        halves.append({site: value for _, site, value in captured.values[keep]})
    score = 0.0
    for site in sorted(halves[0].keys() & halves[1].keys()):
        first, second = halves[0][site], halves[1][site]
        mean, deviation = (first + second) / 2, (first - second).abs() / 2
        varies = deviation > 0
        if varies.any():
            score += float((mean[varies] / deviation[varies]).sum(dtype=torch.float64).log())
    return score


PROXIES: list[Proxy] = [
    ModelProxy(
        name="grasp",
        formula="- sum (H g) * W, g the gradient and H the Hessian of l",
        citation="Wang et al., Picking Winning Tickets Before Training, ICLR 2020, arXiv:2002.07376",
        batch_order_invariant=True,
        evaluate=grasp,
        work=12,
        holds=4,
        graph=4,
        together=TOGETHER,
        needs="forward + double backward",
    ),
    ModelProxy(
        name="zen",
        formula="log ||f(x) - f(x + 0.01 e)||_F, e Gaussian on the embeddings, mean of 4",
        citation="Lin et al., Zen-NAS, ICCV 2021, arXiv:2102.01063",
        evaluate=zen,
        work=6,
        needs="5 forward",
    ),
    ModelProxy(
        name="zico",
        formula="sum over linear layers of log sum mean |G| / std |G| over two halves of the minibatch",
        citation="Li et al., ZiCo, ICLR 2023, arXiv:2301.11300",
        evaluate=zico,
        holds=3,
        graph=0.5,  # of half the minibatch
        needs="2 forward + backward on half batches",
    ),
]
