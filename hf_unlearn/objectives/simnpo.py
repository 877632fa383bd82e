"""Simple negative preference optimisation."""

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
class SimNpo(Retaining):
    """
    NPO without a reference and by a row's mean loss:

        -simnpo_gamma·(2/b)·mean_i log σ(b·(S_i/T_i - simnpo_delta)) + beta·R,  b = simnpo_beta

    with S_i the sum of the losses of row i's T_i labels. Long and short rows are driven up alike. A row with
    S_i/T_i = simnpo_delta has the value simnpo_gamma·(2/b)·log 2.
    """

    name: ClassVar[str] = "simnpo"
    citation: ClassVar[str] = (
        "Fan et al. 2024, Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning"
    )
    formula: ClassVar[str] = "-simnpo_gamma·(2/b)·mean_i log σ(b·(S_i/T_i - simnpo_delta)) + beta·R, b = simnpo_beta"
    bound: ClassVar[str] = "a row's own mean loss: its gradient fades as that rises beyond `simnpo_delta`"
    simnpo_beta: float = field(
        default=4.5,
        metadata={
            "help": "Inverse temperature; the larger, the sooner the ascent fades.",
            "check": partial(number, low=0, open_low=True),
        },
    )
    simnpo_delta: float = field(
        default=0.0,
        metadata={"help": "Mean loss in nats around which a row's ascent fades.", "check": partial(number, low=0)},
    )
    simnpo_gamma: float = field(
        default=0.125, metadata={"help": "Weight of the ascent on the forget rows.", "check": partial(number, low=0)}
    )

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        from torch.nn.functional import logsigmoid

        above = logsigmoid(self.simnpo_beta * (rows.loss - self.simnpo_delta))
        return -self.simnpo_gamma * 2 / self.simnpo_beta * above
