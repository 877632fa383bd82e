"""What a value of a row says, as bytes: the same for lists, arrays, tensors and columns of a table."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from .reading import normalised
from .stored import Flat


def hashed(content: bytes) -> bytes:
    """16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


def digest(value: Any) -> bytes:
    """Of a Python value, an array, a tensor or a picture."""
    if isinstance(value, (np.ndarray, np.number, np.bool_, bool, int, float)) or torch.is_tensor(value):
        value = np.asarray(value)  # 3, np.int64(3) and tensor(3) are the same content
        if value.dtype.kind in "OUS" and value.ndim:
            return b"[" + b",".join(digest(v) for v in value.tolist()) + b"]"
        if value.dtype != object:
            if value.dtype.kind in "iub":  # a list of ints and an int32 array are the same content
                value = value.astype(np.int64)
            elif value.dtype.kind == "f":
                value = value.astype(np.float32)
            return f"{value.shape}".encode() + value.tobytes()
    if isinstance(value, (list, tuple)):
        try:
            return digest(np.asarray(value))
        except ValueError:  # ragged
            return b"[" + b",".join(digest(v) for v in value) + b"]"
    if isinstance(value, dict):
        return b"{" + b",".join(k.encode() + b":" + digest(v) for k, v in sorted(value.items())) + b"}"
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a PIL image
        return f"{value.mode}{value.size}".encode() + value.tobytes()
    return repr(value).encode()


def number_contents(values: pa.Array) -> list[bytes] | None:
    """[`digest`] of each value of an Arrow array of numbers or lists of them; None where it is another or has nulls."""
    flat = Flat(values)
    if flat.kind not in ("whole", "float", "bool") or flat.depth > 1 or len(flat.missing):
        return None
    if str(flat.values.type) == "uint64" or str(flat.values.type).startswith("decimal"):
        return None
    with np.errstate(over="ignore"):
        numbers = flat.numbers()[0].astype(np.float32 if flat.kind == "float" else np.int64)
    content, width = numbers.tobytes(), numbers.itemsize
    if flat.depth == 0:
        return [b"()" + content[i : i + width] for i in range(0, len(content), width)]
    ends = width * np.cumsum(flat.lengths)
    heads = {n: f"({n},)".encode() for n in np.unique(flat.lengths).tolist()}
    lengths, ends = flat.lengths.tolist(), ends.tolist()
    return [heads[n] + content[end - width * n : end] for n, end in zip(lengths, ends, strict=True)]


def column_digests(values: Any) -> list[bytes]:
    """
    16 bytes of each value of an Arrow array, of a list, or of [`read_once.Large`]; text as it is compared, of a file
    its bytes.
    """
    if hasattr(values, "digests"):
        return values.digests
    if isinstance(values, list):
        return [hashed(digest(_plain(value))) for value in values]
    flat = Flat(values)
    if flat.kind not in ("whole", "float", "bool") or flat.depth == 0:
        return [hashed(digest(_plain(value))) for value in values.to_pylist()]
    return flat_digests(flat, np.float32 if flat.kind == "float" else np.int64)


def flat_digests(flat: Flat, kind: type) -> list[bytes]:
    """16 bytes of each row of nested numbers, as numbers of this kind."""
    numbers, owner = flat.numbers()
    ends = np.cumsum(np.bincount(owner, minlength=flat.n))
    own = zip(flat.shapes, np.split(numbers.astype(kind), ends[:-1]), strict=True)
    return [hashed(shape.tobytes() + row.tobytes()) for shape, row in own]


def _plain(value: Any) -> Any:
    """Text as it is compared; of a file, its bytes."""
    if isinstance(value, str):
        return normalised(value)
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        if value["bytes"] is None and value["path"] and Path(value["path"]).is_file():
            return Path(value["path"]).read_bytes()
        return value["bytes"] or value["path"]
    return value
