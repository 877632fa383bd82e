"""Ascent with the retain rows held where they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import CLASSES, LANGUAGE
from .retaining import Retaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class KlMin(Retaining):
    """
    Ascent, held by what the model said of the retain rows: -L_f + beta·mean KL(q ‖ p) over the step's retain labels, q
    the model before the request ([`~hf_unlearn.objectives.retaining.divergence`]). Before the first step it is -L_f:
    -3 where L_f = 3.
    """

    name: ClassVar[str] = "kl_min"
    citation: ClassVar[str] = "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs (KL minimisation)"
    formula: ClassVar[str] = "-L_f + beta·R, R = mean KL(q ‖ p)"
    usual_retain_term: ClassVar[str] = "kl"
    kinds: ClassVar[tuple[str, ...]] = (LANGUAGE, CLASSES)

    def forget_value(self, forget_loss: Tensor) -> Tensor:
        return -forget_loss
