"""Unlearning objectives: pure functions of losses, and one registry by name.

Every objective is a scalar function of the *step's* mean forget loss, mean retain loss, or of single forget rows.
The step is everything between two optimizer updates: all micro-batches on all processes. Since such a function
is in general not linear in the batch (a gate opens on the mean), it is never evaluated on a micro-batch. Instead
[`slopes`] takes its derivatives at the step's means, and the trainers back-propagate the linear surrogate
``slope_f * L_f + slope_r * L_r``, whose gradient is the objective's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .schedule import SURE

IGNORE_INDEX = -100
PIECE = 1 << 25  # logits that go through the softmax at a time (ours)

GAPS = ("hinge", "rows", "squared", "matched", "ranked")


def per_row_nll(
    logits: Tensor,  # (B, T, V) of a causal language model, or (B, C) of a classifier
    labels: Tensor,  # (B, T) or (B,), int64; -100 marks what carries no label
) -> tuple[Tensor, Tensor]:
    """
    Negative log-likelihood of each row, in nats, as a sum and a count. Sums and counts are what adds up over
    micro-batches and processes; divide last.

    Three-dimensional logits are those of a causal language model: position t predicts label t + 1. Large logits are
    taken in pieces, whose softmax is computed again in the backward: beside the logits and their gradient, no third
    and fourth copy of them in float32 is held.

    Returns:
        `(nll_sum (B,), n_labels (B,))`: float32 (float64 for float64 logits) and int64.

    Raises:
        ValueError: if the shapes belong to neither case.
    """
    if logits.dim() == 3 and labels.dim() == 2:
        labels = F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)  # not a slice of the logits, which would be a copy
    elif not (logits.dim() == 2 and labels.dim() == 1):
        raise ValueError(
            f"`logits` {tuple(logits.shape)} with `labels` {tuple(labels.shape)}: expected (B, T, V) with (B, T) for a "
            "causal language model, or (B, C) with (B,) for a classifier."
        )
    flat, flat_labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    if logits.numel() <= PIECE:
        nll = _nll(flat, flat_labels)
    else:
        piece = max(1, PIECE // logits.shape[-1])
        nll = torch.cat(
            [
                checkpoint(_nll, x, y, use_reentrant=False, preserve_rng_state=False) if x.requires_grad else _nll(x, y)
                for x, y in zip(flat.split(piece), flat_labels.split(piece), strict=True)
            ]
        )
    return nll.view(labels.shape[0], -1).sum(1), labels.view(labels.shape[0], -1).ne(IGNORE_INDEX).sum(1)


def _nll(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")


def confidence(loss: Tensor) -> Tensor:
    """
    Logit of the confidence p = exp(-loss): log(p / (1 - p)) = -log(expm1(loss)), of any shape (Carlini et al. 2022,
    Membership Inference Attacks From First Principles). Below a loss of 1e-6 nats it goes on along its tangent, so that
    value and gradient are finite at 0 too, and a row there is still pulled up (ours).
    """
    above = loss.clamp_min(SURE)
    return -above - torch.log(-torch.expm1(-above)) + torch.relu(SURE - loss) / -math.expm1(-SURE)


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


@dataclass(frozen=True)
class NablaTau(Objective):
    """
    Adaptive gradient ascent after Trippa et al. 2024:

        alpha * ReLU(tau - L_f)^2 + (1 - alpha) * L_r

    with L_f and L_r the mean losses of the forget and the retain rows, and tau the mean loss on unseen rows. The
    ascent's strength is what is left of the gap, and exactly zero once the forget rows look unseen.

    Args:
        gap: `"hinge"` as above (the paper). `"squared"` drops the ReLU, a symmetric pull of L_f to tau (what the
            authors' text code computes). `"rows"` (ours) is the hinge on each row: alpha * mean_i ReLU(tau - l_i)^2, so
            that no row stays sure behind others driven far up. `"matched"` (ours) gives each forget row i a target
            tau_i of its own, drawn from the unseen rows' losses: alpha * mean_i (tau_i - l_i)^2, so the *distribution*
            of the forget losses goes to that of the unseen ones. `"ranked"` (ours)
            takes the unseen losses' quantiles as targets, the lowest for the row with the lowest loss before the first
            step, and so on: the least movement. The difference is that of logits of confidence ([`confidence`]), in
            which a loss of .0005 and one of .005 are apart: alpha * mean_i (φ(tau_i) - φ(l_i))^2.
    """

    name: ClassVar[str] = "nabla_tau"
    citation: ClassVar[str] = (
        "Trippa et al. 2024, ∇τ: Gradient-based and Task-Agnostic machine Unlearning, arXiv:2403.14339"
    )
    gap: str = "hinge"

    def __post_init__(self):
        if self.gap not in GAPS:
            raise ValueError(f"`gap` is {self.gap!r}; it must be one of {', '.join(map(repr, GAPS))}.")

    @property
    def aim(self) -> str | None:
        return "target" if self.gap in ("rows", "matched", "ranked") else None

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        retain = (1 - alpha) * retain_loss
        if self.gap == "hinge":
            return alpha * torch.relu(tau - forget_loss) ** 2 + retain
        if self.gap == "squared":
            return alpha * (tau - forget_loss) ** 2 + retain
        return retain

    def row_value(self, nll: Tensor, items: Tensor, aims: Tensor, *, alpha: float) -> Tensor:
        if self.gap == "ranked":
            return alpha * (confidence(aims) - confidence(nll / items)) ** 2
        lacking = aims - nll / items
        return alpha * (torch.relu(lacking) if self.gap == "rows" else lacking) ** 2


@dataclass(frozen=True)
class GradientAscent(Objective):
    """Plain ascent on the forget rows, -L_f. Nothing holds the rest of the model: a baseline."""

    name: ClassVar[str] = "gradient_ascent"
    citation: ClassVar[str] = "Jang et al. 2023, Knowledge Unlearning for Mitigating Privacy Risks in Language Models"
    recovers: ClassVar[bool] = False

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return -forget_loss + 0.0 * retain_loss


@dataclass(frozen=True)
class GradDiff(Objective):
    """
    Gradient difference, also NegGrad+: -gamma * L_f + beta * L_r.

    Args:
        gamma: weight of the ascent on the forget rows.
        beta: weight of the descent on the retain rows (`alpha` in the sources; that name is the schedule's here).
    """

    name: ClassVar[str] = "grad_diff"
    citation: ClassVar[str] = (
        "Liu et al. 2022, Continual Learning and Private Unlearning; Kurmanji et al. 2023 (NegGrad+)"
    )
    gamma: float = 1.0
    beta: float = 1.0

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return -self.gamma * forget_loss + self.beta * retain_loss


@dataclass(frozen=True)
class Npo(Objective):
    """
    Negative preference optimisation:

        mean_i (2 / npo_beta) * log(1 + (p_i / q_i)^npo_beta) + beta * L_r

    with p_i the probability of all labels of forget row i and q_i the one that the model before the request gave them.
    At the start a row is driven up as by ascent on the sum of its losses, and the less the more its p_i has fallen.

    Args:
        npo_beta: inverse temperature (β in the paper); towards 0 it is gradient ascent.
        beta: weight of the descent on the retain rows.
    """

    name: ClassVar[str] = "npo"
    citation: ClassVar[str] = (
        "Zhang et al. 2024, Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning, "
        "arXiv:2404.05868"
    )
    aim: ClassVar[str] = "reference"
    npo_beta: float = 0.1
    beta: float = 1.0

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return self.beta * retain_loss

    def row_value(self, nll: Tensor, items: Tensor, aims: Tensor, *, alpha: float) -> Tensor:
        return -2 / self.npo_beta * F.logsigmoid(self.npo_beta * (nll - aims))


OBJECTIVES: dict[str, type[Objective]] = {cls.name: cls for cls in (NablaTau, GradientAscent, GradDiff, Npo)}


def get_objective(name: str, **parameters) -> Objective:
    """
    The objective registered under `name`, with its parameters.

    Raises:
        ValueError: for a name that is not registered or a parameter that the objective does not have; the message
            lists what exists.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"`objective` is {name!r}; it must be one of {', '.join(map(repr, OBJECTIVES))}.")
    known = [field.name for field in fields(OBJECTIVES[name])]
    if unknown := sorted(set(parameters) - set(known)):
        raise ValueError(
            f"The objective {name!r} has no parameter {', '.join(map(repr, unknown))}; it has {known or 'none'}."
        )
    return OBJECTIVES[name](**parameters)


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
