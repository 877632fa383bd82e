"""Plain gradient ascent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import Objective

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GradientAscent(Objective):
    """Plain ascent on the forget rows, -L_f. Nothing holds the rest of the model: a baseline."""

    name: ClassVar[str] = "gradient_ascent"
    citation: ClassVar[str] = "Jang et al. 2023, Knowledge Unlearning for Mitigating Privacy Risks in Language Models"
    recovers: ClassVar[bool] = False
    uses_alpha: ClassVar[bool] = False

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return -forget_loss + 0.0 * retain_loss
