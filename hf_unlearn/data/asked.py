"""What a request asked for, as data that a score card keeps: not the rows, but what they were named by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .columns import column_values
from .label_lists import holds_lists, inner_feature, labels_of_rows
from .split_checks import alone_or_several, is_missing
from .where import WHERE, one_way, words

MOST_VALUES = 20  # named ones that are kept


def asked(
    dataset,
    forget,
    *,
    by: str | None = None,
    column: str | None = None,
    values: Sequence | None = None,
    fraction: float | None = None,
    where: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    The arguments of [`hf_unlearn.split`] in a few words.

    Args:
        dataset, forget: all rows that were split, and those that came out as the forget rows.
        by, column, values, fraction, where: as [`hf_unlearn.split`] takes them; `column` is None for "random" and the
            `id`.

    Returns:
        `by`, `column`, `fraction` (or None), `count` (different values that were asked for; None for "random") and
        `values`: text, at most MOST_VALUES. Of several columns at once `by` is "where", `column` names all of them, and
        `values` are such as "year=2020"; of one column it is "column". Values that were drawn are not listed, since
        they may be people's names; classes are, by their names.
    """
    by, column, values = one_way(by, column, values, fraction, where)
    if by == WHERE:
        each = {
            name: [_name(dataset, name, value) for value in dict.fromkeys(alone_or_several(wanted))]
            for name, wanted in where.items()
        }
        count, shown = sum(map(len, each.values())), [words({name: wanted}) for name, wanted in each.items()]
        column = " and ".join(where)
        return {"by": by, "column": column, "fraction": None, "count": count, "values": shown[:MOST_VALUES]}
    column = "id" if by == "id" and column is None else column
    found: dict[str, Any] = {"by": by, "column": column, "fraction": fraction, "count": None, "values": []}
    if by == "random":
        return found
    given = None if values is None else alone_or_several(values)
    if given is None:
        found["count"] = max(1, round(fraction * len({v for v in _values(dataset, by, column) if not is_missing(v)})))
        # Copies of forget rows were moved to them, perhaps with other values: those that were drawn have more rows.
        drawn = [value for value, _ in Counter(_values(forget, by, column)).most_common(found["count"])]
        given = sorted(drawn) if by == "class" else []
    else:
        given = list(dict.fromkeys(given))
        found["count"] = len(given)
    found["values"] = [_name(dataset, column, value) for value in given[:MOST_VALUES]]
    return found


def _values(rows, by: str, column: str) -> list:
    several = by == "class" and holds_lists(rows, column)
    return labels_of_rows(rows, column)[0] if several else column_values(rows, column)


def _name(dataset, column: str, value: Any) -> str:
    """A class number as its name."""
    names = getattr(inner_feature(dataset, column), "names", None)
    number = value if isinstance(value, int) else int(value) if str(value).isdecimal() else None
    if names and value not in names and number is not None and 0 <= number < len(names):
        return str(names[number])
    return str(value)
