"""What the two preference objectives share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number
from .base import LANGUAGE, RowOutputs
from .retaining import Retaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Dpo(Retaining):
    """
    Direct preference of another answer w over a forget row's own l, against the model before the request:

        -(2/b)·mean_i log σ(b·[(S_l - S_l^q) - (S_w - S_w^q)]) + beta·R,  b = dpo_beta

    with S the sum of an answer's losses and S^q the one before the request. Before the first step each row has the
    value (2/b)·log 2; the gradient is that of S_w - S_l, and fades as w becomes the likelier of the two.
    """

    formula: ClassVar[str] = "-(2/b)·mean_i log σ(b·[(S_l - S_l^q) - (S_w - S_w^q)]) + beta·R, b = dpo_beta"
    bound: ClassVar[str] = "the preference: a row's gradient fades as the other answer becomes the likelier one"
    reference: ClassVar[str] = "loss"
    kinds: ClassVar[tuple[str, ...]] = (LANGUAGE,)
    dpo_beta: float = field(
        default=0.1,
        metadata={
            "help": "Inverse temperature; the smaller, the nearer to ascent on the row and descent on the other.",
            "check": partial(number, low=0, open_low=True),
        },
    )

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        from torch.nn.functional import logsigmoid

        preferred = (rows.nll - rows.reference) - (rows.alternate.nll - rows.alternate.reference)
        return -2 / self.dpo_beta * logsigmoid(self.dpo_beta * preferred)
