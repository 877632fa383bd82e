"""Plain gradient ascent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .retaining import Retaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GradientAscent(Retaining):
    """Plain ascent on the forget rows, -L_f: -3 where L_f = 3. Nothing holds the rest of the model: a baseline."""

    name: ClassVar[str] = "gradient_ascent"
    citation: ClassVar[str] = "Jang et al. 2023, Knowledge Unlearning for Mitigating Privacy Risks in Language Models"
    formula: ClassVar[str] = "-L_f"
    usual_retain_term: ClassVar[str] = "none"

    def forget_value(self, forget_loss: Tensor) -> Tensor:
        return -forget_loss
