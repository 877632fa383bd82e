"""
The tables of the sources: what each has taught, and the inputs that it speaks at.

Of a source they hold, per memory layer, the numbers of its entries and their values, and its inputs at the first memory
layer. For reading, all tables are joined into sorted lists, in which an entry of a source is found by bisection: no
tensor is ever as wide as the number of entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Table:
    """
    What one source has taught. It is personal data, the inputs as much as the values.

    Args:
        entries: of each memory layer (m,) int64, ascending: numbers of the entries that the source owns there.
        values: of each memory layer (m, hidden).
        inputs: (t, window·width) windows of the source's own prompts, as the first memory layer saw them: it is
            recognised by them.
        floors: (t,) how like each of them a window must be at least.
    """

    entries: list[Tensor]
    values: list[Tensor]
    inputs: Tensor
    floors: Tensor

    @property
    def bytes(self) -> int:
        """Of all its tensors."""
        return sum(t.numel() * t.element_size() for t in (*self.entries, *self.values, self.inputs, self.floors))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Its tensors by the names that they have in a file."""
        yield "inputs", self.inputs
        yield "floors", self.floors
        for layer, (entries, values) in enumerate(zip(self.entries, self.values, strict=True)):
            yield f"entries.{layer}", entries
            yield f"values.{layer}", values

    @classmethod
    def from_tensors(cls, found: dict[str, Tensor]) -> Table:
        """Of [`tensors`], by name."""
        layers = range(sum(name.startswith("entries.") for name in found))
        return cls(
            [found[f"entries.{layer}"].long() for layer in layers],
            [found[f"values.{layer}"] for layer in layers],
            found["inputs"],
            found["floors"],
        )


@dataclass
class Joined:
    """
    All tables for reading, on one device.

    Args:
        sources: names in the order of their slots.
        keys: of each layer (M,) int64, ascending: slot·N + entry.
        values: of each layer (M, hidden).
        inputs, floors: (T, window·width) and (T,).
        slots: (T,) int64 slot of each input.
    """

    sources: list[str]
    keys: list[Tensor]
    values: list[Tensor]
    inputs: Tensor
    floors: Tensor
    slots: Tensor

    def drop(self, sources: list[str], entries: int) -> None:
        """
        Takes sources out in place: their inputs go, and nothing is left of their numbers and values. The places of the
        others stay, so that it takes no longer where there are many.

        Args:
            entries: N.
        """
        slot_of = {source: slot for slot, source in enumerate(self.sources)}
        slots = torch.tensor([slot_of[source] for source in sources])
        kept = ~torch.isin(self.slots, slots.to(self.slots.device))
        self.inputs, self.floors, self.slots = self.inputs[kept], self.floors[kept], self.slots[kept]
        for keys, values in zip(self.keys, self.values, strict=True):
            starts = slots.to(keys.device) * entries
            ends = torch.searchsorted(keys, torch.stack([starts, starts + entries])).T.tolist()
            for first, (start, stop) in zip(starts.tolist(), ends, strict=True):
                keys[start:stop] = torch.arange(first, first + stop - start, device=keys.device)
                values[start:stop] = 0


class Tables:
    """
    The tables by the names of their sources, in the order of these: it says nothing of when they came.

    Args:
        entries: N of each layer.
        layers: number of memory layers.
    """

    def __init__(self, entries: int, layers: int):
        self.entries, self.layers = entries, layers
        self.by_source: dict[str, Table] = {}
        self._joined: dict[str, Joined] = {}

    def __len__(self) -> int:
        return len(self.by_source)

    def __contains__(self, source: str) -> bool:
        return source in self.by_source

    def __repr__(self) -> str:
        return f"Tables({len(self)} sources, {self.bytes:,} bytes)"

    @property
    def bytes(self) -> int:
        return sum(table.bytes for table in self.by_source.values())

    def put(self, source: str, table: Table) -> None:
        """Takes a source's table in the place of the one it had."""
        self.by_source = dict(sorted({**self.by_source, source: table}.items()))
        self._joined.clear()

    def drop(self, sources: Iterable[str]) -> None:
        """
        Takes sources out: values, entries and inputs.

        Raises:
            KeyError: if one of them has no table; none is taken out then.
        """
        sources = list(sources)
        if missing := [source for source in sources if source not in self.by_source]:
            raise KeyError(missing[0])
        for source in sources:
            del self.by_source[source]
        for joined in self._joined.values():
            joined.drop(sources, self.entries)
        if not self.by_source:
            self._joined.clear()

    def joined(self, device: torch.device) -> Joined | None:
        """For reading; None where there is no table."""
        if not self.by_source:
            return None
        if str(device) not in self._joined:
            with torch.inference_mode(False):  # it is kept, and a deletion changes it in place
                self._joined[str(device)] = self._join(device)
        return self._joined[str(device)]

    def _join(self, device: torch.device) -> Joined:
        tables = list(self.by_source.values())
        keys = [
            torch.cat([table.entries[layer] + slot * self.entries for slot, table in enumerate(tables)])
            for layer in range(self.layers)
        ]
        values = [torch.cat([table.values[layer] for table in tables]) for layer in range(self.layers)]
        slots = torch.repeat_interleave(
            torch.arange(len(tables)), torch.tensor([len(table.inputs) for table in tables])
        )
        inputs, floors = (torch.cat([getattr(t, name) for t in tables]).float() for name in ("inputs", "floors"))
        return Joined(
            list(self.by_source),
            [one.to(device) for one in keys],
            [one.to(device) for one in values],
            inputs.to(device),
            floors.to(device),
            slots.to(device),
        )


def place_of(wanted: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """`(place of each wanted number in ascending keys, whether it is there)`, both of the shape of `wanted`."""
    if not len(keys):
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(keys, wanted.contiguous()).clamp_max(len(keys) - 1)
    return place, keys[place] == wanted


def read(
    weights: Tensor, wanted: Tensor, keys: Tensor, values: Tensor, whose: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """
    Σ_j weights_j · values[j] over the wanted entries that are in the table, (n, hidden), as precise as the weights.

    Args:
        weights, wanted: (n, r), r entries of each input.
        keys: (M,) ascending.
        values: (M, hidden).
        whose: `(owners (M,), readers (n,))`: gradients go into values alone whose owner is the reader; None: into all.
    """
    place, there = place_of(wanted, keys)
    row, column = there.nonzero(as_tuple=True)
    place = place[row, column]
    said = values[place]
    if whose is not None:
        owners, readers = whose
        said = torch.where((owners[place] == readers[row]).unsqueeze(-1), said, said.detach())
    out = torch.zeros(len(weights), values.shape[1], dtype=weights.dtype, device=values.device)
    return out.index_add(0, row, weights[row, column].unsqueeze(-1) * said)
