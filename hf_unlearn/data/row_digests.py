"""
Content digests of rows: the same for the same stored rows in every process, on every machine, whatever format,
transform or chunks a data set has. They are read from the Arrow buffers, some microseconds a row.

A row's digest is taken over its columns by name; whole numbers count as int64 and other numbers as float32, of any
nested shape, an image or a sound as the bytes of its file.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from .columns import INPUT_COLUMNS, column_names
from .read_once import ReadOnce, batches
from .stored import arrow_of, as_numpy, one_value, pythons_own

BATCH = 1000  # rows that are read at a time
BATCH_BYTES = 1 << 26  # of them, where a row has to be asked for
SPREAD, READS = 32, 8  # rows that are read several times, to see whether they are drawn, and how often
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


def row_digests(dataset, columns: Iterable[str], checked: bool = False) -> list[bytes] | None:
    """
    Digest (16 bytes) of each row over `columns`, in order.

    Args:
        checked: none of the columns is among [`drawn_columns`].

    Returns:
        None where a row is another one each time it is read, as that of a data set which draws what it returns.
    """
    columns = sorted(columns)
    with random_state_kept():
        return None if not checked and drawn_columns(dataset, columns) else _digests(dataset, columns)


def _digests(dataset, columns: list[str]) -> list[bytes]:
    found: list[bytes] = []
    head = hashlib.blake2b(repr(columns).encode(), digest_size=SIZE).digest()
    for table in _tables(dataset, columns):
        own = [_column_bytes(table[name]) for name in columns]
        for parts in zip(*own, strict=True):
            found.append(hashlib.blake2b(head + b"".join(parts), digest_size=SIZE).digest())
    return found


def read_alike(dataset, columns: Iterable[str], found: list[bytes], times: int = 4) -> bool:
    """
    Whether the rows have these digests when they are read again, up to so many times: what [`drawn_columns`] samples
    may have missed a few rows that are drawn.
    """
    if _is_table(dataset):
        return True
    with random_state_kept():
        for _ in range(times):
            _ = random.random(), np.random.random(), torch.rand(1)  # on from the state of the first reading
            if _digests(dataset, sorted(columns)) != found:
                return False
    return True


def _is_table(dataset) -> bool:
    return hasattr(dataset, "with_format") or isinstance(dataset, (list, tuple))


def is_stored(dataset) -> bool:
    """Whether a row is what is stored: neither drawn when it is read, nor made by a transform that may draw."""
    return _is_table(dataset) and (getattr(dataset, "format", None) or {}).get("type") != "custom"


def _spread_places(n: int) -> list[int]:
    """One row out of each stretch, at no fixed distance, as rows may come in turns."""
    draw = random.Random(0)
    return sorted({i * n // SPREAD + draw.randrange(max(1, n // SPREAD)) for i in range(SPREAD)}) if n else []


def drawn_columns(dataset, columns: Iterable[str]) -> list[str]:
    """
    Those of the columns that hold something else when a row is read again, as where pictures are flipped at random. A
    table is read as it is stored. Of another data set `SPREAD` rows are read up to `READS` times: where a tenth of the
    rows are flipped every second time, that is seen in 96 of 100 cases.
    """
    dataset = dataset.rows if isinstance(dataset, ReadOnce) else dataset
    if _is_table(dataset):
        return []
    columns, drawn = sorted(columns), set()
    with random_state_kept():
        for place in _spread_places(len(dataset)):
            first = None
            for _ in range(READS):
                (table,) = _tables([dataset[place]], columns)
                now = {name: _column_bytes(table[name]) for name in columns}
                first = first or now
                drawn |= {name for name in columns if now[name] != first[name]}
            if len(drawn) == len(columns):
                break
    return sorted(drawn)


def unseeded_columns(dataset, seeded: Callable[..., None]) -> list[str]:
    """
    Columns that hold something else when a row is read again although all generators were seeded alike: they are drawn
    from a generator of their own. `SPREAD` rows are read twice.

    Args:
        seeded: seeds all generators from some whole numbers.
    """
    if is_stored(dataset):
        return []
    drawn = set()
    with random_state_kept():
        for place in _spread_places(len(dataset)):
            found = []
            for _ in range(2):
                seeded(place)
                row = dataset[place]
                (table,) = _tables([row], sorted(row))
                found.append({name: _column_bytes(table[name]) for name in row})
            drawn |= {name for name in found[0] if found[0][name] != found[1].get(name)}
    return sorted(drawn)


def _tables(dataset, columns: list[str]) -> Iterator:
    """The rows as Arrow tables, as they are stored, or as columns by name."""
    if hasattr(dataset, "with_format"):
        yield from (part for _, part in batches(dataset, columns))
        return
    if isinstance(dataset, ReadOnce):
        if not any(map(dataset.is_large, columns)):
            for _, part in dataset.batches(columns):
                yield {name: _as_arrow(v) if isinstance(v, list) else v for name, v in part.items()}
            return
        dataset = dataset.rows
    held: dict[str, list] = {name: [] for name in columns}
    rows = size = 0
    for i in range(len(dataset)):
        row = dataset[i]
        for name, values in held.items():
            values.append(_plain(row.get(name)))
            size += _size(values[-1])
        rows += 1
        if rows == BATCH or size > BATCH_BYTES or i == len(dataset) - 1:
            yield {name: _as_arrow(values) for name, values in held.items()}
            held, rows, size = {name: [] for name in columns}, 0, 0


def _size(value) -> int:
    """Bytes that a value takes, more or less."""
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list):
        return len(value) * (_size(value[0]) if value else 1)
    return getattr(value, "nbytes", None) or (len(value) if isinstance(value, (bytes, str)) else 8)


def _as_arrow(values: list):
    """An Arrow array; a list of such, one a row, where the values are arrays of several dimensions."""
    if any(getattr(value, "ndim", 0) > 1 for value in values):
        return [one_value(value) if getattr(value, "ndim", 0) > 1 else _as_arrow([value]) for value in values]
    found = arrow_of(values)
    return arrow_of([repr(value) for value in pythons_own(values)]) if found is None else found


def _plain(value, inside: bool = False):
    """Tensors as arrays, inside of lists as lists, numbers as Python's, pictures as their bytes."""
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a PIL image
        return {"bytes": f"{value.mode}{value.size}".encode() + value.tobytes(), "path": None}
    value = as_numpy(value)
    if hasattr(value, "tolist"):
        array = not inside and getattr(value, "ndim", 0) and value.dtype.kind in "iufb" and value.size
        return value if array else value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v, True) for v in value]
    return value


def _column_bytes(column) -> list[bytes]:
    """What each row of an Arrow column holds, framed by lengths so that no two columns run on."""
    if isinstance(column, list):
        return [piece for one in column for piece in _column_bytes(one)]
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


@contextmanager
def random_state_kept():
    """A data set that draws what it returns is read here without a trace in what is drawn later."""
    before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.random.set_rng_state(before[2])
