"""Random labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import CLASSES, LANGUAGE, RowOutputs
from .drawing import other_labels
from .retaining import Retaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RandomLabel(Retaining):
    """
    Random labels: mean -log p of a random other label + beta·R. The label of a row (of a language model: that of each
    of its places) is drawn once, by the run's seed, from all but the row's own, whatever the batch.

    With two classes the other one is learnt: a row with p = (¼, ¾) and label 0 has the value -log ¾.
    """

    name: ClassVar[str] = "random_label"
    citation: ClassVar[str] = "Graves et al. 2021, Amnesiac Machine Learning"
    formula: ClassVar[str] = "mean -log p(a random other label, fixed by seed) + beta·R"
    bound: ClassVar[str] = "a cross-entropy: it ends where the other labels are learnt"
    needs: ClassVar[str] = "logits"
    average: ClassVar[str] = "labels"
    kinds: ClassVar[tuple[str, ...]] = (LANGUAGE, CLASSES)

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        drawn = other_labels(rows.labels, rows.places, rows.logits.shape[-1], rows.seed)
        log_p = rows.logits.log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
        return rows.of_labels(-log_p).sum(1)
