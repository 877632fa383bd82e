"""Bytes that optimizers hold: their state, and what a step takes for a moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Run


def _adam(p) -> int:
    return 2 * p.nbytes + 4


def _adam_8bit(p) -> int:
    """bitsandbytes: bytes, and a float32 scale for each 256 of them; small tensors stay in float32."""
    return 8 * p.numel() if p.numel() < 4096 else 2 * (p.numel() + 4 * math.ceil(p.numel() / 256))


def _adafactor(p) -> int:
    """Rows and columns of matrices in float32 (no first moment, as the Trainer sets it up)."""
    return 4 * (p.numel() // p.shape[-1] + p.numel() // p.shape[-2] if p.dim() >= 2 else p.numel())


OPTIMIZERS: dict[str, Callable] = {  # bytes of state of a parameter
    "adamw_torch_fused": _adam,
    "adamw_torch": _adam,
    "adamw_8bit": _adam_8bit,
    "adamw_bnb_8bit": _adam_8bit,
    "adafactor": _adafactor,
    "adagrad": lambda p: p.nbytes + 4,
    "rmsprop": lambda p: p.nbytes + 4,
    "sgd": lambda p: 0,
}


def scratch_bytes(run: Run, sizes: list[int]) -> int:
    """Bytes that the optimizer's step needs for a moment, from those of the trainable parameters."""
    if run.optim == "adafactor":
        return 2 * max(sizes)
    if run.optim not in ("adamw_torch", "adagrad", "rmsprop"):
        return 0
    if run.device == "cuda":  # all parameters in one go
        return sum(sizes)
    return (2 if run.optim == "adamw_torch" else 1) * max(sizes)
