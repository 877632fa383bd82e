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

    The forget rows are among all rows, so that I_f / I is at most their number over that of the forget rows: where a
    tenth of the rows is asked for, no weight is dampened with ssd_alpha = 10. A new adapter has nothing to dampen.

    Differs from the paper's code, not from its formula: gradients are squared row by row (the diagonal of the Fisher
    information), whatever the batch; there they are means over a batch, in which those of unlike rows cancel, so that
    a ratio, and with it an ssd_alpha that fits, is larger there.
    """

    name: ClassVar[str] = "ssd"
    citation: ClassVar[str] = (
        "Foster et al. 2024, Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening"
    )
    formula: ClassVar[str] = "w ← w·min(1, ssd_lambda·I/I_f) where I_f > ssd_alpha·I; I: mean squared gradients"
    bound: ClassVar[str] = "one edit of the weights; the guard puts it back where it costs too much"
    recovers: ClassVar[bool] = False
    uses_alpha: ClassVar[bool] = False
    strength: ClassVar[tuple[str, str]] = ("Lower `ssd_alpha`", "Raise `ssd_alpha` or `ssd_lambda`")
    ssd_alpha: float = field(
        default=10.0,
        metadata={
            "help": "A weight is dampened where it matters so many times as much for forget rows as for all. Lower it "
            "where too little is forgotten; it must be below the number of all rows over that of the forget rows, and "
            "where no weight is dampened a warning says how large the largest ratio is.",
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

    def idle_edit(self, most: float, n_forget: int, n: int) -> str:
        if not most:
            return "No trainable weight has a gradient of the forget rows' loss. Train other weights."
        if self.ssd_alpha >= most:
            return (
                f"No weight matters more than {most:.3g} times as much for the forget rows as for all, and `ssd_alpha` "
                f"is {self.ssd_alpha:g}; with {n_forget} of {n} rows asked for it must be below {n / n_forget:.3g}. "
                f"Lower it to less than {most:.3g}, {most / 3:.2g} for a start."
            )
        return (
            "The weights that matter more for the forget rows are 0, as those of a new adapter, or `ssd_lambda` "
            f"({self.ssd_lambda:g}) leaves them whole: lower it."
        )

    @property
    def row_passes(self) -> float:
        return 0.0
