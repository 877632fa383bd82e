"""
A replayable order as a data set: one item a micro-batch, with the rows that are there.

Rows that are drawn anew each time they are read (pictures flipped at random) are read with generators seeded from
(seed, step, row number), and a collator that draws finds them seeded from (seed, step, micro-batch): neither a row less
nor a worker more changes what the other rows are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from .order import rows_at
from .replay_order import ReplayOrder
from .row_digests import READS, is_stored, random_state_kept

ROW, BATCH = 13, 14  # what the generators are seeded for


class ReplaySchedule(Dataset):
    """
    Item i is the list of rows of micro-batch i of the whole training: those of one step follow each other, and of these
    the ones that processes compute side by side. A micro-batch without rows holds one that counts nothing.

    Args:
        rows: the data set.
        order: which row number comes when.
        at: (N,) place in `rows` of each row number; -1: a hole.
        parts: micro-batches of a step, on all processes together.
        flag: column that is to say whether a row is revocable; it is filled in here.
        seeded: seeds all generators from some whole numbers; it may run in a worker.
    """

    def __init__(self, rows, order: ReplayOrder, at: np.ndarray, parts: int, flag: str, seeded: Callable[..., None]):
        self.rows, self.order, self.at, self.parts, self.flag, self.seeded = rows, order, at, parts, flag, seeded
        self.stand_in = np.flatnonzero(at >= 0)[:1]

    def __len__(self) -> int:
        return self.order.steps * self.parts

    @property
    def per_epoch(self) -> int:
        """Items of an epoch."""
        return self.order.steps_an_epoch * self.parts

    def numbers(self, step: int) -> list[np.ndarray]:
        """For each micro-batch of the step, the numbers of its rows that are there."""
        return [numbers[self.at[numbers] >= 0] for numbers in self.order.parts(step, self.parts)]

    def __getitem__(self, i: int) -> list:
        step, part = divmod(i, self.parts)
        numbers = self.numbers(step)[part]
        if not len(numbers):
            numbers = self.stand_in
        rows = self.read(step, numbers)
        self.seeded(step, part, BATCH)
        return rows

    def read(self, step: int, numbers: np.ndarray) -> list[dict]:
        """Rows that are there, flagged, as the step reads them."""
        if is_stored(self.rows):
            rows = rows_at(self.rows, self.at[numbers].tolist())
        else:
            rows = []
            for number in numbers.tolist():
                self.seeded(step, number, ROW)
                rows.append(self.rows[int(self.at[number])])
        return [{**row, self.flag: int(n) >= self.order.stable} for row, n in zip(rows, numbers, strict=True)]


def collates_alike(schedule: ReplaySchedule, collator: Callable[[list], Mapping]) -> bool:
    """
    Whether a collator makes the same batch of the same rows each time that the generators are seeded alike: else it
    draws from a generator of its own. One that raises an error here is taken for sound: the training tells it.
    """
    with random_state_kept():
        rows, made = schedule[0][:2], []
        for _ in range(READS):
            schedule.seeded(0, 0, BATCH)
            try:
                made.append({name: value for name, value in collator([rows]).items() if torch.is_tensor(value)})
            except Exception:
                return True
    first = made[0]
    return all(torch.equal(batch[name].nan_to_num(), first[name].nan_to_num()) for batch in made for name in first)


class EpochOfSchedule(Sampler[int]):
    """
    The items of one epoch of a schedule, in order; `epoch` is a function, as that of `SpreadSampler`.

    Args:
        schedule: a data set with `per_epoch`, the number of items of an epoch.
    """

    def __init__(self, schedule, epoch: Callable[[], int]):
        self.per_epoch, self.total, self.epoch = schedule.per_epoch, len(schedule), epoch

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self):
        begin = self.epoch() * self.per_epoch
        return iter(range(begin, min(begin + self.per_epoch, self.total)))  # the last epoch may be cut by `max_steps`
