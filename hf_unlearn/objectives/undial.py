"""Unlearning by self-distillation with adjusted logits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number
from .base import CLASSES, LANGUAGE, RowOutputs
from .retaining import Retaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Undial(Retaining):
    """
    Self-distillation to the model before the request with the label's logit lowered:

        mean CE(softmax(z_q - undial_beta·onehot(y)), p) over the step's forget labels + beta·R, R none by default

    With z_q = (log 3, 0), y = 0 and undial_beta = log 3 the wanted probabilities are (½, ½).
    """

    name: ClassVar[str] = "undial"
    citation: ClassVar[str] = (
        "Dong et al. 2024, UNDIAL: Self-Distillation with Adjusted Logits for Robust Unlearning in LLMs"
    )
    formula: ClassVar[str] = "mean CE(softmax(z_q - undial_beta·onehot(y)), p) + beta·R"
    bound: ClassVar[str] = "a cross-entropy: it ends at the model before the request without the label"
    needs: ClassVar[str] = "logits"
    reference: ClassVar[str] = "logits"
    average: ClassVar[str] = "labels"
    usual_retain_term: ClassVar[str] = "none"
    kinds: ClassVar[tuple[str, ...]] = (LANGUAGE, CLASSES)
    undial_beta: float = field(
        default=10.0,
        metadata={"help": "By how much the label's logit is lowered.", "check": partial(number, low=0, open_low=True)},
    )

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        import torch

        before = rows.reference_logits
        label = torch.zeros_like(before).scatter(-1, rows.labels.clamp_min(0)[..., None], self.undial_beta)
        wanted = (before - label).softmax(-1)
        return rows.of_labels(-(wanted * rows.logits.log_softmax(-1)).sum(-1)).sum(1)
