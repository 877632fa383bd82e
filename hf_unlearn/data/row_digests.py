"""
Content digests of rows: the same for the same stored rows in every process, on every machine, whatever format,
transform or chunks a data set has. They are read from the Arrow buffers, some microseconds a row.

A row's digest is taken over its columns by name; whole numbers count as int64 and other numbers as float32, of any
nested shape, an image or a sound as the bytes of its file.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .columns import INPUT_COLUMNS, column_names

BATCH = 1000  # rows that are read at a time
LABELS = ("label", "labels", "label_ids")
SIZE = 16  # bytes of a digest


def content_columns(rows, own: Iterable[str | None] = ()) -> list[str]:
    """
    Columns that a row is known by, whatever its id or label: the model's inputs by their usual names, or else all but
    ids, labels and `own`.
    """
    names = column_names(rows)
    inputs = [name for name in INPUT_COLUMNS if name in names and name not in LABELS]
    return inputs or sorted(set(names) - {"id", *LABELS, *own})


def row_digests(dataset, columns: Iterable[str]) -> list[bytes] | None:
    """
    Digest (16 bytes) of each row over `columns`, in order.

    Returns:
        None where a row is another one each time it is read, as that of a data set which draws what it returns.
    """
    columns = sorted(columns)
    found: list[bytes] = []
    with _random_state_kept():
        if not hasattr(dataset, "with_format") and _is_drawn(dataset, columns):
            return None
        for table in _tables(dataset, columns):
            own = [_column_bytes(table[name]) for name in columns]
            head = hashlib.blake2b(repr(columns).encode(), digest_size=SIZE).digest()
            for parts in zip(*own, strict=True):
                found.append(hashlib.blake2b(head + b"".join(parts), digest_size=SIZE).digest())
    return found


def _tables(dataset, columns: list[str]) -> Iterator:
    """The rows as Arrow tables, as they are stored."""
    import pyarrow as pa

    if hasattr(dataset, "with_format"):
        yield from dataset.with_format("arrow").select_columns(columns).iter(BATCH)
        return
    for start in range(0, len(dataset), BATCH):
        rows = [dataset[i] for i in range(start, min(start + BATCH, len(dataset)))]
        yield {name: _as_arrow(pa, [_plain(row.get(name)) for row in rows]) for name in columns}


def _as_arrow(pa, values: list):
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):  # no common type
        return pa.array([repr(value) for value in values])


def _plain(value):
    """Tensors and arrays as lists, pictures as their bytes."""
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a PIL image
        return {"bytes": f"{value.mode}{value.size}".encode() + value.tobytes(), "path": None}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _column_bytes(column) -> list[bytes]:
    """What each row of an Arrow column holds, framed by lengths so that no two columns run on."""
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if hasattr(array, "chunks"):  # pyarrow keeps several chunks of some types
        return [piece for chunk in array.chunks for piece in _column_bytes(chunk)]
    plain = _levels(array)
    if plain is not None:
        return _cut(*plain, len(array))
    return [_bytes_of_one(array.slice(i, 1)) for i in range(len(array))]


def _bytes_of_one(one) -> bytes:
    """Of a single row, where some row holds a null or another kind of value."""
    plain = _levels(one)
    if plain is not None:
        return _cut(*plain, 1)[0]
    content = _canonical(one[0].as_py())
    return b"other %d " % len(content) + content


def _canonical(value) -> bytes:
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        content = value["bytes"]
        if content is None and value["path"] and Path(value["path"]).is_file():
            content = Path(value["path"]).read_bytes()
        return hashlib.sha256(content).digest() if content is not None else repr(value["path"]).encode()
    if isinstance(value, dict):
        return b"{" + b",".join(repr(k).encode() + b":" + _canonical(v) for k, v in sorted(value.items())) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(_canonical, value)) + b"]"
    return repr(value).encode()


def _levels(array) -> tuple | None:
    """
    `(kind, offsets of each level of lists, values as bytes, bytes of a value or offsets of text)` of an array without
    nulls, of numbers or text or lists of them; None for another.
    """
    import pyarrow as pa

    offsets = []
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
            continue
        if array.null_count:
            return None
        kind = array.type
        if pa.types.is_dictionary(kind):
            array = array.dictionary_decode()
        elif pa.types.is_fixed_size_list(kind):
            offsets.append(np.arange(len(array) + 1) * kind.list_size)
            array = array.flatten()
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            bounds = array.offsets.to_numpy()
            offsets.append((bounds - bounds[0]).astype(np.int64))
            array = array.flatten()
        else:
            return _leaves(pa, array, offsets)


def _leaves(pa, array, offsets: list[np.ndarray]) -> tuple | None:
    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        values = array.to_numpy(zero_copy_only=False)
        return b"whole", offsets, memoryview(values.astype("<i8", copy=False)).cast("B"), 8
    if pa.types.is_floating(kind):
        with np.errstate(over="ignore"):
            values = array.to_numpy(zero_copy_only=False).astype("<f4")
        return b"float", offsets, memoryview(values).cast("B"), 4
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = [text.encode() for text in array.to_pylist()]
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        texts = array.to_pylist()
    elif pa.types.is_null(kind) and not len(array):
        return b"", offsets, memoryview(b""), 8
    else:
        return None
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return b"text", offsets, memoryview(b"".join(texts)), ends


def _cut(kind: bytes, offsets: list[np.ndarray], values: memoryview, size, n: int) -> list[bytes]:
    """For each of the n rows: kind, depth, the lengths of its lists level by level, its values."""
    first, last = np.arange(n), np.arange(1, n + 1)
    parts = []
    for level in [*offsets, *([size] if isinstance(size, np.ndarray) else [])]:  # of text: where each ends
        lengths = memoryview(np.diff(level).astype("<i8")).cast("B")
        parts.append([lengths[a:b] for a, b in zip((8 * first).tolist(), (8 * last).tolist(), strict=True)])
        first, last = level[first], level[last]
    width = 1 if isinstance(size, np.ndarray) else size
    parts.append([values[a:b] for a, b in zip((width * first).tolist(), (width * last).tolist(), strict=True)])
    head, empty = (b"%s %d " % (name, len(offsets)) for name in (kind, b""))
    return [b"".join((head if own[-1] else empty, *own)) for own in zip(*parts, strict=True)]


def _is_drawn(dataset, columns: list[str]) -> bool:
    if not len(dataset):
        return False
    first, again = (
        [_column_bytes(table[name]) for name in columns for table in _tables([dataset[0]], columns)] for _ in range(2)
    )
    return first != again


@contextmanager
def _random_state_kept():
    """A data set that draws what it returns is read here without a trace in what is drawn later."""
    import torch

    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.random.set_rng_state(before[2])
