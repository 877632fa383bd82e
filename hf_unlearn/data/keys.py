"""
Digests of 16 bytes of many rows as arrays, and which of them are equal: by sorting, eight bytes a comparison, and whole
where these agree. [`fast`] is for comparisons in memory alone; what is written to a disk is made of
[`value_digests.hashed`], and keyed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import xxhash

Hash = Callable[[Any], bytes]  # of bytes, 16 bytes
LOOKED_UP = 1 << 17  # digests at a time


def fast(content: Any) -> bytes:
    """16 bytes of XXH3 (Collet), which is fast and no secret."""
    return xxhash.xxh3_128_digest(content)


def of_slices(content: memoryview, starts: np.ndarray, ends: np.ndarray, hash_of: Hash) -> np.ndarray:
    """(n, 2) uint64: digests of the bytes from each start to its end."""
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    return as_words([hash_of(content[start:end]) for start, end in pairs])


def as_words(digests: Iterable[bytes]) -> np.ndarray:
    """(n, 2) uint64 of digests of 16 bytes."""
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def short(values: Iterable[Any]) -> np.ndarray:
    """(n,) uint64: a hash of what each value is written as, so that 7 and "7" have the same."""
    hash_of = xxhash.xxh3_64_intdigest
    return np.array([hash_of(str(value).encode("utf-8", "surrogatepass")) for value in values], np.uint64)


def is_among(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """(n,) bool: which of these numbers (n,) are among those (m,)."""
    found = np.zeros(len(these), bool)
    if not len(those):
        return found
    those = np.sort(those)
    for start in range(0, len(these), LOOKED_UP):
        part = these[start : start + LOOKED_UP]
        places = np.minimum(np.searchsorted(those, part), len(those) - 1)
        found[start : start + LOOKED_UP] = those[places] == part
    return found


def repeated(values: np.ndarray) -> np.ndarray:
    """(n,) bool: which of the numbers (n,) are there twice or more."""
    in_order = np.sort(values)
    return is_among(values, in_order[1:][in_order[1:] == in_order[:-1]])


def distinct(values: np.ndarray) -> int:
    """How many numbers there are, equal ones once."""
    in_order = np.sort(values)
    return int((in_order[1:] != in_order[:-1]).sum()) + (len(values) > 0)


def rows_with(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) bool: rows with keys (n, k, 2) of which half of one is half of one of the others (m, l, 2)."""
    those = others[..., 0].reshape(-1)
    columns = [is_among(keys[:, i, 0], those) for i in range(keys.shape[1])]
    return np.any(columns, axis=0) if columns else np.zeros(len(keys), bool)


def as_bytes(keys: np.ndarray) -> list[tuple[bytes, ...]]:
    """The keys (n, k, 2) of each row, as bytes."""
    whole = keys.tobytes()
    count = keys.shape[1]
    each = [whole[i : i + 16] for i in range(0, len(whole), 16)]
    return [tuple(each[i : i + count]) for i in range(0, len(each), count)] if count else [()] * len(keys)
