"""One forward pass over two sets of rows or one over each, by size (ours)."""

from __future__ import annotations

import torch

# Positions (tokens, patches) of two sets of rows up to which one forward over both is cheaper than two: measured on a
# CPU by recipes/tools/benchmark.py; on a GPU, which small matrices leave idle, an estimate.
TOGETHER_POSITIONS = {"cpu": 256}
TOGETHER_POSITIONS_ELSEWHERE = 4096


def count_positions(inputs: dict, hidden_size: int) -> int:
    """Tokens of a batch, padding included; for images and sound the values over the model's hidden size, as a guess."""
    if torch.is_tensor(inputs.get("input_ids")):
        return inputs["input_ids"].numel()
    values = max((v.numel() for v in inputs.values() if torch.is_tensor(v) and v.is_floating_point()), default=0)
    return values // max(hidden_size, 1)


def forward_together(positions: float, device_type: str) -> bool:
    """
    Whether two sets of rows share one forward pass. On small batches one pass is up to a third faster; on large ones
    two passes are as fast and hold the activations of the larger set only.
    """
    return positions <= TOGETHER_POSITIONS.get(device_type, TOGETHER_POSITIONS_ELSEWHERE)
