"""Rows that are named by the values of columns, of several at once: customer 4711, and of the year 2020 or 2021."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..utils.checks import Wrong, gather, raise_problems, shown
from .columns import column_values, first_ids
from .split_checks import SHOWN, alone_or_several, as_values, is_missing

WHERE = "where"  # the way of a request by several columns, beside those that `split` takes for `by`


def one_way(by, column, values, fraction, where) -> tuple:
    """
    `(by, column, values)` of a request as [`hf_unlearn.split`] goes on with it: conditions on one column are those
    values of it.

    Raises:
        ArgumentError: if `where` is no mapping of columns to values, or stands beside another way to name rows.
    """
    if where is None:
        return by, column, values
    beside = {"by": by, "column": column, "values": values, "fraction": fraction}
    problems: list[str] = [
        Wrong(name, f"is {shown(value)}, but `where` says which rows. Give one of the two.")
        for name, value in beside.items()
        if value is not None
    ]
    if not isinstance(where, Mapping) or not where or not all(isinstance(name, str) for name in where):
        problems.append(Wrong("where", f"is {shown(where)}; it must be values by column, as {{'customer': 4711}}."))
        raise_problems(problems)
    problems += [
        Wrong("where", f"names no value for the column {name!r}: it is {shown(wanted)}.")
        for name, wanted in where.items()
        if not alone_or_several(wanted) or any(is_missing(value) for value in alone_or_several(wanted))
    ]
    raise_problems(problems)
    if len(where) > 1:
        return WHERE, None, words(where)
    ((name, wanted),) = where.items()
    return "column", name, wanted


def words(where: Mapping[str, Any]) -> str:
    """ "customer=4711, year=2020 or 2021"."""
    return ", ".join(f"{name}={' or '.join(map(str, alone_or_several(wanted)))}" for name, wanted in where.items())


def keys_of(dataset, where: Mapping[str, Any]) -> list[str | None]:
    """
    [`words`] for each row in which all columns have one of the values, None for the others.

    Raises:
        ArgumentError: if a column has none of its values, or no row has all of them.
    """
    masks = gather(*(lambda one=one: _holds(dataset, *one) for one in where.items()))
    found = np.logical_and.reduce(masks)
    if not found.any():
        raise_problems([_never_together(dataset, where, masks)])
    return [words(where) if one else None for one in found]


def _holds(dataset, column: str, wanted) -> np.ndarray:
    """(n,) bool: rows whose value of a column is one of those."""
    values = column_values(dataset, column)
    stored = set(as_values(wanted, values, dataset, column))
    return np.array([value in stored for value in values])


def _never_together(dataset, where: Mapping[str, Any], masks: list[np.ndarray]) -> str:
    """The problem of conditions that some rows fulfil each, and none all: what there is beside the others of them."""
    counts = [f"{mask.sum()} with {words({name: where[name]})}" for name, mask in zip(where, masks, strict=True)]
    said = f"No row has {words(where)} at once; there are {', '.join(counts)}."
    for place, name in enumerate(where):
        others = np.logical_and.reduce([mask for i, mask in enumerate(masks) if i != place])
        if others.any():
            rest = words({other: where[other] for other in where if other != name})
            values = column_values(dataset, name)
            there = sorted({str(_name(dataset, name, values[i])) for i in np.flatnonzero(others)})
            said += f" With {rest}, {name!r} is {first_ids(there, SHOWN)}."
    return said


def _name(dataset, column: str, value) -> Any:
    """A class number as its name."""
    names = getattr((getattr(dataset, "features", None) or {}).get(column), "names", None)
    return names[value] if names and not is_missing(value) else value
