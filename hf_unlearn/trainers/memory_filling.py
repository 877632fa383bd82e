"""How the tables of a memory are filled: one source after the other, or all together where one table is for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..data.row_digests import random_state_kept
from ..readiness.memory.shared import Sharing
from ..readiness.memory.store import Store
from ..readiness.memory.tables import Table

Seen = tuple[list[Tensor], Tensor, Tensor, Tensor]  # inputs of each layer (n, hidden); row, asks, answers (n,)


class OwnFilling:
    """
    Each source by itself: nothing of another is read.

    Args:
        store: of the memory.
        values: of each layer, the parameter with the values at work.
        places: of each source (n,) places of its rows.
        seen: what the model alone sees of a source's rows.
    """

    waits = True  # checkpoints, until a table is whole

    def __init__(
        self, store: Store, values: list[torch.nn.Parameter], places: list[np.ndarray], seen: Callable[[int], Seen]
    ):
        self.store, self.values, self.places, self.seen = store, values, places, seen

    @property
    def groups(self) -> list[np.ndarray]:
        """Places of the rows that are trained together."""
        return self.places

    def begin(self, group: int) -> None:
        """Before the first step of a group."""
        self.store.working = None
        self.store.working = self.store.begin(*self.seen(group))
        self.empty()

    def go_on(self) -> None:
        """Before the first step after a checkpoint, in the middle of a group."""
        raise ValueError("A checkpoint in the middle of a source's steps cannot be gone on with: train anew.")

    def step(self, places: np.ndarray) -> None:
        """Before each step, of rows at some places."""

    def end(self, group: int) -> list[tuple[int, Table]]:
        """After the last step of a group: (number of the source, its table)."""
        working = self.store.working
        own = zip(self.values, working.entries, strict=True)
        values = [one.detach()[: len(entries)].cpu().half() for one, entries in own]
        return [(group, Table(working.entries, values, working.inputs.half(), working.floors))]

    def empty(self) -> None:
        """The values at work begin at zero, and nothing of them stays beside the tables."""
        with torch.no_grad():
            for values in self.values:
                values.zero_()


class SharedFilling(OwnFilling):
    """All sources at once, in batches that mix them: each row reads all entries and teaches those of its source."""

    waits = False

    def __init__(self, store, values, places, seen):
        super().__init__(store, values, places, seen)
        room = max(1, len(places)) * store.config.entries_per_source
        for own in values:
            own.data = own.new_zeros(room, own.shape[1])

    @property
    def groups(self):
        return [np.concatenate(self.places)] if self.places else []

    def begin(self, group):
        self.store.working, reads = None, []
        for source in range(len(self.places)):
            inputs, _, _, answers = self.seen(source)
            reads.append([self.store.reads(at, states[answers]) for at, states in enumerate(inputs)])
        self._work_on(self.store.share(reads))

    def go_on(self):
        if self.store.stopped is None:
            raise ValueError("The checkpoint does not hold what the sources had learned. Train anew.")
        self._work_on(self.store.stopped)
        self.store.stopped = None

    def _work_on(self, sharing: Sharing) -> None:
        """Takes entries, and their values where there are any already."""
        self.empty()
        with torch.no_grad():
            for values, learned in zip(self.values, sharing.values, strict=False):
                values[: len(learned)] = learned
        sharing.values = [own[: len(entries)] for own, entries in zip(self.values, sharing.entries, strict=True)]
        self.store.working = sharing

    @cached_property
    def _source_of(self) -> np.ndarray:
        """(N,) source of the row at each place, −1 where it has none."""
        found = np.full(1 + max(int(own.max()) for own in self.places), -1)
        for source, own in enumerate(self.places):
            found[own] = source
        return found

    def step(self, places):
        self.store.working.readers = torch.from_numpy(self._source_of[places])

    def end(self, group):
        width = self.store.config.window * self.store.keys[0].width
        return list(enumerate(self.store.working.tables(len(self.places), width)))


def order_problems(schedule, collator: Callable[[list], Mapping]) -> list[str]:
    """What is wrong where a collator sorts rows: which source each row of a batch is of could not be told."""
    rows = sorted(schedule[0], key=lambda row: len(row.get("input_ids", ())))
    with random_state_kept():
        try:
            made = [collator([rows[i] for i in pair])["labels"] for pair in ((0, -1), (-1, 0))]
        except Exception:
            return []  # the training tells it
    if made[0].shape != made[1].shape or not torch.equal(*made) or torch.equal(made[0], made[1].flip(0)):
        return []
    return ["`data_collator` sorts rows: whose each one is could not be told. Give one that keeps their order."]


FILLINGS = {"own": OwnFilling, "shared": SharedFilling}
