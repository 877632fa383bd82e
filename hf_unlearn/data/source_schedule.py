"""The schedule of a memory's training as a data set: source after source, each by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch.utils.data import Dataset

from .order import permutation
from .replay_schedule import BATCH, ROW, rows_seeded

ORDER = 15  # what the order of a source's rows is drawn for


class SourceSchedule(Dataset):
    """
    Item i is the list of rows of step i. Each source has as many epochs over its own rows, in batches of no other's;
    which of its rows come when depends on their number and the seed alone. So neither steps nor batches of a source
    change when another comes or goes. Rows that are drawn anew each time they are read, and a collator that draws, find
    the generators seeded from the step's number among its source's own.

    Args:
        rows: the data set.
        sources: of each source (n,) places of its rows.
        epochs: over the rows of a source.
        batch: rows of a step, at most.
        seeded: seeds all generators from some whole numbers; it may run in a worker.
    """

    def __init__(
        self, rows, sources: list[np.ndarray], epochs: int, batch: int, seed: int, seeded: Callable[..., None]
    ):
        self.rows, self.sources, self.epochs, self.batch = rows, sources, epochs, batch
        self.seed, self.seeded = seed, seeded
        self.steps = [epochs * math.ceil(len(own) / batch) for own in sources]
        self.starts = np.concatenate([[0], np.cumsum(self.steps)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def per_epoch(self) -> int:
        """Items of what counts as one of the training's epochs: an equal share of all."""
        return len(self) // self.epochs

    def locate(self, step: int) -> tuple[int, int]:
        """(the source that a step is of, the number of the step among its own)."""
        source = int(np.searchsorted(self.starts, step, side="right")) - 1
        return source, step - int(self.starts[source])

    def places(self, step: int) -> np.ndarray:
        """Places of the step's rows in the data set."""
        source, own = self.locate(step)
        rows = self.sources[source]
        epoch, k = divmod(own, self.steps[source] // self.epochs)
        order = permutation(len(rows), self.seed, epoch, ORDER)
        return rows[order[k * self.batch : (k + 1) * self.batch]]

    def __getitem__(self, step: int) -> list[dict]:
        if not 0 <= step < len(self):
            raise IndexError(step)
        places, own = self.places(step), self.locate(step)[1]
        rows = rows_seeded(self.rows, places, [(own, k, ROW) for k in range(len(places))], self.seeded)
        self.seeded(own, 0, BATCH)
        return rows
