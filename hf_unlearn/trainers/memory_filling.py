"""How the tables of a memory are filled: one source after the other, or all together where one table is for all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

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

    def __init__(
        self, store: Store, values: list[torch.nn.Parameter], places: list[np.ndarray], seen: Callable[[int], Seen]
    ):
        self.store, self.values, self.places, self.seen = store, values, places, seen

    @property
    def groups(self) -> list[np.ndarray]:
        """Places of the rows that are trained together."""
        return self.places

    def sources(self, group: int) -> list[int]:
        """Numbers of the sources whose rows these are."""
        return [group]

    def begin(self, group: int) -> None:
        """Before the first step of a group."""
        self.store.working = None
        self.store.working = self.store.begin(*self.seen(group))
        self.empty()

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

    @property
    def groups(self):
        return [np.concatenate(self.places)] if self.places else []

    def sources(self, group):
        return list(range(len(self.places)))

    def begin(self, group):
        self.store.working, reads = None, []
        for source in range(len(self.places)):
            inputs, _, _, answers = self.seen(source)
            reads.append([self.store.reads(at, states[answers]) for at, states in enumerate(inputs)])
        self.store.working = sharing = self.store.share(reads)
        for values, entries in zip(self.values, sharing.entries, strict=True):
            values.data = values.new_zeros(len(entries), values.shape[1])

    def step(self, places):
        numbers = np.repeat(np.arange(len(self.places)), list(map(len, self.places)))
        source_of = dict(zip(np.concatenate(self.places).tolist(), numbers.tolist(), strict=True))
        self.store.working.readers = torch.tensor([source_of[place] for place in places.tolist()])

    def end(self, group):
        config = self.store.config
        width = config.window * self.store.keys[0].width
        values = [one.detach().cpu() for one in self.values]
        return list(enumerate(self.store.working.tables(values, len(self.places), width)))

    def empty(self):
        for values in self.values:
            values.data = values.new_zeros(self.store.config.entries_per_source, values.shape[1])


FILLINGS = {"own": OwnFilling, "shared": SharedFilling}
