"""Negative preference optimisation."""

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
class Npo(Retaining):
    """
    Negative preference optimisation:

        mean_i (2 / npo_beta) * log(1 + (p_i / q_i)^npo_beta) + beta * L_r

    with p_i the probability of all labels of forget row i and q_i the one that the model before the request gave them.
    At the start a row is driven up as by ascent on the sum of its losses, and the less the more its p_i has fallen.
    With p_i = q_i a row has the value (2 / npo_beta)·log 2; with p_i = q_i / 4 and npo_beta = ½ 4·log 1.5 = 1.622.
    """

    name: ClassVar[str] = "npo"
    citation: ClassVar[str] = (
        "Zhang et al. 2024, Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning, "
        "arXiv:2404.05868"
    )
    formula: ClassVar[str] = "mean_i (2/npo_beta)·log(1 + (p_i/q_i)^npo_beta) + beta·R"
    bound: ClassVar[str] = "the loss before the request: a row's gradient fades as its probability falls below that"
    reference: ClassVar[str] = "loss"
    npo_beta: float = field(
        default=0.1,
        metadata={
            "help": "Inverse temperature, β in the paper; the smaller, the nearer to gradient ascent. The reference is "
            "each forget row's summed loss before the request, from a column `reference_nll` where the rows have one.",
            "check": partial(number, low=0, open_low=True),
        },
    )

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        from torch.nn.functional import logsigmoid

        return -2 / self.npo_beta * logsigmoid(self.npo_beta * (rows.nll - rows.reference))
