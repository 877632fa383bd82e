"""Rows of a split: some of them, evenly spaced ones, and the hashes that name their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST_ROWS = 10_000  # of a split that are measured by default: a share is then within a percent of that of all rows


def rows_at(dataset: Sequence[Mapping[str, Any]], indices: Iterable[int]) -> list[Mapping[str, Any]]:
    """The rows at these indices, of a `datasets.Dataset` by one read."""
    if hasattr(dataset, "__getitems__"):
        return dataset.__getitems__([int(i) for i in indices])
    return [dataset[int(i)] for i in indices]


def evenly(rows: Sequence, most: int) -> Sequence:
    """At most `most` rows, evenly spaced; of a `datasets.Dataset` again one."""
    if len(rows) <= most:
        return rows
    places = [i * (len(rows) - 1) // max(1, most - 1) for i in range(most)]
    return rows.select(places) if hasattr(rows, "select") else [rows[i] for i in places]


def at_most(
    splits: Mapping[str, Any], most: int | None, tables: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, int]]:
    """
    `(the splits, of larger ones evenly spaced rows; split -> rows that it has, where some are left out)`. A split stays
    whole that another one answers or asks again by row numbers, or that one of the saved tables is of.
    """
    found, of = dict(splits), {}
    for name, rows in splits.items():
        beside = any(other.startswith(f"{name}_") or name.startswith(f"{other}_") for other in splits)
        whole = any(name in own and getattr(own[name], "num_rows", None) == len(rows) for own in tables)
        if most is not None and len(rows) > most and not beside and not whole:
            found[name], of[name] = evenly(rows, most), len(rows)
    return found, of


def row_hashes(dataset: Sequence[Mapping[str, Any]]) -> list[str]:
    """
    Content hash (32 hex characters) of each row's inputs and labels, the same for lists, arrays and tensors; of all
    columns but `id` where none has an input's usual name.
    """
    from ..data.columns import INPUT_COLUMNS
    from ..data.duplicates import fingerprints

    names = getattr(dataset, "column_names", None) or list(dataset[0])
    inputs = [name for name in INPUT_COLUMNS if name in names]
    if not set(inputs) - {"labels"}:  # inputs by other names
        inputs = [name for name in names if name != "id"]
    return [found.hex() for found in fingerprints(dataset, inputs)]


def data_hash(hashes: Sequence[str]) -> str:
    """Content hash (32 hex characters) of rows in their order, from their hashes."""
    return hashlib.blake2b("\n".join(hashes).encode(), digest_size=16).hexdigest()
