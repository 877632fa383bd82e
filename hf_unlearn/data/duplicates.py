"""Rows with the same content, found by a hash of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch

from .columns import INPUT_COLUMNS, column_names


def _digest(value) -> bytes:
    if isinstance(value, (np.ndarray, np.number, np.bool_, bool, int, float)) or torch.is_tensor(value):
        value = np.asarray(value)  # 3, np.int64(3) and tensor(3) are the same content
        if value.dtype.kind in "OUS" and value.ndim:
            return b"[" + b",".join(_digest(v) for v in value.tolist()) + b"]"
        if value.dtype != object:
            if value.dtype.kind in "iub":  # a list of ints and an int32 array are the same content
                value = value.astype(np.int64)
            elif value.dtype.kind == "f":
                value = value.astype(np.float32)
            return f"{value.shape}".encode() + value.tobytes()
    if isinstance(value, (list, tuple)):
        try:
            return _digest(np.asarray(value))
        except ValueError:  # ragged
            return b"[" + b",".join(_digest(v) for v in value) + b"]"
    if isinstance(value, dict):
        return b"{" + b",".join(k.encode() + b":" + _digest(v) for k, v in sorted(value.items())) + b"}"
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a PIL image
        return f"{value.mode}{value.size}".encode() + value.tobytes()
    return repr(value).encode()


def fingerprints(dataset, columns: Iterable[str]) -> list[bytes]:
    """Content hash of each row over `columns` (16 bytes each), in order."""
    columns = sorted(columns)
    if hasattr(dataset, "with_format"):
        dataset = dataset.with_format(None).select_columns(columns)
        if not any("Image" in str(f) or "Audio" in str(f) for f in dataset.features.values()):
            dataset = dataset.with_format("numpy")
    rows = (dataset[i] for i in range(len(dataset)))
    return [hashlib.blake2b(b"|".join(_digest(row[c]) for c in columns), digest_size=16).digest() for row in rows]


def find_duplicates(first, second, columns: Iterable[str] | None = None) -> list[tuple[int, int]]:
    """
    Pairs (i, j) such that row i of `first` has the same content as row j of `second`; for each j the first such i.

    Args:
        columns: what content means. Default: the model inputs and labels if there are any, else all but `id`.
    """
    shared = set(column_names(first)) & set(column_names(second))
    if columns is None:
        columns = [c for c in INPUT_COLUMNS if c in shared]
        if not set(columns) - {"labels"}:
            columns = sorted(shared - {"id"})
    seen: dict[bytes, int] = {}
    for i, key in enumerate(fingerprints(first, columns)):
        seen.setdefault(key, i)
    return [(seen[key], j) for j, key in enumerate(fingerprints(second, columns)) if key in seen]
