"""A part of a batch, where every process must have one."""

from __future__ import annotations

import torch

from .batch import select_rows


def part(batch: dict, mask: torch.Tensor) -> tuple[dict, bool]:
    """(rows, whether they count): where the mask is empty, one row that counts nothing, for the collectives."""
    some = bool(mask.any())
    if not some:
        mask = torch.arange(len(mask)) == 0
    return select_rows(batch, mask.to(batch["labels"].device)), some
