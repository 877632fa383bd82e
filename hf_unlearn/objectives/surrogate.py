"""The linear form of an objective over a step, which splits over micro-batches and processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Objective

if TYPE_CHECKING:
    from torch import Tensor


def slopes(
    objective: Objective,
    forget_loss: Tensor,  # (), the step's, detached
    retain_loss: Tensor,  # (), the step's, detached
    *,
    alpha: float,
    tau: float,
) -> tuple[Tensor, Tensor]:
    """
    Derivatives of `mean_value` with respect to the step's mean forget and retain loss, detached.

    They make any objective linear: the gradient of ``slope_f * L_f + slope_r * L_r`` is the objective's, and that sum
    splits over micro-batches and processes. For ∇τ's hinge they are -2 * alpha * ReLU(tau - L_f) and 1 - alpha.
    """
    import torch

    with torch.enable_grad():
        forget = forget_loss.detach().requires_grad_()
        retain = retain_loss.detach().requires_grad_()
        value = objective.mean_value(forget, retain, alpha=alpha, tau=tau)
        slope_f, slope_r = torch.autograd.grad(value, (forget, retain), allow_unused=True)
    # + 0·loss: NaN for a loss of inf. Without it, inf would pass for a loss beyond τ, where the hinge's slope is 0.
    zero_f, zero_r = 0 * forget_loss.detach(), 0 * retain_loss.detach()
    return (zero_f if slope_f is None else slope_f + zero_f), (zero_r if slope_r is None else slope_r + zero_r)


def is_linear(objective: Objective) -> bool:
    """
    Whether the slope of `mean_value` is the same at any forget loss: it need not wait for the mean of the whole step.
    Probed at a few losses, α and τ.
    """
    import torch

    def at(forget: float) -> float:
        losses = (torch.tensor(x, dtype=torch.float64) for x in (forget, 1.0))
        return float(slopes(objective, *losses, alpha=0.5, tau=2.0)[0])

    return len({at(forget) for forget in (0.1, 1.0, 3.0, 9.0)}) == 1


def form_problems(objective: Objective) -> list[str]:
    """
    Why the linear form would not be this objective's: probed at a few losses, since it would be wrong without a word.
    """
    import torch

    def at(forget: float, retain: float) -> list[float]:
        losses = (torch.tensor(x, dtype=torch.float64) for x in (forget, retain))
        return [float(slope) for slope in slopes(objective, *losses, alpha=0.5, tau=2.0)]

    problems, (forget, retain) = [], at(1.0, 1.0)
    if objective.by_rows and forget:
        problems.append(
            f"`mean_value` of the objective {objective.name!r} depends on the forget loss, beside its `row_value`."
        )
    if not all(abs(at(f, r)[1] - retain) <= 1e-9 * abs(retain) for f, r in ((1.0, 3.0), (0.5, 1.0))):
        problems.append(
            f"`mean_value` of the objective {objective.name!r} must be linear in the retain loss, with a slope that "
            "does not depend on the forget loss."
        )
    return problems
