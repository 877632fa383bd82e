"""Gradient difference."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number
from .retaining import Retaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GradDiff(Retaining):
    """
    Gradient difference, also NegGrad+: -gamma * L_f + beta * L_r. Nothing holds the ascent: where it is to end is for
    the stop rule to say. With γ = β = 1, L_f = 3 and L_r = 2 it is -1.
    """

    name: ClassVar[str] = "grad_diff"
    citation: ClassVar[str] = (
        "Liu et al. 2022, Continual Learning and Private Unlearning; Kurmanji et al. 2023 (NegGrad+)"
    )
    formula: ClassVar[str] = "-gamma·L_f + beta·R"
    gamma: float = field(
        default=1.0, metadata={"help": "Weight of the ascent on the forget rows.", "check": partial(number, low=0)}
    )

    def forget_value(self, forget_loss: Tensor) -> Tensor:
        return -self.gamma * forget_loss
