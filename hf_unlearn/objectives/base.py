"""The contract of an objective, and its linear form over a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Objective:
    """
    What an unlearning step minimises. Subclasses define [`mean_value`], and [`row_value`] too where `aim` is not None.

    `mean_value` must be linear in the retain loss; it may be any function of the forget loss.
    """

    name: ClassVar[str]
    citation: ClassVar[str]
    recovers: ClassVar[bool] = True  # has a retain term, so that a dip of what is kept can mend in the same run
    # What a forget row brings beside its loss: a `"target"`, the mean loss it is to have, or its `"reference"`, the sum
    # of its losses before the request. The forget term is then a mean over rows, and `mean_value` holds the rest.
    aim: ClassVar[str | None] = None

    @property
    def by_rows(self) -> bool:
        return self.aim is not None

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        """The loss () as a function of the step's mean forget loss () and mean retain loss (), in nats."""
        raise NotImplementedError

    def row_value(self, nll: Tensor, items: Tensor, aims: Tensor, *, alpha: float) -> Tensor:
        """The forget term of each row (n,), from the sum of its losses (n,), its labels' number (n,), its aim (n,)."""
        raise NotImplementedError


def slopes(
    objective: Objective,
    forget_loss: Tensor,  # (), the step's, detached
    retain_loss: Tensor,  # (), the step's, detached
    *,
    alpha: float,
    tau: float,
) -> tuple[Tensor, Tensor]:
    """
    Derivatives of the objective with respect to the step's mean forget and retain loss, detached.

    They make any objective linear: the gradient of ``slope_f * L_f + slope_r * L_r`` is the objective's, and that sum
    splits over micro-batches and processes. For ∇τ's hinge they are -2 * alpha * ReLU(tau - L_f) and 1 - alpha.
    """
    with torch.enable_grad():
        forget = forget_loss.detach().requires_grad_()
        retain = retain_loss.detach().requires_grad_()
        value = objective.mean_value(forget, retain, alpha=alpha, tau=tau)
        slope_f, slope_r = torch.autograd.grad(value, (forget, retain), allow_unused=True)
    # 0·loss keeps a loss of inf from passing for one beyond the target, where the hinge has no slope
    zero_f, zero_r = 0 * forget_loss.detach(), 0 * retain_loss.detach()
    return (zero_f if slope_f is None else slope_f + zero_f), (zero_r if slope_r is None else slope_r + zero_r)
