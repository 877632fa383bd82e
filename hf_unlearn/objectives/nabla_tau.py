"""Adaptive gradient ascent, ∇τ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import one_of
from .base import Objective, RowOutputs, Start
from .gaps import GAPS, Gap, Hinge, fitting

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class NablaTau(Objective):
    """
    Adaptive gradient ascent after Trippa et al. 2024:

        alpha * ReLU(tau - L_f)^2 + (1 - alpha) * L_r

    with L_f and L_r the mean losses of the forget and the retain rows, and tau the mean loss on unseen rows: measured
    in `trainers/measuring_tau.py`, updated by `unlearning/schedule.py`. The ascent is as strong as what is left of the
    gap, and exactly zero once L_f has reached tau. With alpha = .2, tau = 2, L_f = 1.5 and L_r = .4 it is
    .2·.25 + .8·.4 = .37.

    Args:
        gap: what stands in place of ReLU(tau - L_f)^2: a name of [`hf_unlearn.objectives.gaps`]. `"auto"` is the
            paper's hinge, but in a request what [`~hf_unlearn.objectives.gaps.fitting`] says.
    """

    name: ClassVar[str] = "nabla_tau"
    citation: ClassVar[str] = (
        "Trippa et al. 2024, ∇τ: Gradient-based and Task-Agnostic machine Unlearning, arXiv:2403.14339"
    )
    formula: ClassVar[str] = "alpha·ReLU(tau - L_f)² + (1 - alpha)·L_r"
    bound: ClassVar[str] = "τ, the loss of unseen rows: the gradient is 0 there"
    stops_at_target: ClassVar[bool] = True
    gap: str = field(
        default="auto",
        metadata={
            "help": "The pull to the target τ: `hinge` (the paper's, on the mean), `rows` (the hinge on each row), "
            "`squared` (symmetric), `level` (symmetric, on each row), `matched` (each forget row has a target of its "
            "own), `ranked` (the same, given out by the rows' rank and met in the logit of confidence); `auto`: "
            "`level` with the target `chance`, else `squared` of language models and `hinge` of classifiers; with "
            "`resistance` always `squared`.",
            "check": partial(one_of, allowed=("auto", *GAPS)),
        },
    )

    @property
    def pull(self) -> Gap:
        """The gap itself."""
        return GAPS["hinge" if self.gap == "auto" else self.gap]

    @property
    def by_rows(self) -> bool:
        return self.pull.by_rows

    @property
    def tolerance(self) -> float:
        return self.pull.tolerance

    @property
    def closes(self) -> bool:
        return isinstance(self.pull, Hinge)

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        retain = (1 - alpha) * retain_loss
        return retain if self.by_rows else alpha * self.pull.mean_value(forget_loss, tau) + retain

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        return alpha * self.pull.row_value(rows.loss, rows.target)

    def targets(self, start: Start) -> list[float] | None:
        return self.pull.targets(start)

    def shortfall(self, forget_loss: float, row_losses: Sequence[float], *, tau: float, targets) -> float:
        return self.pull.shortfall(forget_loss, row_losses, tau=tau, targets=targets)

    def shortfall_of_mean(self, forget_loss: float, *, tau: float, targets) -> float:
        return self.pull.shortfall_of_mean(forget_loss, tau=tau, targets=targets)

    @classmethod
    def fitting(cls, options, of_tokens: bool = False) -> dict:
        if options.gap != "auto":
            return {}
        return {"gap": fitting(target=options.target, resists=options.resistance != "none", of_tokens=of_tokens)}
