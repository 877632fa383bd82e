"""Gradient difference."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number
from .base import Objective

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GradDiff(Objective):
    """
    Gradient difference, also NegGrad+: -gamma * L_f + beta * L_r. (`beta` is `alpha` in the sources; that name is the
    schedule's here.) Nothing holds the ascent: where it is to end is for the stop rule to say.
    """

    name: ClassVar[str] = "grad_diff"
    citation: ClassVar[str] = (
        "Liu et al. 2022, Continual Learning and Private Unlearning; Kurmanji et al. 2023 (NegGrad+)"
    )
    uses_alpha: ClassVar[bool] = False
    gamma: float = field(
        default=1.0, metadata={"help": "Weight of the ascent on the forget rows.", "check": partial(number, low=0)}
    )
    beta: float = field(
        default=1.0, metadata={"help": "Weight of the descent on the retain rows.", "check": partial(number, low=0)}
    )

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return -self.gamma * forget_loss + self.beta * retain_loss
