"""Bad teaching."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import CLASSES, LANGUAGE, RowOutputs
from .retaining import Retaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class BadTeacher(Retaining):
    """
    Bad teaching: mean KL(u ‖ p) over the step's forget labels + beta·mean KL(q ‖ p) over its retain labels, with u the
    even distribution, and q the model before the request. With p = (¼, ¾) at one forget label the first term is
    ½·log 2 + ½·log ⅔ = .1438.

    Differs from the paper: there the bad teacher is a randomly initialised model; even probabilities are the limit of
    that, and take no second model.
    """

    name: ClassVar[str] = "bad_teacher"
    citation: ClassVar[str] = (
        "Chundawat et al. 2023, Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks Using an Incompetent "
        "Teacher"
    )
    formula: ClassVar[str] = "mean KL(even ‖ p) + beta·R, R = mean KL(q ‖ p)"
    bound: ClassVar[str] = "even probabilities, where the term is 0"
    needs: ClassVar[str] = "logits"
    average: ClassVar[str] = "labels"
    usual_retain_term: ClassVar[str] = "kl"
    kinds: ClassVar[tuple[str, ...]] = (LANGUAGE, CLASSES)

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        log_p = rows.logits.log_softmax(-1)
        return rows.of_labels(-log_p.mean(-1) - math.log(log_p.shape[-1])).sum(1)
