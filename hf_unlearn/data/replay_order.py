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

    A revocable row comes `often` times as often as in a plain training (give or take one place), between the border of
    its slice and the end, evenly: rows that came in bursts behind their border made the model forget others. Borders
    lie in the first part of the tail, `spread` of it, one a slice, in proportion to the rows before it. So the share of
    revocable rows in a step rises over that part, and is even from there on. All other places are the stable rows',
    each once before any twice.

    Args:
        stable: S, at least 1.
        slices: number of rows of each slice, in the order of their borders, each at least 1.
        step_rows: places of an optimizer step, over micro-batches and processes.
        steps: T.
        tail_start: first step that may hold revocable rows.
        seed: of all permutations.
        often: visits of a revocable row, in shares of those that it would have in a plain training.
        spread: share of the tail in which the borders lie.
        drop_last: whether the last step of an epoch, where it has fewer places, is left out.
    """

    stable: int
    slices: tuple[int, ...]
    step_rows: int
    steps: int
    tail_start: int
    seed: int
    often: float = 1.0
    spread: float = 0.5
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
        """(slices,) places of each slice, in proportion to its rows; in all at least one, for a border to exist."""
        each = self.often * self.sizes.sum() / self.rows
        visits = np.rint(each * np.array(self.slices, dtype=np.float64)).astype(np.int64)
        visits[-1] += not visits.any()
        return visits

    @cached_property
    def revocable(self) -> np.ndarray:
        """(T,) places of each step that are for revocable rows."""
        tail = np.where(np.arange(self.steps) < self.tail_start, 0, self.sizes)
        ends = np.searchsorted(self._revocable_places[0], np.cumsum(tail) / max(1, tail.sum()))
        return _within(np.diff(ends, prepend=0), tail)

    @cached_property
    def borders(self) -> np.ndarray:
        """(slices,) the first step with a row of each slice: its snapshot stands before it. T where it has no place."""
        first = np.full(len(self.slices), self.steps, dtype=np.int64)
        step_of = np.repeat(np.arange(self.steps), self.revocable)
        numbers = self._revocable_places[1][: len(step_of)]
        slice_of = np.searchsorted(np.cumsum(self.slices), numbers - self.stable, side="right")
        np.minimum.at(first, slice_of, step_of)
        return first

    def step(self, step: int) -> np.ndarray:
        """(places,) row numbers of a step, holes included; revocable ones are spread evenly over it."""
        end = int(self._revocable_ends[step])
        revocable = self._revocable_places[1][end - int(self.revocable[step]) : end]
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
        gone = empty[self._revocable_places[1][begin:]]
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
    def _revocable_places(self) -> tuple[np.ndarray, np.ndarray]:
        """When each revocable place comes, in shares of the tail, and the row numbers (revocable places,), by that."""
        due, numbers, first, total = [np.zeros(0)], [np.zeros(0, dtype=np.int64)], self.stable, sum(self.slices)
        for j, (rows, count) in enumerate(zip(self.slices, self.visits.tolist(), strict=True)):
            border = self.spread * (first - self.stable) / total
            due.append(border + (1 - border) * (np.arange(count) + 0.5) / max(1, count))
            numbers.append(first + self._turns(rows, 0, count, REVOCABLE, j))
            first += rows
        at = np.concatenate(due)
        order = np.argsort(at, kind="stable")
        return at[order], np.concatenate(numbers)[order]

    def _turns(self, rows: int, begin: int, end: int, *key: int) -> np.ndarray:
        """Numbers below `rows` at the places from begin to end of a stream that has each once before any twice."""
        turns = np.arange(begin // rows, -(-end // rows))
        stream = [permutation(rows, self.seed, int(turn), *key) for turn in turns] or [np.zeros(0, dtype=np.int64)]
        return np.concatenate(stream)[begin - begin // rows * rows :][: end - begin]


def _within(counts: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Counts (T,) with what a step has no room for moved to the next one that has, or else to one before."""
    if (counts <= room).all():
        return counts
    counts = counts.copy()
    over = 0
    for order in (range(len(counts)), range(len(counts) - 1, -1, -1)):
        for step in order:
            counts[step] += over
            over = max(0, int(counts[step] - room[step]))
            counts[step] -= over
    return counts
