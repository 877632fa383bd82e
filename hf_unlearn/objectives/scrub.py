"""SCRUB."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from .base import CLASSES, FORGET, LANGUAGE, RETAIN, Objective, RowOutputs
from .retaining import divergence

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scrub(Objective):
    """
    SCRUB, rounds of a step up and a step down, with q the model before the request:

        up, on the forget rows alone: -mean KL(q ‖ p) over the step's forget labels
        down, on the retain rows alone: mean KL(q ‖ p) over the step's retain labels + L_r

    Before the first step both divergences are 0, and so are their gradients: the first step up has none, the first
    step down that of L_r alone.

    Differs from the paper: there a round is a pass over all forget rows and one over all retain rows, and at the end
    come passes over retain rows alone; here it is two steps, down and up, and the stop rule says when they end.
    """

    name: ClassVar[str] = "scrub"
    citation: ClassVar[str] = "Kurmanji et al. 2023, Towards Unbounded Machine Unlearning (SCRUB)"
    formula: ClassVar[str] = "by turns: -mean KL(q ‖ p) on forget rows; mean KL(q ‖ p) + L_r on retain rows"
    needs: ClassVar[str] = "logits"
    reference: ClassVar[str] = "logits"
    average: ClassVar[str] = "labels"
    retain_average: ClassVar[str] = "labels"
    kinds: ClassVar[tuple[str, ...]] = (LANGUAGE, CLASSES)
    uses_alpha: ClassVar[bool] = False
    moving: ClassVar[tuple[str, ...]] = ("turn",)
    turn: float = 1.0

    @property
    def retain_reference(self) -> str:
        return "logits"

    @property
    def side(self) -> str:
        return RETAIN if self.turn % 2 else FORGET

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return 0.0 * forget_loss + (self.turn % 2) * retain_loss

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        return -divergence(rows)

    def retain_row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        return divergence(rows)

    def after_step(self, forget_loss: Tensor, retain_loss: Tensor) -> Scrub:
        return replace(self, turn=(self.turn + 1) % 2)
