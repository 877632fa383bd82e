"""
The readiness gradient, (3) to (5) of [`hf_unlearn.readiness`], by double backward: slow, on one device, and the oracle
against which the other modes are tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .moving_weights import norm
from .terms import Terms


def exact_readiness_gradient(
    params: Sequence[Tensor],
    losses: Callable[[Sequence[Tensor], str], Tensor],
    terms: Terms,
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """
    The gradient of (3) to (5), with eager attention: fused attention kernels have no double backward.

    Args:
        params: θ.
        losses: (weights, "revocable" | "stable" | "proxy") -> differentiable mean loss () at those weights.

    Returns:
        `(gradient, components)`: one tensor a parameter, and the values that [`readiness_gradient`] returns.
    """
    theta = [p.detach().requires_grad_() for p in params]
    theta_norm = norm(theta).to(theta[0].dtype)

    def grads(loss, at):
        got = torch.autograd.grad(loss, at, create_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(got, at, strict=True)]

    def length(tensors):
        return torch.sqrt(sum((t**2).sum() for t in tensors))

    def stepped(at, kind, sign):
        g = grads(losses(at, kind), at)
        a = terms.inner_lr * theta_norm / length(g) if terms.inner_normalize else terms.inner_lr
        return [p + sign * a * x for p, x in zip(at, g, strict=True)]

    start = losses(theta, "revocable")
    at = theta
    for _ in range(terms.inner_steps):
        at = stepped(at, "revocable", 1.0)
    components = {"inner_length": length([a - t for a, t in zip(at, theta, strict=True)]) / theta_norm}
    value = 0.0 * start
    after = losses(at, "revocable")
    if terms.lambda_efficiency:
        components["gain"] = after - start
        base = after - start if terms.efficiency == "gain" else after
        value = value - terms.lambda_efficiency * base.clamp_max(terms.efficiency_cap)
    if terms.lambda_retention:
        components["retention"] = losses(at, "stable")
        value = value + terms.lambda_retention * components["retention"]
    if terms.lambda_resistance and terms.resistance == "relearn":
        components["relearned"] = losses(stepped(at, "proxy", -1.0), "revocable")
        value = value - terms.lambda_resistance * components["relearned"].clamp_max(terms.cap)
    elif terms.lambda_resistance and terms.resistance == "align":
        gq, gf = grads(losses(at, "proxy"), at), grads(after, at)
        components["align"] = sum((x * y).sum() for x, y in zip(gq, gf, strict=True)) / (length(gq) * length(gf))
        value = value + terms.lambda_resistance * components["align"]
    gradient = torch.autograd.grad(value, theta, allow_unused=True)
    gradient = [torch.zeros_like(t) if g is None else g for g, t in zip(gradient, theta, strict=True)]
    return gradient, {k: v.detach() for k, v in components.items()}
