"""Arrays that users hand to a formula, checked: one number per row, or a list of numbers per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SHOWN = 5  # rows named in an error


def vector(values: Any, name: str) -> np.ndarray:
    """(N,) finite numbers, N at least 1."""
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{name}` is not a list of numbers: expected one number per row.") from None
    if found.ndim != 1 or not len(found):
        raise ValueError(f"`{name}` has the shape {found.shape}: expected (N,), one number per row, N at least 1.")
    if not np.isfinite(found).all():
        raise ValueError(f"`{name}` is not finite in {rows_named(np.flatnonzero(~np.isfinite(found)))}.")
    return found


def ragged(lists: Any, n_rows: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Lists of finite numbers, one for each of `n_rows` rows: all values in one line, and the row of each."""
    if len(lists) != n_rows:
        raise ValueError(f"`{name}` has {len(lists)} rows: expected {n_rows}, as many as there are right answers.")
    try:
        rows = [np.asarray(values, float) for values in lists]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"`{name}` is not a list of lists of numbers: expected one list of losses per row.") from None
    for what, of in (("is not a list", lambda r: r.ndim != 1), ("is empty", lambda r: not len(r))):
        wrong = [i for i, row in enumerate(rows) if of(row)]
        if wrong:
            raise ValueError(f"`{name}` {what} in {rows_named(wrong)}: expected one loss for each wrong answer.")
    wrong = [i for i, row in enumerate(rows) if not np.isfinite(row).all()]
    if wrong:
        raise ValueError(f"`{name}` is not finite in {rows_named(wrong)}.")
    return np.concatenate(rows), np.repeat(np.arange(n_rows), [len(row) for row in rows])


def rows_named(indices: Sequence[int] | np.ndarray) -> str:
    """For messages: the first few rows."""
    shown = ", ".join(str(i) for i in indices[:SHOWN])
    return f"row(s) {shown}{' and more' if len(indices) > SHOWN else ''}"
