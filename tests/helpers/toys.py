"""Three losses of the same weights, small enough to differentiate by hand, and their passes."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from hf_unlearn.readiness.gradient import readiness_gradient
from hf_unlearn.readiness.moving_weights import norm
from hf_unlearn.readiness.passes import Pass

F64 = torch.float64
ROW_KINDS = ("revocable", "stable", "proxy")


class Quadratic:
    """L(w) = ½ wᵀA w + bᵀw + c for each kind, A symmetric."""

    def __init__(self, n=5, dtype=F64):
        torch.manual_seed(0)
        self.params = [torch.nn.Parameter(torch.randn(n, dtype=dtype))]
        self.parts = {}
        for kind in ROW_KINDS:
            a = torch.randn(n, n, dtype=dtype)
            self.parts[kind] = ((a + a.T) / 2, torch.randn(n, dtype=dtype), float(len(kind)))

    def loss(self, weights, kind):
        a, b, c = self.parts[kind]
        (w,) = weights
        return w @ a @ w / 2 + b @ w + c

    def grad(self, w, kind):
        return self.parts[kind][0] @ w + self.parts[kind][1]


class Net:
    """Cross-entropies of a small tanh network; one matrix serves only the stable rows, one no rows at all."""

    def __init__(self, dtype=F64, seed=0):
        torch.manual_seed(seed)
        shapes = [(4, 6), (6, 3), (4, 3), (2, 2)]
        self.params = [torch.nn.Parameter(0.7 * torch.randn(s, dtype=dtype)) for s in shapes]
        self.data = {k: (torch.randn(5, 4, dtype=dtype), torch.randint(3, (5,))) for k in ROW_KINDS}

    def loss(self, weights, kind):
        a, b, only_stable, _ = weights
        x, y = self.data[kind]
        logits = torch.tanh(x @ a) @ b
        if kind == "stable":
            logits = logits + x @ only_stable
        return torch.nn.functional.cross_entropy(logits, y)


class ToyPass(Pass):
    def __init__(self, toy, kind, seen=None):
        self.toy, self.kind, self.seen = toy, kind, seen

    def forward(self):
        graph = self.toy.loss(self.toy.params, self.kind)

        def backward(weight):
            (graph * weight).backward()
            if self.seen is not None:
                self.seen.append(self.kind)
            return graph.detach()

        return SimpleNamespace(loss=graph.detach(), backward=backward, drop=lambda: None)


def passes(toy, seen=None):
    return {kind: ToyPass(toy, kind, seen) for kind in ROW_KINDS}


def ready(toy, terms, share=1.0, **more):
    """The readiness gradient alone (without the main pass), and the components."""
    for p in toy.params:
        p.grad = None
    start = toy.loss(toy.params, "revocable")
    (share * start).backward()
    main = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in toy.params]
    parts = readiness_gradient(
        toy.params, **passes(toy, **more), terms=terms, revocable_loss=start.detach(), share=share
    )
    got = [torch.zeros_like(p) if p.grad is None else p.grad for p in toy.params]
    return [g - m for g, m in zip(got, main, strict=True)], parts


def error(got, want):
    return float(norm([g - w for g, w in zip(got, want, strict=True)]) / norm(want).clamp_min(1e-300))


TERMS = {
    "gain": {"lambda_efficiency": 0.7, "lambda_retention": 0.0},
    "loss": {"lambda_efficiency": 0.7, "lambda_retention": 0.0, "efficiency": "loss"},
    "retention": {"lambda_efficiency": 0.0, "lambda_retention": 0.6},
    "relearn": {"lambda_efficiency": 0.0, "lambda_retention": 0.0, "lambda_resistance": 0.9, "resistance": "relearn"},
    "align": {"lambda_efficiency": 0.0, "lambda_retention": 0.0, "lambda_resistance": 0.9, "resistance": "align"},
    "all": {"lambda_efficiency": 0.7, "lambda_retention": 0.6, "lambda_resistance": 0.9, "resistance": "relearn"},
    "all, align": {
        "lambda_efficiency": 0.7, "lambda_retention": 0.6, "lambda_resistance": 0.9, "resistance": "align"
    },
}  # fmt: skip
