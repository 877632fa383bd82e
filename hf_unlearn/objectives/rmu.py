"""Representation misdirection."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..utils.checks import number, whole
from .base import Objective, RowOutputs

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rmu(Objective):
    """
    Representation misdirection: the hidden states h of one layer are led to a random direction on forget rows, and held
    where they were on retain rows:

        mean ‖h - rmu_scale·u‖²/d over the step's forget labels + rmu_weight·mean ‖h - h_q‖²/d over its retain labels

    with u a unit vector of d random numbers of at least 0, fixed by the run's seed, and h_q before the request. Of a
    classifier the mean is over a row's positions, then over rows. The forward stops at the layer, and what lies behind
    it neither runs nor learns, but from general texts (`general_dataset`), which go through the whole model. With d = 1
    (u = 1), rmu_scale = 2 and h = 0 at one label the first term is 4.

    Differs from the paper: all trainable weights up to the layer learn, not those of three layers alone.
    """

    name: ClassVar[str] = "rmu"
    citation: ClassVar[str] = "Li et al. 2024, The WMDP Benchmark: Measuring and Reducing Malicious Use With Unlearning"
    formula: ClassVar[str] = "at one layer: mean ‖h - rmu_scale·u‖²/d + rmu_weight·mean ‖h - h_q‖²/d on retain rows"
    bound: ClassVar[str] = "the random direction, where the term is 0"
    needs: ClassVar[str] = "hidden_states"
    average: ClassVar[str] = "labels"
    retain_average: ClassVar[str] = "labels"
    uses_alpha: ClassVar[bool] = False
    rmu_layer: int = field(
        default=-1,
        metadata={
            "help": "Layer whose output is led away, from 0 on; -1: a third of the depth.",
            "check": partial(whole, low=-1),
        },
    )
    rmu_scale: float = field(
        default=2.0,
        metadata={"help": "Length of the vector that forget rows are led to.", "check": partial(number, low=0)},
    )
    rmu_weight: float = field(
        default=1.0,
        metadata={"help": "Weight of the retain rows' distance from where they were.", "check": partial(number, low=0)},
    )

    @property
    def retain_reference(self) -> str:
        return "hidden_states"

    def hidden_layer(self, layers: int) -> int:
        return layers // 3 if self.rmu_layer < 0 else self.rmu_layer

    def mean_value(self, forget_loss: Tensor, retain_loss: Tensor, *, alpha: float, tau: float) -> Tensor:
        return 0.0 * forget_loss + 0.0 * retain_loss

    def row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        import torch

        hidden = rows.hidden_states
        drawn = torch.rand(hidden.shape[-1], generator=torch.Generator().manual_seed(rows.seed), dtype=torch.float64)
        towards = (self.rmu_scale * drawn / drawn.norm()).to(hidden)
        return _of_rows(rows, (hidden - towards).square().mean(-1))

    def retain_row_value(self, rows: RowOutputs, *, alpha: float) -> Tensor:
        apart = (rows.hidden_states - rows.reference_hidden).square().mean(-1)
        return self.rmu_weight * _of_rows(rows, apart)


def _of_rows(rows: RowOutputs, values: Tensor) -> Tensor:
    """(n,): the mean of the values (n, T) over a row's positions, as often as the row has labels."""
    return rows.of_labels(values).sum(1) / rows.labels.ne(-100).sum(1).clamp_min(1) * rows.items
