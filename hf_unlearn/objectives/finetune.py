"""Fine-tuning on what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import RETAIN, Objective

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Finetune(Objective):
    """L_r alone: goes on with the rows to keep, and lets the others fade. No forget row passes through the model."""

    name: ClassVar[str] = "finetune"
    citation: ClassVar[str] = "Golatkar et al. 2020, Eternal Sunshine of the Spotless Net (fine-tuning, a baseline)"
    formula: ClassVar[str] = "L_r"
    bound: ClassVar[str] = "no ascent"
    uses_alpha: ClassVar[bool] = False

    @property
    def side(self) -> str:
        return RETAIN

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return 0.0 * forget_loss + retain_loss
