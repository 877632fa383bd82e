"""Cross-entropy unlearning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import CLASSES, LANGUAGE, RowOutputs
from .retaining import Retaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CeU(Retaining):
    """
    Cross-entropy to what the model itself would say without the label: mean -Σ_v t_v·log p_v + beta·R, with t the
    detached softmax of the logits whose label's one is -∞. The first label of each row of a language model is skipped.

    The mean is over the step's forget labels that are left. With logits (0, 0, 0) and label 0, t is (0, ½, ½) and the
    value log 3.
    """

    name: ClassVar[str] = "ce_u"
    citation: ClassVar[str] = "Yang 2025, CE-U: Cross Entropy Unlearning"
    formula: ClassVar[str] = "mean CE(softmax(z with z_y = -∞), p) but for each row's first label + beta·R"
    bound: ClassVar[str] = "the model's own other answers: the gradient fades as the label's probability does"
    needs: ClassVar[str] = "logits"
    average: ClassVar[str] = "later_labels"
    kinds: ClassVar[tuple[str, ...]] = (LANGUAGE, CLASSES)

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        import torch

        place = rows.labels.clamp_min(0)[..., None]
        others = rows.logits.detach().scatter(-1, place, -torch.inf).softmax(-1)
        values = rows.of_labels(-(others * rows.logits.log_softmax(-1)).sum(-1))
        return (values * is_later(rows.labels)).sum(1)


def is_later(labels: Tensor) -> Tensor:
    """(n, T) or (n, 1), whether a label counts: all of a classifier's, and those of a language model but each first."""
    if labels.dim() == 1:
        return labels.ne(-100)[:, None]
    return labels.ne(-100) & labels.ne(-100).cumsum(1).gt(1)
