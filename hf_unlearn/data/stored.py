"""Columns as Arrow arrays; nested lists of numbers as flat ones."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def as_numpy(value: Any) -> Any:
    """A tensor as an array, on the CPU, without a copy where that can be; all else as it is."""
    if not hasattr(value, "detach"):
        return value
    value = value.detach().cpu()
    return (value.float() if "bfloat16" in str(value.dtype) else value).numpy()  # NumPy has no such numbers


def from_values(values: list) -> Any:
    """An Arrow array of Python values, arrays or tensors; these themselves where they have no common type."""
    if any(hasattr(value, "mode") and hasattr(value, "tobytes") for value in values):
        return values  # pictures
    values = [as_numpy(value) for value in values]
    found = arrow_of(values)
    return pythons_own(values) if found is None else found


def arrow_of(values: list) -> pa.Array | None:
    """An Arrow array of the values, or of what they are as Python's own; None where they have no common type."""
    for form in (list, pythons_own):
        with suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
            return pa.array(form(values))
    return None


def pythons_own(values: list) -> list:
    """Arrays and NumPy's numbers as lists and numbers of Python's own; all else as it is."""
    return [value.tolist() if hasattr(value, "tolist") else value for value in values]


def one_value(value: Any) -> Any:
    """[`from_values`] of one value; numbers of an array of any shape do not become Python's."""
    value = as_numpy(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iufb" or not value.size:
        return from_values([value])
    array = pa.array(value.reshape(-1))
    for size in reversed(value.shape):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def plain_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece; of an extension type, what it is made of."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return getattr(array, "storage", array)


class Flat:
    """
    A column of numbers or of nested lists of them, laid flat.

    Attributes:
        values: Arrow array (M,) of the innermost values; of a list of Python values, None.
        owner: (M,) the row of each value.
        lengths: (N,) values of each row; of outermost lists, their length.
        depth: how many lists lie around a value.
        missing: (k,) rows that are None or hold a None.
        shapes: (N,) a hash of the lengths of all lists of a row, equal for rows of one shape.
    """

    def __init__(self, array: pa.Array):
        self.n = len(array)
        owner = np.arange(self.n)
        self.depth, self.lengths = 0, np.ones(self.n, np.int64)
        missing = [owner[_nulls(array)]]
        self.shapes = np.zeros(self.n, np.uint64)
        while _is_list(array.type):
            sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
            if self.depth == 0:
                self.lengths = sizes
            mixed = (sizes.astype(np.uint64) + np.uint64(self.depth + 1)) * np.uint64(0x9E3779B97F4A7C15)
            if self.depth == 0:
                self.shapes += mixed
            else:
                np.add.at(self.shapes, owner, mixed)
            owner, array = np.repeat(owner, sizes), array.flatten()
            missing.append(owner[_nulls(array)])
            self.depth += 1
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        self.values, self.owner, self.missing = array, owner, np.unique(np.concatenate(missing))

    @property
    def kind(self) -> str:
        """ "whole", "float", "bool", "text", "none" or "other"."""
        kind = self.values.type
        if pa.types.is_integer(kind):
            return "whole"
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return "float"
        if pa.types.is_boolean(kind):
            return "bool"
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return "text"
        return "none" if pa.types.is_null(kind) else "other"

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """`(values (M,), owner (M,))` without those that are None."""
        there = ~_nulls(self.values)
        return self.values.drop_null().to_numpy(zero_copy_only=False), self.owner[there]


def _nulls(array: pa.Array) -> np.ndarray:
    if not array.null_count:
        return np.zeros(len(array), bool)
    return array.is_null().to_numpy(zero_copy_only=False)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def kind_of_value(value: Any) -> str:
    """[`Flat.kind`] of one Python value, of a list that of its first odd element."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        kinds = [kind_of_value(inner) for inner in value]
        return next((kind for kind in kinds if kind != "whole"), "whole")
    if value is None:
        return "none"
    for kind, types in (("bool", bool), ("whole", int), ("float", float), ("text", str)):
        if isinstance(value, types):
            return kind
    return "other"
