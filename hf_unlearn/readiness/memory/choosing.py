"""Which entries a source owns: those that its own rows read most, weighed by how rarely public rows read them."""

from __future__ import annotations

import torch
from torch import Tensor

from .tables import place_of


class PublicReads:
    """
    How many public rows read each entry of a layer; only entries that some row has read are kept.

    Args:
        entries: (u,) int64, ascending.
        rows_with: (u,) int64, public rows that read them.
        rows: number of public rows.
    """

    def __init__(self, entries: Tensor, rows_with: Tensor, rows: int):
        self.entries, self.rows_with, self.rows = entries, rows_with, rows

    @classmethod
    def of(cls, reads: list[Tensor]) -> PublicReads:
        """From what each public row has read, entry numbers of any shape."""
        if not reads:
            return cls(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 0)
        entries, rows_with = torch.cat([one.unique() for one in reads]).unique(return_counts=True)
        return cls(entries, rows_with, len(reads))

    def idf(self, entries: Tensor) -> Tensor:
        """log((rows + 1)/(1 + rows that read it)) of each entry; 1 where there are no public rows."""
        if not self.rows:
            return torch.ones(len(entries))
        place, there = place_of(entries, self.entries)
        with_it = torch.where(there, self.rows_with[place], 0) if len(self.entries) else torch.zeros_like(entries)
        return torch.log((self.rows + 1) / (1.0 + with_it))


def scored(numbers: Tensor, weights: Tensor, public: PublicReads) -> tuple[Tensor, Tensor]:
    """`(entries (u,) ascending, Σ weight · idf of each)` of reads, numbers and weights (n, k)."""
    entries, where = numbers.flatten().unique(return_inverse=True)
    score = torch.zeros(len(entries)).index_add_(0, where, weights.flatten().float().cpu())
    return entries, score * public.idf(entries)


def own_entries(numbers: Tensor, weights: Tensor, public: PublicReads, most: int) -> Tensor:
    """
    (m,) ascending numbers of at most `most` entries with the largest Σ weight · idf over the source's reads. It needs
    nothing of another source, so it stays the same when others come or go.

    Args:
        numbers: (n, k) entries that the source's rows read where they answer.
        weights: (n, k) softmax weights of these reads.
    """
    entries, score = scored(numbers, weights, public)
    top = score.topk(min(most, len(entries)))
    return entries[top.indices[top.values > 0]].sort().values
