"""Rows that an earlier request has taken out of a model: they may not come back with the next one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ..utils.checks import raise_problems
from .columns import first_ids, row_ids
from .duplicates import Content
from .keys import as_bytes, rows_with
from .split_checks import alone_or_several

logger = logging.getLogger(__name__)


def deleted_rows(dataset, deleted: Sequence | str | int, content: Content) -> np.ndarray:
    """
    (n,) bool: the rows with these ids, and rows of the same content, which a warning names.

    Args:
        deleted: ids, or a single one.
        content: what each row says.

    Raises:
        ArgumentError: with ids that no row has.
    """
    named = alone_or_several(deleted)
    if not named:
        return np.zeros(len(dataset), bool)
    ids = [str(i) for i in row_ids(dataset)]
    wanted, there = set(map(str, named)), set(ids)
    if unknown := [i for i in map(str, named) if i not in there]:
        raise_problems([f"`deleted` has ids that no row has: {first_ids(unknown)}; ids are such as {first_ids(ids)}."])
    gone = np.array([i in wanted for i in ids])
    near = np.flatnonzero(rows_with(content.keys, content.keys[gone]))
    known = {key for keys in as_bytes(content.keys[gone]) for key in keys}
    twins = np.zeros(len(gone), bool)
    twins[near] = [not known.isdisjoint(keys) for keys in as_bytes(content.keys[near])]
    twins &= ~gone
    if twins.any():
        shown = first_ids([ids[i] for i in np.flatnonzero(twins)])
        logger.warning("%d row(s) have the content of a deleted row and are left out, too, ids %s.", twins.sum(), shown)
    return gone | twins


def emptied(keys: list, gone: np.ndarray, kept: np.ndarray) -> set:
    """
    The values of which deleted rows leave none to forget.

    Args:
        keys: the value of each row.
        gone, kept: (n,) bool: rows that are deleted, and rows that stay unseen.
    """
    return {keys[i] for i in np.flatnonzero(gone)} - {keys[i] for i in np.flatnonzero(~gone & ~kept)}


def deleted_already(values, asked: Sequence, empty: set) -> list[str]:
    """
    The problem of values by name whose rows earlier requests have deleted.

    Args:
        values: as the caller gave them, or None where they were drawn; `asked`: the same as the column has them.
        empty: as of [`emptied`].
    """
    if values is None:
        return []
    pairs = zip(alone_or_several(values), asked, strict=True)
    names = list(dict.fromkeys(str(name) for name, key in pairs if key in empty))
    return names and [
        f"`values` asks for {first_ids(names)}, whose rows are all deleted already (`deleted`). Leave that out."
    ]
