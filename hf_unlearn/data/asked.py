"""What a request asked for, as data that a score card keeps: not the rows, but what they were named by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .columns import column_values
from .split_checks import is_missing

MOST_VALUES = 20  # named ones that are kept


def asked(
    dataset,
    forget,
    *,
    by: str,
    column: str | None = None,
    values: Sequence | None = None,
    fraction: float | None = None,
) -> dict[str, Any]:
    """
    The arguments of [`hf_unlearn.split`] in a few words.

    Args:
        dataset, forget: all rows that were split, and those that came out as the forget rows.
        by, column, values, fraction: as [`hf_unlearn.split`] takes them; `column` is None for "random" and the `id`.

    Returns:
        `by`, `column`, `fraction` (or None), `count` (different values that were asked for; None for "random") and
        `values`: text, at most MOST_VALUES. Values that were drawn are not listed, since they may be people's names;
        classes are, by their names.
    """
    column = "id" if by == "id" and column is None else column
    found: dict[str, Any] = {"by": by, "column": column, "fraction": fraction, "count": None, "values": []}
    if by == "random":
        return found
    given = [values] if isinstance(values, (str, int)) else values
    if given is None:
        found["count"] = max(1, round(fraction * len({v for v in column_values(dataset, column) if not is_missing(v)})))
        # Copies of forget rows were moved to them, perhaps with other values: those that were drawn have more rows.
        drawn = [value for value, _ in Counter(column_values(forget, column)).most_common(found["count"])]
        given = sorted(drawn) if by == "class" else []
    else:
        given = list(dict.fromkeys(given))
        found["count"] = len(given)
    found["values"] = [_name(dataset, column, value) for value in given[:MOST_VALUES]]
    return found


def _name(dataset, column: str, value: Any) -> str:
    """A class number as its name."""
    feature = (getattr(dataset, "features", None) or {}).get(column)
    names = getattr(feature, "names", None)
    number = value if isinstance(value, int) else int(value) if str(value).isdecimal() else None
    if names and value not in names and number is not None and 0 <= number < len(names):
        return str(names[number])
    return str(value)
