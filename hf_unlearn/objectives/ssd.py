"""Selective synaptic dampening."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number
from .base import Objective

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ssd(Objective):
    """
    Selective synaptic dampening: no loss and no steps. With I_f and I the means of squared gradients of a row's loss,
    over the forget rows and over all rows, each weight w becomes

        w·min(1, ssd_lambda·I / I_f) where I_f > ssd_alpha·I, else w

    With I_f = 40, I = 2, ssd_alpha = 10 and ssd_lambda = 1 a weight of 1 becomes 2/40.

    Differs from the paper: gradients are squared row by row, whatever the batch.
    """

    name: ClassVar[str] = "ssd"
    citation: ClassVar[str] = (
        "Foster et al. 2024, Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening"
    )
    formula: ClassVar[str] = "w ← w·min(1, ssd_lambda·I/I_f) where I_f > ssd_alpha·I; I: mean squared gradients"
    bound: ClassVar[str] = "one edit of the weights; the guard puts it back where it costs too much"
    recovers: ClassVar[bool] = False
    uses_alpha: ClassVar[bool] = False
    ssd_alpha: float = field(
        default=10.0,
        metadata={
            "help": "A weight is dampened where it matters so many times more for forget rows than for all; lower it "
            "where too little is forgotten.",
            "check": partial(number, low=0, open_low=True),
        },
    )
    ssd_lambda: float = field(
        default=1.0,
        metadata={"help": "How much is left of a dampened weight.", "check": partial(number, low=0, open_low=True)},
    )

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return 0.0 * forget_loss + 0.0 * retain_loss

    def edited(self, weights: Tensor, of_forget: Tensor, of_all: Tensor) -> Tensor:
        kept = (self.ssd_lambda * of_all / of_forget.clamp_min(1e-45)).clamp_max(1.0)
        return weights * kept.to(weights.dtype).where(of_forget > self.ssd_alpha * of_all, 1.0)

    @property
    def row_passes(self) -> float:
        return 0.0
