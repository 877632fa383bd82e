"""
One table for all sources, in which each entry has an owner (Grimes et al. 2026).

    out(h) = MLP(h) + Σ_{j ∈ top-k} w_j(h) V[j],     in training V[j] ← own·V[j] + (1 − own)·sg(V[j])            (10)

where sg stops the gradient, and `own` is 1 where entry j is of the source that the row is of. So every row reads all
entries, and what it teaches goes into those of its source. There is no gate: each position of each text reads. To
delete a source is to take its entries away; since others have read them while they learned, what is left is near a
training without the source, and not the same.

Differs from the paper: entries that are taken away say nothing, as those do that nobody owns; the paper also keeps them
from being read, for which their numbers would have to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .choosing import PublicReads, scored
from .store import WORKING, Store
from .tables import Table, Tables, read

PARTS = ("entries", "owners", "values")  # of what is being trained, in a checkpoint


@dataclass
class Sharing:
    """
    The sources whose entries are being trained, together.

    Args:
        entries: of each layer (M,) ascending.
        owners: of each layer (M,) int64, which of the sources each entry is of.
        readers: (B,) int64, which of them each row of the batch at hand is of.
        values: of each layer (M, hidden), as they are now: for a checkpoint, and at the end for the tables.
    """

    entries: list[Tensor]
    owners: list[Tensor]
    readers: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    values: list[Tensor] = field(default_factory=list)

    def tables(self, sources: int, width: int) -> list[Table]:
        """
        What each source owns, in half precision.

        Args:
            width: of a window of inputs; the tables have room for such, and hold none.
        """
        no_inputs = torch.zeros(0, width, dtype=torch.half), torch.zeros(0)
        values = [own.detach().cpu() for own in self.values]
        layers = list(zip(self.entries, self.owners, values, strict=True))
        return [
            Table(
                [entries[owners == source] for entries, owners, _ in layers],
                [own[owners == source].half() for _, owners, own in layers],
                *no_inputs,
            )
            for source in range(sources)
        ]


@dataclass
class JoinedEntries:
    """
    All entries that somebody owns, on one device.

    Args:
        sources: names, as the owners count them.
        keys: of each layer (M,) int64, ascending numbers of entries.
        values: of each layer (M, hidden).
        owners: of each layer (M,) int64.
    """

    sources: list[str]
    keys: list[Tensor]
    values: list[Tensor]
    owners: list[Tensor]

    def drop(self, sources: list[str], entries: int) -> None:
        """Takes sources out: numbers and values of their entries; `entries`, N, is of no use here."""
        gone = torch.tensor([slot for slot, source in enumerate(self.sources) if source in set(sources)])
        kept = [~torch.isin(owners, gone.to(owners.device)) for owners in self.owners]
        for own in (self.keys, self.values, self.owners):
            own[:] = [one[some] for one, some in zip(own, kept, strict=True)]


class SharedTables(Tables):
    """The entries of the sources in one table."""

    def _join(self, device: torch.device) -> JoinedEntries:
        tables = list(self.by_source.values())
        joined = JoinedEntries(list(self.by_source), [], [], [])
        for layer in range(self.layers):
            keys, order = torch.cat([table.entries[layer] for table in tables]).sort()
            owners = torch.repeat_interleave(torch.tensor([len(table.entries[layer]) for table in tables]))
            values = torch.cat([table.values[layer] for table in tables])
            joined.keys.append(keys.to(device))
            joined.values.append(values[order].to(device))
            joined.owners.append(owners[order].to(device))
        return joined


class SharedStore(Store):
    """Views, keys and the shared table of one adapter."""

    tables_type = SharedTables
    stopped: Sharing | None = None  # of a checkpoint in the middle of a training, to go on from

    def share(self, reads: list[list[tuple[Tensor, Tensor]]]) -> Sharing:
        """
        Gives sources their entries, of those that nobody owns.

        Args:
            reads: of each source, of each layer, `(weights, numbers)` of [`Store.reads`] where its rows answer.
        """
        found, device = Sharing([], []), torch.device("cpu")
        for at in range(len(self.hidden)):
            joined = self.tables.joined(device)
            taken = torch.zeros(0, dtype=torch.long) if joined is None else joined.keys[at]
            own = [one[at] for one in reads]
            entries, owners = claimed(own, self.public[at], taken, self.config.entries_per_source)
            found.entries.append(entries)
            found.owners.append(owners)
        return found

    def _keep_windows(self, inputs):
        """There is no gate that would compare them."""

    def added(self, at: int, h: Tensor, values: Tensor, training: bool) -> Tensor | None:
        if self.recording is not None:
            self.recording.take(at, h)
            return None
        working, joined = self.working, self.tables.joined(h.device)
        if working is None and joined is None:
            return None
        flat = h.reshape(-1, h.shape[-1])
        weights, numbers = self.reads(at, flat)
        said = 0
        if joined is not None:
            said = read(weights, numbers, joined.keys[at], joined.values[at])
        if working is not None:
            entries, owners = self._on(h.device, ("working", at), lambda: (working.entries[at], working.owners[at]))
            whose = (owners, self._readers(len(flat), h.device)) if training else None
            said = said + read(weights, numbers, entries, values[: len(entries)], whose)
        return said.to(h.dtype).reshape(*h.shape[:-1], -1)

    def _readers(self, positions: int, device: torch.device) -> Tensor:
        """(B·T,) which source each position of the batch is of."""
        readers = self.working.readers.to(device)
        return readers.repeat_interleave(positions // len(readers))

    def tensors(self):
        found = super().tensors()
        if self.working is not None:
            for name in PARTS:
                for at, own in enumerate(getattr(self.working, name)):
                    found[f"{WORKING}.{at}.{name}"] = own.detach().cpu().contiguous()
        return found

    def load(self, found):
        super().load(found)
        every = [{name: found.get(f"{WORKING}.{at}.{name}") for name in PARTS} for at in range(len(self.hidden))]
        if all(own is not None for layer in every for own in layer.values()):
            self.stopped = Sharing(**{name: [layer[name] for layer in every] for name in PARTS})


def claimed(
    reads: list[tuple[Tensor, Tensor]], public: PublicReads, taken: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """
    Which entries of a layer each source comes to own: `(entries (M,) ascending, owners (M,))`.

    Greedily, as in the paper: of all pairs of a source and an entry that its answers read the one with the largest
    Σ weight · idf first; an entry has one owner, and a source at most `most`.

    Args:
        reads: of each source `(weights (n, k), numbers (n, k))`.
        taken: (t,) entries that are owned already.
    """
    every = [scored(numbers, weights, public) for weights, numbers in reads]
    entries, scores = (torch.cat(parts) for parts in zip(*every, strict=True))
    sources = torch.repeat_interleave(torch.tensor([len(own) for own, _ in every]))
    free = ~torch.isin(entries, taken) & (scores > 0)
    entries, scores, sources = entries[free], scores[free], sources[free]
    order = scores.argsort(descending=True, stable=True)
    owner_of, owned = {}, [0] * len(reads)
    for entry, source in zip(entries[order].tolist(), sources[order].tolist(), strict=True):
        if owned[source] < most and entry not in owner_of:
            owner_of[entry] = source
            owned[source] += 1
    chosen = sorted(owner_of)
    return torch.tensor(chosen, dtype=torch.long), torch.tensor([owner_of[one] for one in chosen], dtype=torch.long)
