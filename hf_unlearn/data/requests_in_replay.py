"""
Which rows play the simulated requests of a training that can be replayed: as its order, arithmetic of seed and step.

Requests draw from slices that have begun, and from their row numbers, deleted ones too. A deleted row that is drawn is
a hole there: the request has a row less, and no other row moves. So rows have no influence before the border of their
slice, nor any at all once they are deleted. This is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .order import draw_request
from .replay_order import ReplayOrder


@dataclass(frozen=True)
class RequestsInReplay:
    """
    Args:
        order: of the training.
        rows: row numbers that a turn draws; 0: the revocable rows of the step itself play the request.
        every: a turn comes on each such step.
        start: share of the steps before which none comes.
    """

    order: ReplayOrder
    rows: int
    every: int
    start: float

    @cached_property
    def first(self) -> int:
        """Step of the first turn: a slice has begun."""
        return max(math.ceil(self.start * self.order.steps), int(self.order.borders.min()))

    def has_turn(self, step: int) -> bool:
        return step >= self.first and (step - self.first) % self.every == 0

    def numbers(self, step: int) -> np.ndarray:
        """Row numbers, holes included, that play the request of a step that has its turn."""
        if not self.rows:
            numbers = self.order.step(step)
            return numbers[numbers >= self.order.stable]
        begun = np.repeat(self.order.borders <= step, self.order.slices)
        pool = self.order.stable + np.flatnonzero(begun)
        return draw_request(pool, self.rows, self.order.seed, (step - self.first) // self.every)
