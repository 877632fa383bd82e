"""Gradient difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .base import Objective


@dataclass(frozen=True)
class GradDiff(Objective):
    """
    Gradient difference, also NegGrad+: -gamma * L_f + beta * L_r.

    Args:
        gamma: weight of the ascent on the forget rows.
        beta: weight of the descent on the retain rows (`alpha` in the sources; that name is the schedule's here).
    """

    name: ClassVar[str] = "grad_diff"
    citation: ClassVar[str] = (
        "Liu et al. 2022, Continual Learning and Private Unlearning; Kurmanji et al. 2023 (NegGrad+)"
    )
    gamma: float = 1.0
    beta: float = 1.0

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return -self.gamma * forget_loss + self.beta * retain_loss
