"""Adaptive gradient ascent, ∇τ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Objective
from .gaps import SURE

GAPS = ("hinge", "rows", "squared", "matched", "ranked")


def confidence(loss: Tensor) -> Tensor:
    """
    Logit of the confidence p = exp(-loss): log(p / (1 - p)) = -log(expm1(loss)), of any shape (Carlini et al. 2022,
    Membership Inference Attacks From First Principles). Below a loss of 1e-6 nats it goes on along its tangent, so that
    value and gradient are finite at 0 too, and a row there is still pulled up (ours).
    """
    above = loss.clamp_min(SURE)
    return -above - torch.log(-torch.expm1(-above)) + torch.relu(SURE - loss) / -math.expm1(-SURE)


@dataclass(frozen=True)
class NablaTau(Objective):
    """
    Adaptive gradient ascent after Trippa et al. 2024:

        alpha * ReLU(tau - L_f)^2 + (1 - alpha) * L_r

    with L_f and L_r the mean losses of the forget and the retain rows, and tau the mean loss on unseen rows. The
    ascent's strength is what is left of the gap, and exactly zero once the forget rows look unseen.

    Args:
        gap: `"hinge"` as above (the paper). `"squared"` drops the ReLU, a symmetric pull of L_f to tau (what the
            authors' text code computes). `"rows"` (ours) is the hinge on each row: alpha * mean_i ReLU(tau - l_i)^2, so
            that no row stays sure behind others driven far up. `"matched"` (ours) gives each forget row i a target
            tau_i of its own, drawn from the unseen rows' losses: alpha * mean_i (tau_i - l_i)^2, so the *distribution*
            of the forget losses goes to that of the unseen ones. `"ranked"` (ours)
            takes the unseen losses' quantiles as targets, the lowest for the row with the lowest loss before the first
            step, and so on: the least movement. The difference is that of logits of confidence ([`confidence`]), in
            which a loss of .0005 and one of .005 are apart: alpha * mean_i (φ(tau_i) - φ(l_i))^2.
    """

    name: ClassVar[str] = "nabla_tau"
    citation: ClassVar[str] = (
        "Trippa et al. 2024, ∇τ: Gradient-based and Task-Agnostic machine Unlearning, arXiv:2403.14339"
    )
    gap: str = "hinge"

    def __post_init__(self):
        if self.gap not in GAPS:
            raise ValueError(f"`gap` is {self.gap!r}; it must be one of {', '.join(map(repr, GAPS))}.")

    @property
    def aim(self) -> str | None:
        return "target" if self.gap in ("rows", "matched", "ranked") else None

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        retain = (1 - alpha) * retain_loss
        if self.gap == "hinge":
            return alpha * torch.relu(tau - forget_loss) ** 2 + retain
        if self.gap == "squared":
            return alpha * (tau - forget_loss) ** 2 + retain
        return retain

    def row_value(self, nll: Tensor, items: Tensor, aims: Tensor, *, alpha: float) -> Tensor:
        if self.gap == "ranked":
            return alpha * (confidence(aims) - confidence(nll / items)) ** 2
        lacking = aims - nll / items
        return alpha * (torch.relu(lacking) if self.gap == "rows" else lacking) ** 2
