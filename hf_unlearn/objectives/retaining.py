"""What most objectives share: the term that holds the retain rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number, one_of
from .base import BOTH, FORGET, Objective, RowOutputs

if TYPE_CHECKING:
    from torch import Tensor

RETAIN_TERMS = ("nll", "kl", "none")


@dataclass(frozen=True)
class Retaining(Objective):
    """
    An objective with beta · R, the retain term: L_r for "nll", 0 for "none", and for "kl" the mean of KL(q ‖ p) over
    the step's retain labels, with q the model before the request: what it said is kept, right or wrong. (`beta` is
    `alpha` in most sources; that name is the schedule's here.) Subclasses define `forget_value` or `row_value`. Without
    a retain term no retain row passes through the model.

    Class attributes:

    * `usual_retain_term`: what `retain_term="auto"` stands for.
    """

    usual_retain_term: ClassVar[str] = "nll"
    retain_average: ClassVar[str] = "labels"
    uses_alpha: ClassVar[bool] = False
    retain_term: str = field(
        default="auto",
        metadata={
            "help": "What holds the retain rows: `nll`, their loss; `kl`, what the model said of them before the "
            "request, in a table made before the first step; `none`; `auto`: what the source of the objective has "
            "(`none` for `gradient_ascent` and `undial`, `kl` for `kl_min` and `bad_teacher`, else `nll`).",
            "check": partial(one_of, allowed=("auto", *RETAIN_TERMS)),
        },
    )
    beta: float = field(
        default=1.0, metadata={"help": "Weight of the descent on the retain rows.", "check": partial(number, low=0)}
    )

    @property
    def term(self) -> str:
        """The retain term itself."""
        return self.usual_retain_term if self.retain_term == "auto" else self.retain_term

    @property
    def recovers(self) -> bool:
        return self.term != "none"

    @property
    def side(self) -> str:
        return BOTH if self.recovers else FORGET

    @property
    def retains_by_rows(self) -> bool:
        return self.term == "kl"

    @property
    def retain_needs(self) -> str:
        return "logits" if self.term == "kl" else "row_nll"

    @property
    def retain_reference(self) -> str:
        return "logits" if self.term == "kl" else "none"

    def retain_row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        return self.beta * divergence(rows)

    def forget_value(self, forget_loss: Tensor) -> Tensor:
        """The part () of the loss that depends on the step's mean forget loss ()."""
        return 0.0 * forget_loss

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return self.forget_value(forget_loss) + (self.beta if self.term == "nll" else 0.0) * retain_loss

    @classmethod
    def fitting(cls, options, of_tokens: bool = False) -> dict:
        return {"retain_term": cls.usual_retain_term} if options.retain_term == "auto" else {}


def divergence(rows: RowOutputs) -> Tensor:
    """
    Sum over a row's labels of KL(q ‖ p) = Σ_v q_v·(log q_v - log p_v), (n,), nats; q: the model before the request.

    With q = (½, ½) and p = (¼, ¾) at one label it is ½·log 2 + ½·log ⅔ = .1438.
    """
    before, now = rows.reference_logits.log_softmax(-1), rows.logits.log_softmax(-1)
    return rows.of_labels((before.exp() * (before - now)).sum(-1)).sum(1)
