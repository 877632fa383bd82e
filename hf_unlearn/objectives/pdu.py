"""Primal-dual unlearning."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number
from .base import CLASSES, LANGUAGE, Objective, RowOutputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pdu(Objective):
    """
    Flattens the logits of forget rows while the retain loss is held at ε = pdu_epsilon by a multiplier λ:

        mean (max_v z_v - mean_v z_v)² over the step's forget labels + λ·(L_r - ε)
        λ ← max(0, λ + pdu_step·(L_r - ε)) after each step, from 1

    With logits (3, 0, 0), L_r = 2, ε = 1 and λ = 1 the value is (3 - 1)² + 1 = 5, and λ becomes 2.

    Differs from the paper: ε and the first λ are the same whatever the model.
    """

    name: ClassVar[str] = "pdu"
    citation: ClassVar[str] = "Entesari et al. 2025, Constrained Entropic Unlearning: A Primal-Dual Framework for LLMs"
    formula: ClassVar[str] = "mean (max z - mean z)² + λ·(L_r - pdu_epsilon), λ follows L_r - pdu_epsilon"
    bound: ClassVar[str] = "even logits, where the term is 0"
    needs: ClassVar[str] = "logits"
    average: ClassVar[str] = "labels"
    kinds: ClassVar[tuple[str, ...]] = (LANGUAGE, CLASSES)
    uses_alpha: ClassVar[bool] = False
    moving: ClassVar[tuple[str, ...]] = ("multiplier",)
    pdu_epsilon: float = field(
        default=0.3, metadata={"help": "Retain loss in nats that is to be held.", "check": partial(number, low=0)}
    )
    pdu_step: float = field(
        default=1.0,
        metadata={
            "help": "Step with which the retain rows' weight follows their loss.",
            "check": partial(number, low=0),
        },
    )
    multiplier: float = 1.0

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return 0.0 * forget_loss + self.multiplier * (retain_loss - self.pdu_epsilon)

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        return rows.of_labels((rows.logits.amax(-1) - rows.logits.mean(-1)) ** 2).sum(1)

    def after_step(self, forget_loss: Tensor, retain_loss: Tensor) -> Pdu:
        moved = self.multiplier + self.pdu_step * (float(retain_loss) - self.pdu_epsilon)
        return replace(self, multiplier=max(0.0, moved)) if moved == moved else self  # of NaN: a skipped step
