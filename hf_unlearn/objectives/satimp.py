"""Saturation and importance."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number
from .base import RowOutputs
from .retaining import Retaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Satimp(Retaining):
    """
    Ascent weighted by saturation and importance: -satimp_gamma·Σ sg[p^β₁·(1 - p)^β₂]·n / M + beta·R, with n = -log p of
    each of the step's M forget labels, β₁ = satimp_beta1 and β₂ = satimp_beta2.

    The first factor leaves alone what is unlikely already, the second what the model is sure of, so that the labels
    in between move most. One row of one label with p = ½ and the defaults has the value -0.1·2⁻⁶·log 2.
    """

    name: ClassVar[str] = "satimp"
    citation: ClassVar[str] = (
        "Yang et al. 2025, Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning (SatImp)"
    )
    formula: ClassVar[str] = "-satimp_gamma·Σ sg[p^satimp_beta1·(1 - p)^satimp_beta2]·n / M + beta·R"
    bound: ClassVar[str] = "the probability of each label: its weight fades with it"
    needs: ClassVar[str] = "token_nll"
    average: ClassVar[str] = "labels"
    satimp_beta1: float = field(
        default=5.0,
        metadata={"help": "Power of a label's probability p that weighs it.", "check": partial(number, low=0)},
    )
    satimp_beta2: float = field(
        default=1.0, metadata={"help": "Power of 1 - p that weighs a label.", "check": partial(number, low=0)}
    )
    satimp_gamma: float = field(
        default=0.1, metadata={"help": "Weight of the ascent on the forget rows.", "check": partial(number, low=0)}
    )

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        nll = rows.token_nll.detach()
        weight = (-self.satimp_beta1 * nll).exp() * (-(-nll).expm1()) ** self.satimp_beta2
        return -self.satimp_gamma * (weight * rows.token_nll).sum(1)
