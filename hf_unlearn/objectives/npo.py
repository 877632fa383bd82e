"""Negative preference optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from .base import Objective


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
