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
        keys = [(step, number, ROW) for number in numbers.tolist()]
        rows = rows_seeded(self.rows, self.at[numbers], keys, self.seeded)
        return [{**row, self.flag: int(n) >= self.order.stable} for row, n in zip(rows, numbers, strict=True)]


def rows_seeded(rows, places: np.ndarray, keys: list[tuple[int, ...]], seeded: Callable[..., None]) -> list[dict]:
    """Rows at some places; those that are drawn as they are read, with generators seeded from each one's key."""
    if is_stored(rows):
        return rows_at(rows, places.tolist())
    found = []
    for place, key in zip(places.tolist(), keys, strict=True):
        seeded(*key)
        found.append(rows[place])
    return found


def collating_problems(schedule, collator: Callable[[list], Mapping]) -> list[str]:
    """
    What is wrong where a collator makes another batch of the same rows although the generators are seeded alike. One
    that raises an error here is taken for sound: the training tells it.

    Args:
        schedule: a data set of lists of rows with `seeded`.
    """
    with random_state_kept():
        rows, made = schedule[0][:2], []
        for _ in range(READS):
            schedule.seeded(0, 0, BATCH)
            try:
                made.append({name: value for name, value in collator([rows]).items() if torch.is_tensor(value)})
            except Exception:
                return []
    first = made[0]
    if all(torch.equal(batch[name].nan_to_num(), first[name].nan_to_num()) for batch in made for name in first):
        return []
    return [
        "`data_collator` makes another batch of the same rows each time, from a generator of its own, so that no later "
        "run could make it again. Let it draw from `random`, `numpy.random` or torch's own generator."
    ]


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
