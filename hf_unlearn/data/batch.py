"""What is asked of a batch: some of its rows, its labels, its positions."""

from __future__ import annotations

import torch

from ..objectives.row_nll import IGNORE_INDEX
from .columns import FLAG, FORGET_INDEX


def select_rows(batch: dict, mask: torch.Tensor) -> dict:
    """The rows of a flat batch where mask (B,) is True, without the flags. Tensors of another length are kept whole."""
    n = len(mask)
    return {
        k: v[mask] if torch.is_tensor(v) and v.dim() and len(v) == n else v
        for k, v in batch.items()
        if k not in (FLAG, FORGET_INDEX)
    }


def count_labels(labels: torch.Tensor) -> torch.Tensor:
    """Labels that a batch teaches, (): (B, T) of a causal language model without position 0, or (B,)."""
    return (labels[:, 1:] if labels.dim() == 2 else labels).ne(IGNORE_INDEX).sum()
