"""A batch: some of its rows, how many labels and positions it has, and whether two sets of rows share one forward."""

from __future__ import annotations

import torch

from ..objectives.row_nll import IGNORE_INDEX, has_several_labels
from .columns import ROW_KEYS

# Positions (tokens, patches) of two sets of rows up to which one forward over both is cheaper than two: measured on a
# CPU by recipes/tools/benchmark.py; on a GPU, which small matrices leave idle, an estimate.
TOGETHER_POSITIONS = {"cpu": 256}
TOGETHER_POSITIONS_ELSEWHERE = 4096


def select_rows(batch: dict, mask: torch.Tensor) -> dict:
    """The rows of a flat batch where mask (B,) is True, without the flags. Tensors of another length are kept whole."""
    n = len(mask)
    return {
        k: v[mask] if torch.is_tensor(v) and v.dim() and len(v) == n else v
        for k, v in batch.items()
        if k not in ROW_KEYS
    }


def part(batch: dict, mask: torch.Tensor) -> tuple[dict, bool]:
    """
    `(rows, whether they count)` of the rows where mask (B,) is True. Where it is False everywhere, one row that does
    not count: every process must run as many passes as the others, or collectives hang.
    """
    some = bool(mask.any())
    if not some:
        mask = torch.arange(len(mask)) == 0
    return select_rows(batch, mask.to(batch["labels"].device)), some


def count_labels(labels: torch.Tensor) -> torch.Tensor:
    """
    Labels that a batch teaches, (): (B, T) of a causal language model without position 0, (B,) of a classifier, or
    (B, C) of several labels a row.
    """
    of_tokens = labels.dim() == 2 and not has_several_labels(labels)
    return (labels[:, 1:] if of_tokens else labels).ne(IGNORE_INDEX).sum()


def count_later_labels(labels: torch.Tensor) -> torch.Tensor:
    """The labels of [`count_labels`], (), but in a language model for the first of each row."""
    if labels.dim() == 1 or has_several_labels(labels):
        return count_labels(labels)
    return (labels[:, 1:].ne(IGNORE_INDEX).sum(1) - 1).clamp_min(0).sum()


def with_some_labels(batch: dict) -> dict:
    """The batch; one without any label gets some that are possible, since a mean over none is NaN, also times 0."""
    labels = batch["labels"]
    return {**batch, "labels": torch.where(count_labels(labels) > 0, labels, labels.clamp_min(0))}


def count_positions(inputs: dict, hidden_size: int) -> int:
    """Tokens of a batch, padding included; for images and sound the values over the model's hidden size, as a guess."""
    if torch.is_tensor(inputs.get("input_ids")):
        return inputs["input_ids"].numel()
    values = max((v.numel() for v in inputs.values() if torch.is_tensor(v) and v.is_floating_point()), default=0)
    return values // max(hidden_size, 1)


def forward_together(positions: float, device_type: str) -> bool:
    """
    Whether two sets of rows with so many positions in all share one forward pass. On small batches one pass is up to a
    third faster; on large ones two passes are as fast and hold the activations of the larger set only.
    """
    return positions <= TOGETHER_POSITIONS.get(device_type, TOGETHER_POSITIONS_ELSEWHERE)
