"""Proxies that need passes of their own: second derivatives, perturbed inputs, several minibatches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lpzero_hf.capture.spec import Reduction
from lpzero_hf.errors import NotApplicable
from lpzero_hf.models.later import torch
from lpzero_hf.proxies.base import ModelProxy, Proxy, Subject

if TYPE_CHECKING:
    from torch import Tensor, nn

NOISE = 0.01  # alpha of Zen-NAS
REPEATS = 4


def grasp(subject: Subject) -> float:
    """- sum of (H g) * W over the weights of all linear layers, g the gradient and H the Hessian of l.

    H g is the gradient of g . stop(g), by a second backward pass. Attention runs on the kernel that can be
    differentiated twice.
    """
    from lpzero_hf.models.isolation import isolated
    from lpzero_hf.models.kernels import plain_kernels
    from lpzero_hf.models.objective import objective

    sites = {id(site.parameter) for site in subject.layout.weights}
    with (
        isolated(subject.model, trainable=lambda p: id(p) in sites, seed=subject.seed) as replaced,
        plain_kernels(subject.model),
    ):
        weights = [p for key, p in replaced.items() if key in sites]
        loss = objective(subject.model, subject.batch, subject.seed)
        gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        product = sum((g * g.detach()).sum() for g in gradients if g is not None)
        curvature = torch.autograd.grad(product, weights, allow_unused=True)  # type: ignore[arg-type]  # sum()
        terms = [(h * w).sum(dtype=torch.float64) for h, w in zip(curvature, weights, strict=True) if h is not None]
        return -float(torch.stack(terms).sum().detach())


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
        holds=3,
        needs="forward + double backward",
    ),
    ModelProxy(
        name="zen",
        formula="log ||f(x) - f(x + 0.01 e)||_F, e Gaussian on the embeddings, mean of 4",
        citation="Lin et al., Zen-NAS, ICCV 2021, arXiv:2102.01063",
        evaluate=zen,
        needs="5 forward",
    ),
    ModelProxy(
        name="zico",
        formula="sum over linear layers of log sum mean |G| / std |G| over two halves of the minibatch",
        citation="Li et al., ZiCo, ICLR 2023, arXiv:2301.11300",
        evaluate=zico,
        holds=3,
        needs="2 forward + backward on half batches",
    ),
]
