"""How much disk the snapshots of a training take, before any is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..memory.optimizers import OPTIMIZERS
from .models import has_adapter

BESIDE = 2**18  # bytes of what else is in a snapshot: schedule, generators, records, a small tokenizer


def snapshot_bytes(model, optim: str = "adamw_torch_fused", optimizer=None) -> int:
    """
    Bytes of one snapshot, about: weights and buffers as they are saved (of an adapter its own), and what the optimizer
    holds.

    Args:
        model: whose weights may be on the meta device.
        optim: the name in `TrainingArguments`.
        optimizer: the user's own, which counts in its place.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    saved = trained if has_adapter(model) else [*model.parameters(), *_saved_buffers(model)]
    state = OPTIMIZERS.get(optim, OPTIMIZERS["adamw_torch"])
    held = sum(map(state, trained)) if optimizer is None else _moments(optimizer) * sum(p.nbytes for p in trained)
    return sum(tensor.nbytes for tensor in saved) + held + BESIDE


def _saved_buffers(model) -> list:
    return [
        buffer
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name not in module._non_persistent_buffers_set
    ]


def _moments(optimizer) -> int:
    """Numbers that an optimizer of the user's own keeps for each weight: two, of two rates of decay, or one at most."""
    defaults = optimizer.defaults
    return 2 if "betas" in defaults else int(defaults.get("momentum", 1) != 0)


def free_bytes(folder: str) -> int:
    """Free on the disk of a folder, or of the one that it will be made in."""
    return shutil.disk_usage(_above(folder)).free


def disk_of(folder: str) -> int:
    """Number of the disk of a folder, or of the one that it will be made in."""
    return _above(folder).stat().st_dev


def _above(folder: str) -> Path:
    """The folder, or the first one above it that there is."""
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    return there


def bytes_in(folder: str) -> int:
    """What deleting a folder would free: of its files those that no other name has."""
    found = [path.stat() for path in Path(folder).rglob("*") if path.is_file()]
    return sum(one.st_size for one in found if one.st_nlink == 1)
