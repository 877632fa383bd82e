"""What most objectives share: the term that holds the retain rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number, one_of
from .base import BOTH, FORGET, Objective

if TYPE_CHECKING:
    from torch import Tensor

RETAIN_TERMS = ("nll", "none")


@dataclass(frozen=True)
class Retaining(Objective):
    """
    An objective with beta · R, the retain term: L_r for "nll", 0 for "none". (`beta` is `alpha` in most sources; that
    name is the schedule's here.) Subclasses define `forget_value` or `row_value`. Without a retain term no retain row
    passes through the model.

    Class attributes:

    * `usual_retain_term`: what `retain_term="auto"` stands for.
    """

    usual_retain_term: ClassVar[str] = "nll"
    uses_alpha: ClassVar[bool] = False
    retain_term: str = field(
        default="auto",
        metadata={
            "help": "What holds the retain rows: `nll`, their loss; `none`; `auto`: what the source of the objective "
            "has (`none` for `gradient_ascent` and `undial`, else `nll`).",
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

    def forget_value(self, forget_loss: Tensor) -> Tensor:
        """The part () of the loss that depends on the step's mean forget loss ()."""
        return 0.0 * forget_loss

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return self.forget_value(forget_loss) + (self.beta if self.term == "nll" else 0.0) * retain_loss

    @classmethod
    def fitting(cls, options) -> dict:
        return {"retain_term": cls.usual_retain_term} if options.retain_term == "auto" else {}
