"""
Which row comes when in a training whose requests are replayed: rows that may be asked for come in the last steps only.

A row has a number in its stream: stable rows in one, revocable rows in another, slice after slice. Its places depend on
that number, on the seed and on the fields below, which the plan of the training keeps, and on no other row: where a row
is deleted its places are left empty (holes), and all others stay where they are.

Source: slices as in SISA (Bourtoule et al. 2021); holes and the form of the order are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .order import permutation

STABLE, REVOCABLE, PLACES = 9, 10, 11  # of the permutations here; lower numbers are those of `order.py`


@dataclass(frozen=True)
class ReplayOrder:
    """
    The rows of each step. Row numbers: 0 … S - 1 are the stable rows, S … N - 1 the revocable ones, slice by slice.

    Every row comes as often as it would in a plain training (floor or ceil of the number of epochs). A revocable row
    comes between the border of its slice and the end, and each step from `tail_start` on has the same share of such
    rows. `own` of a slice's places lie before the next border, the others over what follows, so that an early slice is
    not forgotten.

    Args:
        stable: S, at least 1.
        slices: number of rows of each slice, in the order of their borders, each at least 1.
        step_rows: places of an optimizer step, over micro-batches and processes.
        steps: T.
        tail_start: first step that may hold revocable rows.
        seed: of all permutations.
        own: share of the places of a slice before the next border; the last slice has all there.
        drop_last: whether the last step of an epoch, where it has fewer places, is left out.
    """

    stable: int
    slices: tuple[int, ...]
    step_rows: int
    steps: int
    tail_start: int
    seed: int
    own: float = 0.7
    drop_last: bool = False

    @property
    def rows(self) -> int:
        """N."""
        return self.stable + sum(self.slices)

    @property
    def steps_an_epoch(self) -> int:
        """As many as a loader of all rows makes."""
        whole, rest = divmod(self.rows, self.step_rows)
        return max(1, whole + (rest > 0 and not self.drop_last))

    @cached_property
    def sizes(self) -> np.ndarray:
        """(T,) places of each step: `step_rows`, and at the end of an epoch what is left."""
        epoch = np.full(self.steps_an_epoch, self.step_rows, dtype=np.int64)
        epoch[-1] = min(self.step_rows, self.rows - self.step_rows * (self.steps_an_epoch - 1))
        return np.resize(epoch, self.steps)

    @cached_property
    def visits(self) -> np.ndarray:
        """(slices,) places of each slice, in proportion to its rows."""
        return np.rint(self.sizes.sum() / self.rows * np.array(self.slices, dtype=np.float64)).astype(np.int64)

    @cached_property
    def revocable(self) -> np.ndarray:
        """(T,) places of each step that are for revocable rows."""
        tail = np.where(np.arange(self.steps) < self.tail_start, 0, self.sizes)
        return np.diff(np.cumsum(tail) * self.visits.sum() // max(1, tail.sum()), prepend=0)

    @cached_property
    def borders(self) -> np.ndarray:
        """(slices,) the first step with a row of each slice: its snapshot stands before it. T where it has no place."""
        first = np.full(len(self.slices), self.steps, dtype=np.int64)
        step_of = np.repeat(np.arange(self.steps), self.revocable)
        slice_of = np.searchsorted(np.cumsum(self.slices), self._revocable_stream - self.stable, side="right")
        np.minimum.at(first, slice_of, step_of)
        return first

    def step(self, step: int) -> np.ndarray:
        """(places,) row numbers of a step, holes included; revocable ones are spread evenly over it."""
        end = int(self._revocable_ends[step])
        revocable = self._revocable_stream[end - int(self.revocable[step]) : end]
        end = int(self._stable_ends[step])
        size, count = int(self.sizes[step]), len(revocable)
        places = np.arange(size)
        here = ((places + 1) * count) // size > (places * count) // size
        rows = np.empty(size, dtype=np.int64)
        rows[here] = revocable
        rows[~here] = self._turns(self.stable, end - (size - count), end, STABLE)
        return rows

    def parts(self, step: int, count: int) -> list[np.ndarray]:
        """The step cut into `count` micro-batches of about as many places, in order; of a small step some are empty."""
        return np.array_split(self.step(step), count)

    def passes(self, first: int, holes: np.ndarray, parts: int = 1) -> int:
        """
        Row passes from a step on: the places of these steps less the holes, and a row for each micro-batch that is left
        without any while others of its step are not.

        Args:
            holes: row numbers.
            parts: micro-batches of a step, on all processes together.
        """
        if first >= self.steps:
            return 0
        empty = np.zeros(self.rows, dtype=bool)
        empty[holes] = True
        begin = int(self._revocable_ends[first] - self.revocable[first])
        gone = empty[self._revocable_stream[begin:]]
        without = np.maximum(parts - self.sizes, 0)  # parts of a small step, which have no row from the start
        total = int(self.sizes[first:].sum() + without[first:].sum()) - int(gone.sum())
        if parts == 1:
            return total
        touched = first + np.unique(
            np.searchsorted(self._revocable_ends[first:] - begin, np.flatnonzero(gone), "right")
        )
        for step in touched.tolist():
            left = [np.count_nonzero(~empty[numbers]) for numbers in self.parts(step, parts)]
            total += (left.count(0) if any(left) else 0) - int(without[step])
        return total

    @cached_property
    def _revocable_ends(self) -> np.ndarray:
        return np.cumsum(self.revocable)

    @cached_property
    def _stable_ends(self) -> np.ndarray:
        return np.cumsum(self.sizes - self.revocable)

    @cached_property
    def _revocable_stream(self) -> np.ndarray:
        """(revocable places,) row numbers, in the order of their places."""
        total, begin, density = float(self.visits.sum()), 0.0, 0.0
        due, numbers, first = [np.zeros(0)], [np.zeros(0, dtype=np.int64)], self.stable
        for j, (rows, count) in enumerate(zip(self.slices, self.visits.tolist(), strict=True)):
            near = count if j == len(self.slices) - 1 else round(self.own * count)
            length, far = near / (1 - density), count - near  # on a line of `total` places with one visit each
            due.append(begin + (np.arange(near) + 0.5) * length / max(1, near))
            begin += length
            due.append(begin + (np.arange(far) + 0.5) * (total - begin) / max(1, far))
            density += far / (total - begin) if far else 0.0
            numbers.append(first + self._turns(rows, 0, count, REVOCABLE, j))
            first += rows
        return np.concatenate(numbers)[np.argsort(np.concatenate(due), kind="stable")]

    def _turns(self, rows: int, begin: int, end: int, *key: int) -> np.ndarray:
        """Numbers below `rows` at the places from begin to end of a stream that has each once before any twice."""
        turns = np.arange(begin // rows, -(-end // rows))
        stream = [permutation(rows, self.seed, int(turn), *key) for turn in turns] or [np.zeros(0, dtype=np.int64)]
        return np.concatenate(stream)[begin - begin // rows * rows :][: end - begin]
