"""
Columns of a set of rows, some rows at a time. A set that is no table, such as a list of dicts or a data set of torch,
is read from end to end once: reading a row may mean decoding a picture. Of it are kept texts and numbers as they are,
lists of numbers as Arrow arrays, and of pictures, sounds and other large values a digest and what they are made of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..utils.checks import plain
from .columns import IMAGE_LIKE, LABELS, column_names
from .gather import arrays_at, bytes_a_row, chunks
from .stored import Flat, as_numpy, from_values, kind_of_value, one_value
from .value_digests import column_digests, flat_digests

BATCH_ROWS = 10_000
BATCH_BYTES = 1 << 26  # of a set's columns at a time
OF_A_TEXT = {"id", *LABELS, "label_ids", "input_ids", "attention_mask", "token_type_ids", "position_ids"}


def batches(rows: Any, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """
    `(place of the first row, column -> its values)` of some rows at a time, as they are stored, whatever format or
    transform is set: Arrow arrays, a list of Python values where these have no common type, or [`Large`]. Of a table
    nothing is decoded.
    """
    columns = list(columns)
    if not columns:
        return
    if not hasattr(rows, "with_format"):
        yield from read_once(rows).batches(columns)
        return
    size = min(BATCH_ROWS, max(1, int(BATCH_BYTES / max(1.0, bytes_a_row(rows, columns)))))
    with reading_bar(len(rows), size) as told:
        for start in range(0, len(rows), size):
            yield start, arrays_at(rows, columns, slice(start, start + size))
            told(min(size, len(rows) - start))


@contextmanager
def reading_bar(total: int, at_once: int) -> Iterator[Callable[[int], Any]]:
    """A function that is told of rows read: where there are many, a bar shows them after two seconds."""
    if total <= at_once or os.environ.get("LOCAL_RANK", "0") not in ("0", "-1", ""):
        yield lambda rows: None
        return
    from datasets.utils import tqdm  # which `datasets.disable_progress_bars` silences, as the verbs do

    with tqdm(total=total, desc="reading rows", unit=" rows", delay=2, leave=False, disable=None) as bar:
        yield bar.update


def values_at(rows: Any, columns: Iterable[str], places: np.ndarray) -> Iterator[dict[str, Any]]:
    """The same of the rows at these places, in their order; such as are no table must be in ascending order."""
    columns = list(columns)
    if hasattr(rows, "with_format"):
        size = min(BATCH_ROWS, max(1, int(BATCH_BYTES / max(1.0, bytes_a_row(rows, columns)))))
        for some in chunks(places, size):
            yield arrays_at(rows, columns, some)
        return
    for start, part in read_once(rows).batches(columns):
        count = len(next(iter(part.values())))
        low, high = np.searchsorted(places, [start, start + count])
        if high > low:
            own = places[low:high] - start
            yield {name: _some(values, own) for name, values in part.items()}


def _some(values: Any, places: np.ndarray) -> Any:
    return [values[i] for i in places.tolist()] if isinstance(values, list) else values.take(places)


def read_once(rows: Any) -> Any:
    """A table as it is, which is cheap to read; another set as [`ReadOnce`]."""
    return rows if hasattr(rows, "with_format") or isinstance(rows, ReadOnce) else ReadOnce(rows)


class ReadOnce:
    """
    What checks ask of a set of rows, after one pass over it.

    Attributes:
        rows: the set itself.
        column_names: of the first row.
        unlike: places of the rows that have other keys than the first, or are no dicts.
    """

    def __init__(self, rows: Any):
        self.rows, self.n = rows, len(rows)
        self.first = rows[0] if self.n else {}
        self.column_names = column_names([self.first])
        wanted, has_names = set(self.column_names), hasattr(rows, "column_names")
        self._columns: dict[str, _Column] = {name: _Column(name) for name in self.column_names}
        self._starts, self.unlike, held = [0], [], 0
        for i in range(self.n):
            row = rows[i] if i else self.first
            if not isinstance(row, Mapping) or (set(row) != wanted and not has_names):
                self.unlike.append(i)
            row = row if isinstance(row, Mapping) else {}
            size = sum(column.add(row.get(name)) for name, column in self._columns.items())
            held += size
            if i > self._starts[-1] and (held > BATCH_BYTES or i - self._starts[-1] == BATCH_ROWS):
                self._cut(i)
                held = size
        self._cut(self.n)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        return self.rows[i] if i else self.first

    def _cut(self, end: int) -> None:
        for column in self._columns.values():
            column.cut(end - self._starts[-1])
        self._starts.append(end)

    def batches(self, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        for k, (start, end) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            if start < end:
                yield start, {name: self._columns[name].part(k, start, end) for name in columns}

    def values(self, name: str) -> list:
        """A column of numbers, texts or lists as Python values."""
        column = self._columns[name]
        if column.kept is not None and not column.parts:
            return list(column.kept)
        return [value for _, part in self.batches([name]) for value in _as_list(part[name])]

    def is_large(self, name: str) -> bool:
        return self._columns[name].large is not None


def _as_list(values: Any) -> list:
    return values if isinstance(values, list) else values.to_pylist()


class Large:
    """
    Values of which only a digest is kept.

    Attributes:
        kinds: of each, as [`Flat.kind`].
        shapes: (n,) uint64, equal for values of one shape.
        missing: places of those that are None or hold a None.
        digests: of each.
    """

    def __init__(self, made: list[tuple], as_floats: bool):
        self.kinds = [kind for kind, *_ in made]
        self.shapes = np.array([shape for _, shape, *_ in made], np.uint64)
        self.missing = [i for i, (_, _, missing, _, _) in enumerate(made) if missing]
        self.digests = [floats if as_floats and floats else own for *_, own, floats in made]


class _Column:
    """One column while it is read: its values as they are, as Arrow arrays of some rows each, or as digests."""

    def __init__(self, name: str):
        self.name = name
        self.kept: list | None = []  # values as they are, of lists those of the rows that are not yet cut off
        self.parts: list[Any] = []  # of lists, what was cut off
        self.large: list[tuple] | None = None
        self._decided, self._lists, self._floats = False, False, False

    def add(self, value: Any) -> int:
        """How many bytes are held for it until the next cut."""
        if not self._decided and value is not None:
            self._decided = True
            if _is_large(self.name, value):
                self.large, self.kept = [_made(None)] * len(self.kept), None
            else:
                self._lists = np.ndim(value) == 1 and self.name != "id"
        if self.large is not None:
            self.large.append(_made(value))
            self._floats |= self.large[-1][0] == "float"
            return 0
        self.kept.append(as_numpy(value) if self._lists else plain(value))
        return getattr(self.kept[-1], "nbytes", None) or 8 * (len(value) if isinstance(value, (list, tuple)) else 1)

    def cut(self, n: int) -> None:
        if self._lists:
            made, self.kept = from_values(self.kept[:n]), self.kept[n:]
            self.parts.append(made)

    def part(self, k: int, start: int, end: int) -> Any:
        if self.large is not None:
            return Large(self.large[start:end], self._floats)
        return self.parts[k] if self._lists else from_values(self.kept[start:end])


def _is_large(name: str, value: Any) -> bool:
    if name in OF_A_TEXT:
        return False
    picture = hasattr(value, "mode") and hasattr(value, "tobytes")
    if name in IMAGE_LIKE or isinstance(value, (bytes, dict)) or picture:
        return True
    if isinstance(value, (list, tuple)):
        return bool(value) and (hasattr(value[0], "shape") or isinstance(value[0], (list, tuple)))
    return np.ndim(value) > 1


def _made(value: Any) -> tuple[str, int, bool, bytes, bytes | None]:
    """Kind, shape, whether it is or holds None, digest, and where it is of whole numbers the digest of these floats."""
    array = one_value(value)
    if isinstance(array, list):
        return kind_of_value(value), 0, value is None, column_digests(array)[0], None
    flat = Flat(array)
    own, floats = column_digests(array)[0], None
    if flat.kind == "whole" and flat.depth:
        floats = flat_digests(flat, np.float32)[0]
    return flat.kind, int(flat.shapes[0]), bool(len(flat.missing)), own, floats
