"""Weighted gradient ascent."""

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
class Wga(Retaining):
    """
    Weighted gradient ascent: -Σ sg[p^wga_beta]·n / M + beta·R, with n = -log p of each of the step's M forget labels.

    The weight p^wga_beta is that of the label's own probability, detached: labels that are unlikely already are left
    alone, which ascent drives furthest. One row of one label with p = ½ and β = 1 has the value -½·log 2.
    """

    name: ClassVar[str] = "wga"
    citation: ClassVar[str] = (
        "Wang et al. 2025, Rethinking LLM Unlearning Objectives: A Gradient Perspective and Go Beyond"
    )
    formula: ClassVar[str] = "-Σ sg[p^wga_beta]·n / M + beta·R"
    bound: ClassVar[str] = "the probability of each label: its weight fades with it"
    needs: ClassVar[str] = "token_nll"
    average: ClassVar[str] = "labels"
    wga_beta: float = field(
        default=1.0,
        metadata={
            "help": "Power of a label's probability that weighs it; larger: less for unlikely labels.",
            "check": partial(number, low=0),
        },
    )

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        weight = (-self.wga_beta * rows.token_nll).exp().detach()
        return -(weight * rows.token_nll).sum(1)
